"""The reference: the original ONNX model in onnxruntime on the host's CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import MissingExtraError, ModelError

_BATCH = 64


def reference_outputs(model: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """First output of ``model`` for ``inputs`` (n, …), as (n, values per sample).

    ``inputs`` lie as the ONNX model wants them (NCHW). A model whose batch dimension is open gets
    batches; one of fixed batch size 1 runs per sample, in one session.

    Raises ``MissingExtraError``, and ``ModelError`` for a model that onnxruntime does not load,
    that has several inputs, another fixed batch size, or does not take this shape.
    """
    session = _session(model)
    inputs_of_model = session.get_inputs()
    if len(inputs_of_model) != 1:
        raise ModelError(
            f"the reference run gives one input, the model has {len(inputs_of_model)}",
            where=str(model),
        )
    name = inputs_of_model[0].name
    declared = inputs_of_model[0].shape
    batch = _batch_size(declared, model)
    _check_shape(declared, inputs.shape, model)
    output = session.get_outputs()[0].name
    rows = []
    for begin in range(0, len(inputs), batch):
        piece = np.ascontiguousarray(inputs[begin : begin + batch], dtype=np.float32)
        try:
            (values,) = session.run([output], {name: piece})
        except Exception as error:
            # onnxruntime's own exceptions have no common base class.
            raise ModelError(f"onnxruntime cannot run it: {error}", where=str(model)) from error
        rows.append(np.asarray(values, dtype=np.float32).reshape(len(piece), -1))
    return np.concatenate(rows) if rows else np.empty((0, 0), dtype=np.float32)


def _session(model: Path) -> Any:  # noqa: ANN401 - onnxruntime is optional and has no types
    # Read when the library is loaded: without it, it writes an id of this computer and a database
    # into the user's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "reference", "the reference run") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot load it: {error}",
            where=str(model),
            hint="check model_file_path and its checksum",
        ) from error


def _batch_size(declared: list[int | str | None], model: Path) -> int:
    if not declared:
        raise ModelError("its input is a scalar, not a batch of samples", where=str(model))
    first = declared[0]
    if not isinstance(first, int):
        return _BATCH
    if first != 1:
        raise ModelError(
            f"its batch size is fixed to {first}",
            where=str(model),
            hint="export it with batch size 1 or an open batch dimension",
        )
    return 1


def _check_shape(declared: list[int | str | None], given: tuple[int, ...], model: Path) -> None:
    sample = declared[1:]
    fits = len(sample) == len(given) - 1 and all(
        not isinstance(size, int) or size == actual
        for size, actual in zip(sample, given[1:], strict=True)
    )
    if not fits:
        raise ModelError(
            f"its input is {declared}, the samples are {list(given[1:])}",
            where=str(model),
            hint="check the shape and data format of the model's input in the deployment file",
        )
