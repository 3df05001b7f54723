"""The tensors that the command line describes, and the files that hold their values.

Source: ``ReadInputDataFromFile``, ``WriteOutputDataToFile`` and ``ParseShape`` in
``mace/tools/mace_run.cc``; transposing in ``mace/core/flow/base_flow.cc``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from droidmace.engine.attributes import Shape
from droidmace.engine.flags import Flags
from droidmace.engine.macelog import MaceLog, atoi
from droidmace.engine.net import Array

_MACE_RUN = "tools/mace_run.cc"
_MAX_ELEMENTS = 1 << 29
_FLOW = "core/flow/base_flow.cc"
# IDataType, for the words of the error
_TYPE_NUMBERS = {"float16": 6, "bfloat16": 7, "int16": 8, "uint8": 2}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as the user names it: ``shape`` lies in ``data_format``."""

    name: str
    shape: Shape
    data_type: str
    data_format: str

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def is_nchw_image(self) -> bool:
        """Whether its axes must be moved on the way in or out of the net."""
        return self.data_format == "NCHW" and len(self.shape) == 4


def split(text: str, separator: str) -> list[str]:
    """MACE's ``Split``: nothing for an empty text, and no last part after a separator."""
    parts = text.split(separator)
    if parts[-1] == "":
        parts.pop()
    return parts


def parse_shape(text: str) -> Shape:
    """Sizes by comma; what is not a number counts as 0."""
    return tuple(atoi(part) for part in split(text, ","))


def input_specs(flags: Flags) -> list[TensorSpec]:
    """The model's inputs. As many as there are shapes; names are checked by the caller."""
    return _specs(
        split(flags.input_node, ","),
        split(flags.input_shape, ":"),
        split(flags.input_data_type, ","),
        split(flags.input_data_format, ","),
    )


def output_specs(flags: Flags) -> list[TensorSpec]:
    """The model's outputs."""
    return _specs(
        split(flags.output_node, ","),
        split(flags.output_shape, ":"),
        split(flags.output_data_type, ","),
        split(flags.output_data_format, ","),
    )


def _specs(
    names: Sequence[str], shapes: Sequence[str], types: Sequence[str], formats: Sequence[str]
) -> list[TensorSpec]:
    """One spec for each name. MACE reads past the end of short lists; here the last counts on."""
    types, formats = types or [""], formats or [""]
    return [
        TensorSpec(
            name=name,
            shape=parse_shape(shape),
            data_type=types[min(i, len(types) - 1)],
            data_format=formats[min(i, len(formats) - 1)],
        )
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
    ]


def file_name_of(tensor: str) -> str:
    """A tensor's name in a file name: every other character becomes ``_``."""
    return re.sub(r"[^0-9A-Za-z]", "_", tensor)


def read_input(path: str, spec: TensorSpec, log: MaceLog) -> Array:
    """The values of one input, in ``spec``'s own shape; see :func:`load_input`.

    Aborts when the file cannot be opened.
    """
    try:
        return load_input(path, spec, log)
    except OSError:
        log.fatal(f"{_MACE_RUN}:202", "Open input file failed")


def load_input(path: str, spec: TensorSpec, log: MaceLog) -> Array:
    """The values of one input, in ``spec``'s own shape.

    A file that is too long is cut; of one that is too short the rest is 0 (undefined in MACE).
    Raises ``OSError``, and ``MemoryError`` for a shape that nothing can hold.
    """
    _check_size(spec)
    size_bytes = spec.elements * 4
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = _read_up_to(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    if spec.data_type in _TYPE_NUMBERS:
        number = _TYPE_NUMBERS[spec.data_type]
        log.fatal(f"{_MACE_RUN}:242", f"Input data type {number} is not supported.")
    kind = "<i4" if spec.data_type == "int32" else "<f4"
    values = np.frombuffer(data.ljust(size_bytes, b"\0"), kind)
    return values.astype(np.float32, copy=False).reshape(spec.shape)


def _read_up_to(descriptor: int, size_bytes: int) -> bytes:
    """So many bytes of a file, or all if it has fewer; large files come in pieces."""
    data = os.read(descriptor, size_bytes)
    while len(data) < size_bytes and (more := os.read(descriptor, size_bytes - len(data))):
        data += more
    return data


def output_buffer(spec: TensorSpec) -> Array:
    """Room for one output's values. Raises ``MemoryError`` for a shape that nothing can hold."""
    _check_size(spec)
    return np.zeros(spec.elements, np.float32)


def _check_size(spec: TensorSpec) -> None:
    if min(spec.shape, default=1) < 0 or spec.elements > _MAX_ELEMENTS:
        raise MemoryError(f"{spec.name}: {list(spec.shape)}")


def to_net(value: Array, spec: TensorSpec) -> Array:
    """``value`` as the net takes it: images NHWC, contiguous."""
    if spec.is_nchw_image:
        value = value.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(value)


def from_net(value: Array, spec: TensorSpec, log: MaceLog) -> Array:
    """The net's output in the user's layout, as long as the user's shape.

    Aborts when the net made more values than that; when it made fewer, the rest is 0.
    """
    if spec.is_nchw_image and value.ndim == 4:
        value = value.transpose(0, 3, 1, 2)
    if value.size > spec.elements:
        log.fatal(
            f"{_FLOW}:172",
            "Check failed: output_size <= output->second.impl_->buffer_size Output size exceeds"
            f" buffer size: shape{list(value.shape)} vs buffer size {spec.elements}",
        )
    result = output_buffer(spec)
    result[: value.size] = value.ravel()
    return result


def write_output(path: str, value: Array, spec: TensorSpec, log: MaceLog, line: int) -> None:
    """Write one output as raw little-endian values; aborts when the file cannot be opened.

    MACE does not look at what becomes of the write: on a full disk the file is short, and the log
    says that it is done.
    """
    if spec.data_type in _TYPE_NUMBERS:
        number = _TYPE_NUMBERS[spec.data_type]
        log.fatal(f"{_MACE_RUN}:288", f"Output data type {number} is not supported.")
    kind = "<i4" if spec.data_type == "int32" else "<f4"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as exc:
        log.fatal(
            f"{_MACE_RUN}:293",
            f"Check failed: out_file.is_open() Open output file failed: {exc.strerror}",
        )
    try:
        left = memoryview(value.astype(kind, copy=False).tobytes())
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        pass  # as MACE does
    finally:
        os.close(descriptor)
    log.info(f"{_MACE_RUN}:{line}", f"Write output file {path} with size {value.size} done.")
