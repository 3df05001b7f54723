"""Two things about an ONNX file that need no ONNX package: what it consists of, one more output.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from droidmace.errors import FormatError, ModelError
from droidmace.files import sha256_of_file
from droidmace.formats.protowire import (
    WireField,
    WireType,
    encode_length_delimited,
    encode_text,
    iter_fields,
)

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_OUTPUT = 5, 12
_VALUE_INFO_NAME = 1
_TENSOR_EXTERNAL_DATA = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The model with more of its tensors as outputs.

    A message that stands twice in a file is merged, and its repeated fields are joined
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins): a second graph that has
    nothing but outputs adds them.
    """
    outputs = b"".join(
        encode_length_delimited(
            _GRAPH_OUTPUT, encode_length_delimited(_VALUE_INFO_NAME, encode_text(name))
        )
        for name in names
    )
    return model + encode_length_delimited(_MODEL_GRAPH, outputs)


def sha256_of_model(path: Path) -> str:
    """SHA-256 of an ONNX model with the files beside it that hold its weights.

    Raises ``ModelError`` if a file cannot be read; what is no ONNX model is hashed as it is.
    """
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data)
        for name in sorted(_external_files(data)):
            digest.update(name.encode())
            digest.update(sha256_of_file(path.parent / name).encode())
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror or error}",
            where=str(error.filename or path),
            hint="check model_file_path, and that the model's weight files lie beside it",
        ) from error
    return digest.hexdigest()


def _external_files(data: bytes) -> set[str]:
    """Names of the files that tensors of the graph refer to; none if this is no ONNX model."""
    names: set[str] = set()
    try:
        for graph in _messages(data, _MODEL_GRAPH, 0, len(data)):
            for tensor in _messages(data, _GRAPH_INITIALIZER, graph.start, graph.end):
                for entry in _messages(data, _TENSOR_EXTERNAL_DATA, tensor.start, tensor.end):
                    texts = {
                        field.number: data[field.start : field.end].decode("utf-8", "replace")
                        for field in iter_fields(data, entry.start, entry.end)
                    }
                    if texts.get(_ENTRY_KEY) == "location":
                        names.add(texts.get(_ENTRY_VALUE, ""))
    except FormatError:
        # onnxruntime says what is wrong with it, in the words of its makers.
        return set()
    return {name for name in names if _lies_beside(name)}


def _messages(data: bytes, number: int, start: int, end: int) -> Iterator[WireField]:
    return (
        field
        for field in iter_fields(data, start, end)
        if field.number == number and field.wire_type is WireType.LENGTH_DELIMITED
    )


def _lies_beside(name: str) -> bool:
    """Whether a name leads to a file in the model's folder or below it, and nowhere else."""
    path = Path(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts
