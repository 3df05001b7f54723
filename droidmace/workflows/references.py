"""What the outputs of a validation are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from droidmace.config import ModelConfig
from droidmace.errors import ConfigError, InputError, MissingExtraError
from droidmace.formats.tensor_values import Values
from droidmace.validation.layouts import order_of_platform
from droidmace.validation.reference import Reference, ReferenceOutputs
from droidmace.validation.reference_cache import ReferenceCache
from droidmace.validation.store import OutputStore
from droidmace.validation.stored_outputs import StoredOutputs

ONNXRUNTIME = "reference"
CPU = "cpu"
NONE = "none"
_ONNX_ITSELF = ("onnx",)


@dataclass(frozen=True, slots=True)
class OwnOutputs:
    """Outputs that the phone has computed before, on another runtime."""

    store: OutputStore
    description: str
    identity: str

    def run(self, inputs: Mapping[str, NDArray[Any]], *, first: int = 0) -> dict[str, Values]:
        """Outputs (n, elements) of samples ``first`` and on; ``inputs`` say how many."""
        return self.store.read(first, len(next(iter(inputs.values()))))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A reference, or why there is none although nobody said that there should be none."""

    outputs: ReferenceOutputs | None
    missing: str = ""
    cache: ReferenceCache | None = None
    """Where outputs of earlier calls come from; its ``trouble`` is worth a word in the end."""


@contextmanager
def open_reference(
    model: ModelConfig, against: str | Path, *, asked_by: str, use_cache: bool
) -> Iterator[Chosen]:
    """The reference that ``against`` names, but for :data:`CPU`, which the phone has to compute.

    ``asked_by``: what asks for a comparison; without it, an ONNX model or an extra that is missing
    is told and no error. Raises ``ConfigError``, ``InputError``, ``MissingExtraError``,
    ``ModelError``.
    """
    if against in (CPU, NONE):
        yield Chosen(None)
    elif against == ONNXRUNTIME:
        with _onnxruntime(model, asked_by=asked_by, use_cache=use_cache) as chosen:
            yield chosen
    else:
        path = Path(against)
        if not path.is_file():
            raise InputError(
                f"no such file: {path}",
                where="--against",
                hint=f"give {CPU}, {ONNXRUNTIME}, {NONE}, or a file of outputs",
            )
        with _stored([path], model) as chosen:
            yield chosen


@contextmanager
def _onnxruntime(model: ModelConfig, *, asked_by: str, use_cache: bool) -> Iterator[Chosen]:
    """The original model in onnxruntime; else the outputs that the file names, if it does."""
    path = _onnx_file(model)
    stored = [tensor.validation_data for tensor in model.outputs]
    if path is None:
        if all(file is not None for file in stored):
            with _stored([file for file in stored if file is not None], model) as chosen:
                yield chosen
            return
        why = f"there is no ONNX model of {model.name}: {model.model_file}"
        if asked_by:
            raise ConfigError(
                f"{asked_by} asks for a comparison, and {why}",
                hint="name one in model_file_path, put the exported .onnx beside the original, or "
                f"give --against {CPU}, a file of outputs, or {NONE}",
            )
        yield Chosen(None, f"no reference: {why}")
        return
    with ExitStack() as stack:
        cache = stack.enter_context(ReferenceCache()) if use_cache else None
        try:
            order = order_of_platform(model.platform)
            reference = Reference.open(path, model.inputs, model.outputs, order=order, cache=cache)
        except MissingExtraError as error:
            if asked_by:
                error.hint = (
                    f"{error.hint}; or give --against {CPU}, a file of outputs, or {NONE} "
                    f"({asked_by} asks for a comparison)"
                )
                raise
            yield Chosen(None, f"no reference: {error.message} ({error.hint})")
            return
        yield Chosen(reference, cache=cache)


@contextmanager
def _stored(files: Sequence[Path], model: ModelConfig) -> Iterator[Chosen]:
    order = order_of_platform(model.platform)
    with closing(StoredOutputs.open(files, model.outputs, order=order)) as stored:
        yield Chosen(stored)


def _onnx_file(model: ModelConfig) -> Path | None:
    """The model as ONNX: itself, or the export of the same name beside another platform's."""
    path = model.model_file
    if model.platform not in _ONNX_ITSELF:
        path = path.with_suffix(".onnx")
    return path if path.is_file() else None
