"""What an app would ship of a bundle, for runs on a phone that shall be like the app's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from droidmace.bundle.reader import Bundle, read_bundle
from droidmace.errors import InputError, MaceRunOutputError
from droidmace.files import sha256_of_file
from droidmace.results import DeviceInfo, MaceRunResult
from droidmace.workflows.models import ModelFiles

_NOT_THE_GPU = re.compile(r"\((tm|r|c)\)|\br\d+p\d+\b|\bm[cp]\d+\b|(?<=\d)v\d+\b|[^a-z0-9]")
"""Marks, Mali's revision and cores, the revision in the kernel's name of an Adreno, blanks."""


@dataclass(frozen=True, slots=True)
class ShippedFiles:
    """A verified bundle, and those of its files that its verdict says to ship."""

    bundle: Bundle
    program: Path | None
    parameters: Path | None


def shipped_files(folder: Path, model_files: ModelFiles) -> ShippedFiles:
    """Read the bundle in ``folder``.

    Raises ``FormatError`` for a damaged bundle, ``InputError`` for one of another model or with
    nothing worth shipping.
    """
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    pairs = ((manifest.model_graph, model_files.graph), (manifest.model_data, model_files.data))
    for record, path in pairs:
        if record.sha256 != sha256_of_file(path):
            raise InputError(
                f"was made from another {path.name} than the deployment file's",
                where=str(folder),
                hint="give the model that was tuned, or tune this one",
            )
    shipped = manifest.worth_shipping
    if not shipped:
        raise InputError(
            f"holds nothing worth shipping: its verdict is {manifest.verdict.value}",
            where=str(folder),
            hint="leave --bundle out: an app would run without it",
        )
    program, parameters = (
        bundle.paths.folder / record.name if record is not None and record in shipped else None
        for record in (manifest.compiled_program, manifest.tuned_parameters)
    )
    return ShippedFiles(bundle, program, parameters)


def refuse_other_gpu(bundle: Bundle, device: DeviceInfo) -> None:
    """Refuse tuned parameters of another GPU: sizes of work-groups that this one may not run.

    A compiled program needs no check: MACE itself passes over one that does not fit. Raises
    ``InputError``.
    """
    manifest = bundle.manifest
    made_on = manifest.device
    if manifest.tuned_parameters not in manifest.worth_shipping or not (made_on.gpu and device.gpu):
        return
    if not same_gpu(made_on.gpu, device.gpu):
        raise InputError(
            f"was tuned for {made_on.gpu} ({made_on.model}, {made_on.soc}); this phone has "
            f"{device.gpu} ({device.model}, {device.soc})",
            where=str(bundle.paths.folder),
            hint="give a bundle that was tuned on such a phone, or leave --bundle out",
        )


def same_gpu(one: str, other: str) -> bool:
    """Whether two names mean one kind of GPU.

    ``tune`` notes what OpenCL calls it (``Adreno(TM) 640``, ``Mali-G78 r0p1``); a probe asks OpenGL
    (``Adreno (TM) 640``, ``Mali-G78``) or, where that is silent, the kernel (``Adreno640v2``).
    """
    return _NOT_THE_GPU.sub("", one.lower()) == _NOT_THE_GPU.sub("", other.lower())


def check_taken(*, program: bool, parameters: bool, first: MaceRunResult, serial: str) -> str:
    """Whether a first start, at VLOG 3, ran with what was shipped; a warning if not with all of it.

    Raises ``MaceRunOutputError`` where no kernel runs with the tuned parameters.
    """
    if parameters and not first.applied:
        raise MaceRunOutputError(
            "no kernel runs with the bundle's tuned parameters",
            where=serial,
            hint="does the model run on the GPU? 'droidmace inspect' on the bundle tells what it "
            "was made for",
        )
    sources = first.programs
    if not program or not sources.source:
        return ""
    total = len(sources.source) + len(sources.cache)
    return (
        f"{len(sources.source)} of {total} programs were built from source at the first start: the "
        "phone does not take all of the bundle's compiled program"
    )
