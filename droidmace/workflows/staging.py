"""Bringing a phone what it lacks: program, libraries, model, samples."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from droidmace.devices.base import Device
from droidmace.devices.filesync import sync_files
from droidmace.macerun.invocation import Invocation, sample_file_name
from droidmace.workflows.answers import sample_suffixes
from droidmace.workflows.binaries import Binary
from droidmace.workflows.measure import Layout, Progress, make_folders
from droidmace.workflows.models import ModelFiles
from droidmace.workflows.samples import Samples


@dataclass(frozen=True, slots=True)
class Pushed:
    """How many bytes travelled, how many of them were the model's, and what was there already."""

    bytes: int
    model_bytes: int
    kept_files: int

    @property
    def text(self) -> str:
        """All of it in a few words."""
        return (
            f"{self.bytes:,} bytes (model: {self.model_bytes:,}), "
            f"{self.kept_files} files were there already"
        )


def push(
    device: Device,
    layout: Layout,
    binary: Binary,
    base: Invocation,
    model_files: ModelFiles,
    samples: Samples,
    progress: Progress,
) -> Pushed:
    """Make the phone hold all that the runs need; only what differs in content travels.

    ``base`` says where single runs look for their input (the first sample); batch runs find all
    samples in the folder of the dataset.
    """

    others: dict[str, Path | bytes] = {
        path: samples.inputs[0][tensor.name] for path, tensor in base.input_paths().items()
    }
    dataset = layout.dataset(samples.digest)
    suffixes = sample_suffixes(len(samples.inputs))
    for suffix, sample in zip(suffixes, samples.inputs, strict=True):
        for tensor in base.inputs:
            others[f"{dataset}/{sample_file_name(tensor, suffix)}"] = sample[tensor.name]
    return push_files(device, layout, binary, model_files, others, progress)


def push_files(
    device: Device,
    layout: Layout,
    binary: Binary,
    model_files: ModelFiles,
    others: Mapping[str, Path | bytes],
    progress: Progress,
) -> Pushed:
    """Make the phone hold program, libraries, model and ``others`` (path on the phone: content)."""
    model_paths = {
        _below_root(layout, layout.graph): model_files.graph,
        _below_root(layout, layout.weights): model_files.data,
    }
    files: dict[str, Path | bytes] = dict(model_paths)
    executables = []
    if binary.local is not None:
        files["mace_run"] = binary.local
        executables.append("mace_run")
    # The names of libraries come from the host's own folder.
    files.update({library.name: library for library in binary.libraries})
    files.update({_below_root(layout, path): content for path, content in others.items()})
    report = sync_files(
        device,
        files,
        layout.root,
        executables=executables,
        progress=lambda done, total: progress("bytes", done, total),
    )
    make_folders(device, layout.storage("shipped"))
    return Pushed(
        bytes=report.pushed_bytes,
        model_bytes=sum(
            path.stat().st_size for name, path in model_paths.items() if name in report.pushed_files
        ),
        kept_files=len(report.kept_files),
    )


def _below_root(layout: Layout, path: str) -> str:
    return posixpath.relpath(path, layout.root)
