"""Look into a file: what it is and what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from droidmace.bundle.manifest import MANIFEST_NAME
from droidmace.errors import FormatError, InputError
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.detect import FileKind, detect, explain
from droidmace.formats.netdef import parse_model
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.workflows.inspect_bundle import inspect_bundle
from droidmace.workflows.inspect_model import inspect_model, inspect_onnx
from droidmace.workflows.inspect_stores import (
    inspect_compiled_program,
    inspect_tuned_parameters,
)
from droidmace.workflows.inspection import Fact, Inspection, read_bounded


def inspect_path(path: Path) -> Inspection:
    """Look into a compiled program, tuned parameters, a model, a bundle folder or its manifest.

    Raises ``FormatError`` (damaged, or none of these; ``where`` is the path) and ``InputError``
    (not there, not readable, not a regular file).
    """
    if _is_folder(path):
        if not (path / MANIFEST_NAME).is_file():
            raise InputError(
                f"this folder is not a bundle: it has no {MANIFEST_NAME}",
                where=str(path),
                hint="give a bundle folder as `droidmace tune` writes it, or a file",
            )
        return inspect_bundle(path)
    data = read_bounded(path)
    try:
        return _inspect(path, data)
    except FormatError as error:
        if error.where is None:
            error.where = str(path)
        raise


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # reading it says why


def _inspect(path: Path, data: bytes) -> Inspection:
    kind = detect(data)
    match kind:
        case FileKind.COMPILED_PROGRAM:
            found = inspect_compiled_program(CompiledProgram.parse(data), data)
        case FileKind.TUNED_PARAMETERS:
            found = inspect_tuned_parameters(TunedParameters.parse(data), data)
        case FileKind.MULTI_NET_DEF | FileKind.NET_DEF:
            found = inspect_model(path, parse_model(data))
        case FileKind.ONNX:
            found = inspect_onnx(data)
        case FileKind.BUNDLE_MANIFEST:
            if path.name != MANIFEST_NAME:
                raise FormatError(
                    "this is a bundle's manifest under another name",
                    hint=f"call it {MANIFEST_NAME} and keep the bundle's files beside it",
                )
            return inspect_bundle(path.parent)
        case FileKind.UNKNOWN:
            raise _explain(path, data)
    basics = (
        Fact("size_bytes", "size (bytes)", len(data)),
        Fact("sha256", "SHA-256", hashlib.sha256(data).hexdigest()),
    )
    return Inspection(str(path), kind.value, found.title, (*basics, *found.facts), found.sections)


def _explain(path: Path, data: bytes) -> FormatError:
    """Why a file is unknown. Weights are bare numbers: only their file's name tells them."""
    graph = path.with_suffix(".pb")
    if path.suffix == ".data" and graph.is_file():
        return FormatError(
            "by its name, this holds the weights of a MACE model; they say nothing by themselves",
            hint=f"inspect the graph, {graph}: its weights are checked with it",
        )
    return explain(data)
