"""onnxruntime, as far as the reference run needs it: the only importer of that package here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import MissingExtraError, ModelError
from droidmace.validation.onnx_bytes import with_outputs

Dimensions = tuple[int | str | None, ...]

_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """What the model says of an input; a dimension that is no number is open."""

    name: str
    dimensions: Dimensions
    dtype: np.dtype[Any]


class OnnxSession:
    """A loaded ONNX model, on the CPU.

    ``threads``: of one inference. One by default: the phone's work, if it is an emulated one, and
    the preparation of samples want the others.
    """

    def __init__(self, model: Path, *, threads: int = 1) -> None:
        """Load ``model``.

        Raises ``MissingExtraError``, and ``ModelError`` for what onnxruntime does not load.
        """
        self._model = model
        self._runtime = _onnxruntime()
        self._threads = threads
        self._session = self._load(str(model))

    def need(self, outputs: Sequence[str]) -> None:
        """Make outputs of tensors that the model only computes on its way.

        Raises ``ModelError`` if it has no such tensor.
        """
        missing = [name for name in outputs if name not in self.outputs]
        if missing:
            self._session = self._load_with(missing)

    @property
    def version(self) -> str:
        """onnxruntime's version."""
        return str(self._runtime.__version__)

    @property
    def inputs(self) -> tuple[OnnxInput, ...]:
        """In the model's order."""
        return tuple(
            OnnxInput(item.name, tuple(item.shape), self._dtype(item.name, item.type))
            for item in self._session.get_inputs()
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names, in the model's order."""
        return tuple(item.name for item in self._session.get_outputs())

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """One inference. Raises ``ModelError``."""
        try:
            values = self._session.run(list(outputs), dict(inputs))
        except Exception as error:
            # onnxruntime's own exceptions have no common base class.
            raise ModelError(
                f"onnxruntime cannot run it: {error}", where=str(self._model)
            ) from error
        return [np.asarray(value) for value in values]

    def _load(self, model: str | bytes) -> Any:  # noqa: ANN401 - onnxruntime has no types
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that wait by turning a loop would take time from the phone's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if isinstance(model, bytes):
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self._model.parent)
            )
        try:
            return self._runtime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(
                f"onnxruntime cannot load it: {error}",
                where=str(self._model),
                hint="check model_file_path and its checksum",
            ) from error

    def _load_with(self, names: Sequence[str]) -> Any:  # noqa: ANN401
        try:
            return self._load(with_outputs(self._model.read_bytes(), names))
        except ModelError as error:
            raise ModelError(
                f"it has no tensor {', '.join(map(repr, names))}; its outputs are "
                f"{', '.join(map(repr, self.outputs))}",
                where=str(self._model),
                hint="check output_tensors in the deployment file",
                details=error.message,
            ) from error

    def _dtype(self, name: str, kind: str) -> np.dtype[Any]:
        dtype = _TYPES.get(kind)
        if dtype is None:
            raise ModelError(f"its input {name!r} is a {kind}", where=str(self._model))
        return dtype


def _onnxruntime() -> Any:  # noqa: ANN401 - onnxruntime is optional and has no types
    # Read when the library is loaded: without it, it writes an id of this computer and a database
    # into the user's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "reference", "the reference run") from error
    return onnxruntime
