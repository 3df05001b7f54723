"""MACE models: the graph (``MODEL.pb``) as values, and the weights (``MODEL.data``) it points into.

Schema: ``mace/proto/mace.proto`` (proto2) of XiaoMi/mace. Current MACE writes a ``MultiNetDef``,
old releases a bare ``NetDef``; both are read as a :class:`MultiNetDef`. Repeated fields have plural
names here (``OperatorDef.inputs`` is proto's ``input``).
"""
# ruff: noqa: RUF009 - the calls in these dataclasses declare fields

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

from droidmace.errors import FormatError
from droidmace.formats.message import (
    Kind,
    Message,
    optional,
    parse_message,
    repeated,
    serialize_message,
)
from droidmace.formats.protowire import WireType, decode_text, iter_fields


class DataType(IntEnum):
    """``mace.DataType``."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_UINT8 = 2
    DT_HALF = 3
    DT_INT32 = 4
    DT_FLOAT16 = 5
    DT_BFLOAT16 = 6
    DT_INT16 = 7
    DT_INT8 = 8
    DT_UINT16 = 9
    DT_UINT32 = 10
    DT_BOOL = 11


MAX_RANK = 16
"""Dimensions of a tensor; MACE's ops know at most six. More only cost time to multiply."""
ELEMENT_BYTES = {
    DataType.DT_FLOAT: 4,
    DataType.DT_UINT8: 1,
    DataType.DT_HALF: 2,
    DataType.DT_INT32: 4,
    DataType.DT_FLOAT16: 2,
    DataType.DT_BFLOAT16: 2,
    DataType.DT_INT16: 2,
    DataType.DT_INT8: 1,
    DataType.DT_UINT16: 2,
    DataType.DT_UINT32: 4,
    DataType.DT_BOOL: 1,
}
"""Bytes of one element in ``MODEL.data``."""


class DeviceType(IntEnum):
    """``mace.RuntimeType``: what an op, or a whole net (argument ``runtime_type``), runs on."""

    CPU = 0
    GPU = 2
    HEXAGON = 3
    HTA = 4
    APU = 5
    HTP = 6


class DataFormat(IntEnum):
    """How a tensor's axes lie (``mace.DataFormat``)."""

    NONE = 0
    NHWC = 1
    NCHW = 2
    HWIO = 100
    OIHW = 101
    HWOI = 102
    OHWI = 103
    AUTO = 1000


class MemoryType(IntEnum):
    """Where a GPU net keeps its tensors (argument ``opencl_mem_type``)."""

    CPU_BUFFER = 0
    GPU_BUFFER = 1
    GPU_IMAGE = 2


@dataclass(frozen=True, slots=True)
class ConstTensor(Message):
    """A constant: its shape, and where its elements lie in ``MODEL.data``.

    ``offset`` counts bytes from the net's ``data_offset``; ``data_size`` counts elements. Very old
    models carry the values themselves (``float_data``, ``int32_data``).
    """

    dims: tuple[int, ...] = repeated(1, Kind.INT64)
    data_type: DataType = optional(2, Kind.ENUM, DataType.DT_FLOAT, of=DataType)
    float_data: tuple[float, ...] = repeated(3, Kind.FLOAT, packed=True)
    int32_data: tuple[int, ...] = repeated(4, Kind.INT32, packed=True)
    name: str = optional(5, Kind.STRING, "")
    offset: int = optional(6, Kind.INT64, 0)
    data_size: int = optional(7, Kind.INT64, 0)
    scale: float = optional(8, Kind.FLOAT, 0.0)
    zero_point: int = optional(9, Kind.INT32, 0)
    minval: float = optional(10, Kind.FLOAT, 0.0)
    maxval: float = optional(11, Kind.FLOAT, 0.0)
    quantized: bool = optional(12, Kind.BOOL, default=False)
    node_id: int = optional(100, Kind.UINT32, 0)

    @property
    def size_bytes(self) -> int:
        """Bytes of its elements in ``MODEL.data``; 0 for a type that has no size."""
        return self.data_size * ELEMENT_BYTES.get(self.data_type, 0)


@dataclass(frozen=True, slots=True)
class Argument(Message):
    """A named argument of an op or a net; which of the values is set tells its type."""

    name: str = optional(1, Kind.STRING, "")
    f: float | None = optional(2, Kind.FLOAT, None)
    i: int | None = optional(3, Kind.INT64, None)
    s: bytes | None = optional(4, Kind.BYTES, None)
    floats: tuple[float, ...] = repeated(5, Kind.FLOAT)
    ints: tuple[int, ...] = repeated(6, Kind.INT64)

    @property
    def value(self) -> float | int | bytes | tuple[float, ...] | tuple[int, ...] | None:
        """The value that is set, or None."""
        for scalar in (self.i, self.f, self.s):
            if scalar is not None:
                return scalar
        return self.ints or self.floats or None


@dataclass(frozen=True, slots=True)
class NodeInput(Message):
    """A Hexagon node's input."""

    node_id: int = optional(1, Kind.INT32, 0)
    output_port: int = optional(2, Kind.INT32, 0)


@dataclass(frozen=True, slots=True)
class OutputShape(Message):
    """The shape of one of an op's outputs."""

    dims: tuple[int, ...] = repeated(1, Kind.INT64)


@dataclass(frozen=True, slots=True)
class QuantizeActivationInfo(Message):
    """How one of a quantized op's outputs is scaled."""

    scale: float = optional(1, Kind.FLOAT, 0.0)
    zero_point: int = optional(2, Kind.INT32, 0)
    minval: float = optional(3, Kind.FLOAT, 0.0)
    maxval: float = optional(4, Kind.FLOAT, 0.0)


class _HasArguments:
    """Typed look-ups among ``args``; as in MACE the first of a name counts."""

    __slots__ = ()
    args: tuple[Argument, ...]

    def arg(self, name: str) -> Argument | None:
        """The argument called ``name``, or None."""
        return next((argument for argument in self.args if argument.name == name), None)

    def int_arg(self, name: str, default: int = 0) -> int:
        """An integer argument; 0 when it is there but holds no integer, as protobuf reads it."""
        found = self.arg(name)
        return default if found is None else found.i or 0

    def float_arg(self, name: str, default: float = 0.0) -> float:
        """A float argument."""
        found = self.arg(name)
        return default if found is None else found.f or 0.0

    def str_arg(self, name: str, default: str = "") -> str:
        """A text argument."""
        found = self.arg(name)
        return default if found is None else decode_text(found.s or b"")

    def ints_arg(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """A list of integers."""
        found = self.arg(name)
        return default if found is None else found.ints

    def floats_arg(self, name: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """A list of floats."""
        found = self.arg(name)
        return default if found is None else found.floats


@dataclass(frozen=True, slots=True)
class OperatorDef(_HasArguments, Message):
    """One op: its type, the tensors it reads and writes, its arguments.

    ``device_type`` is None when the file leaves it to the net's ``runtime_type``.
    """

    inputs: tuple[str, ...] = repeated(1, Kind.STRING)
    outputs: tuple[str, ...] = repeated(2, Kind.STRING)
    name: str = optional(3, Kind.STRING, "")
    type: str = optional(4, Kind.STRING, "")
    device_type: int | None = optional(5, Kind.INT32, None)
    args: tuple[Argument, ...] = repeated(6, Kind.MESSAGE, of=Argument)
    output_shapes: tuple[OutputShape, ...] = repeated(7, Kind.MESSAGE, of=OutputShape)
    output_types: tuple[DataType, ...] = repeated(8, Kind.ENUM, of=DataType)
    quantize_infos: tuple[QuantizeActivationInfo, ...] = repeated(
        9, Kind.MESSAGE, of=QuantizeActivationInfo
    )
    mem_ids: tuple[int, ...] = repeated(10, Kind.INT32)
    node_id: int = optional(100, Kind.UINT32, 0)
    op_id: int = optional(101, Kind.UINT32, 0)
    padding: int = optional(102, Kind.UINT32, 0)
    node_inputs: tuple[NodeInput, ...] = repeated(103, Kind.MESSAGE, of=NodeInput)
    out_max_byte_sizes: tuple[int, ...] = repeated(104, Kind.INT32)


@dataclass(frozen=True, slots=True)
class InputOutputInfo(Message):
    """An input or output of a net. ``data_format`` is a number of :class:`DataFormat`."""

    name: str = optional(1, Kind.STRING, "")
    node_id: int = optional(2, Kind.INT32, 0)
    dims: tuple[int, ...] = repeated(3, Kind.INT32)
    max_byte_size: int = optional(4, Kind.INT32, 0)
    data_type: DataType = optional(5, Kind.ENUM, DataType.DT_FLOAT, of=DataType)
    data_format: int = optional(6, Kind.INT32, int(DataFormat.NHWC))
    scale: float = optional(7, Kind.FLOAT, 0.0)
    zero_point: int = optional(8, Kind.INT32, 0)
    alias: str = optional(100, Kind.STRING, "")


@dataclass(frozen=True, slots=True)
class NetDef(_HasArguments, Message):
    """One net: its ops in order, its arguments, its constants.

    Its weights are ``MODEL.data[data_offset:data_offset + data_size]``, in bytes; a ``data_size``
    of 0 means up to the end (models from before there were several nets).
    """

    ops: tuple[OperatorDef, ...] = repeated(1, Kind.MESSAGE, of=OperatorDef)
    args: tuple[Argument, ...] = repeated(2, Kind.MESSAGE, of=Argument)
    tensors: tuple[ConstTensor, ...] = repeated(3, Kind.MESSAGE, of=ConstTensor)
    data_type: DataType = optional(4, Kind.ENUM, DataType.DT_FLOAT, of=DataType)
    name: str = optional(5, Kind.STRING, "")
    data_offset: int = optional(6, Kind.INT32, 0)
    data_size: int = optional(7, Kind.INT32, 0)
    infer_order: int = optional(8, Kind.INT32, 0)
    input_infos: tuple[InputOutputInfo, ...] = repeated(100, Kind.MESSAGE, of=InputOutputInfo)
    output_infos: tuple[InputOutputInfo, ...] = repeated(101, Kind.MESSAGE, of=InputOutputInfo)

    def tensor(self, name: str) -> ConstTensor | None:
        """The constant called ``name``, or None."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


@dataclass(frozen=True, slots=True)
class MultiNetDef(Message):
    """A whole model: one or more nets, and the tensors that go in and out.

    ``is_bare_net`` remembers that the file holds a single ``NetDef`` without this wrapper.
    """

    version_code: int = optional(1, Kind.INT32, 1)
    name: str = optional(2, Kind.STRING, "")
    nets: tuple[NetDef, ...] = repeated(3, Kind.MESSAGE, of=NetDef)
    input_tensors: tuple[str, ...] = repeated(100, Kind.STRING)
    output_tensors: tuple[str, ...] = repeated(101, Kind.STRING)
    is_bare_net: bool = field(default=False, kw_only=True)


def is_bare_net(data: bytes) -> bool:
    """Whether a graph file holds a ``NetDef`` rather than a ``MultiNetDef``.

    Field 1 tells: a net's ops are length-delimited, a model's version is a varint.
    Raises ``FormatError`` if the bytes are not a protobuf message.
    """
    return any(
        found.number == 1 and found.wire_type is WireType.LENGTH_DELIMITED
        for found in iter_fields(data)
    )


def parse_model(data: bytes) -> MultiNetDef:
    """Read a graph file: a ``MultiNetDef``, or a bare ``NetDef`` as the only net of one.

    Raises ``FormatError`` with the byte offset when it is neither, is cut off, or holds no op.
    """
    if not data:
        raise FormatError("the model file is empty", offset=0)
    if is_bare_net(data):
        net = parse_message(NetDef, data)
        model = MultiNetDef(
            nets=(net,),
            input_tensors=tuple(info.name for info in net.input_infos),
            output_tensors=tuple(info.name for info in net.output_infos),
            is_bare_net=True,
        )
    else:
        model = parse_message(MultiNetDef, data)
    if not model.nets:
        raise FormatError("this is not a MACE model: it holds no net", offset=0)
    for net in model.nets:
        for op in net.ops:
            if not op.type:
                raise FormatError(
                    f"op {op.name!r} of net {net.name!r} has no type",
                    offset=op.origin.offset if op.origin else None,
                )
        if not net.ops:
            raise FormatError(
                f"net {net.name!r} holds no op", offset=net.origin.offset if net.origin else None
            )
    return model


def serialize_model(model: MultiNetDef) -> bytes:
    """Write a graph file of the kind that was read; a new model as a ``MultiNetDef``.

    Raises ``ValueError`` when a value does not fit its field.
    """
    if not model.is_bare_net:
        return serialize_message(model)
    if len(model.nets) != 1:
        raise ValueError(f"a bare NetDef file holds one net, not {len(model.nets)}")
    return serialize_message(model.nets[0])


def read_weights(net: NetDef, data: bytes | memoryview, tensor: ConstTensor) -> memoryview:
    """The bytes of ``tensor``'s elements in ``data``, the whole content of ``MODEL.data``.

    Little endian, as MACE writes them; nothing is copied. Raises ``FormatError`` that names the
    tensor when its dimensions, its size and ``data`` do not agree.
    """
    check_weights(net, len(data), tensor)
    start = net.data_offset + tensor.offset
    return memoryview(data).cast("B")[start : start + tensor.size_bytes]


def check_weights(net: NetDef, data_bytes: int, tensor: ConstTensor) -> None:
    """Check that ``tensor`` lies within a ``MODEL.data`` of ``data_bytes`` bytes.

    Raises ``FormatError`` that names the tensor; its offset is one in ``MODEL.data``.
    """
    label = f"tensor {tensor.name!r} of net {net.name!r}"
    if len(tensor.dims) > MAX_RANK:
        raise FormatError(f"{label} has {len(tensor.dims)} dimensions, more than {MAX_RANK}")
    if any(size <= 0 for size in tensor.dims):
        raise FormatError(f"{label} has the shape {list(tensor.dims)}: every size must be positive")
    if tensor.data_type not in ELEMENT_BYTES:
        raise FormatError(f"{label} has the type {tensor.data_type.name}, which has no elements")
    elements = math.prod(tensor.dims)
    if elements != tensor.data_size:
        raise FormatError(
            f"{label} has {tensor.data_size} elements, but its shape {list(tensor.dims)}"
            f" needs {elements}"
        )
    if net.data_offset < 0 or tensor.offset < 0 or net.data_size < 0:
        raise FormatError(f"{label} lies at a negative offset")
    region_end = net.data_offset + net.data_size if net.data_size else data_bytes
    start = net.data_offset + tensor.offset
    end = start + tensor.size_bytes
    if end > min(region_end, data_bytes):
        raise FormatError(
            f"{label} needs bytes {start} to {end} of the weights, but they end at"
            f" {min(region_end, data_bytes)}",
            offset=start,
            hint="take the .data file that was converted together with this graph",
        )


def check_all_weights(model: MultiNetDef, data_bytes: int) -> None:
    """Check that every constant lies in a ``MODEL.data`` of ``data_bytes`` bytes, and that it is
    as long as the model says.

    Constants that carry their values are left out. Raises ``FormatError`` that names the tensor.
    """
    for net in model.nets:
        for tensor in net.tensors:
            if not (tensor.float_data or tensor.int32_data):
                check_weights(net, data_bytes, tensor)
    # MACE writes the nets' regions one after another and nothing else.
    sized = all(net.data_size for net in model.nets)
    end = max((net.data_offset + net.data_size for net in model.nets), default=0)
    if sized and end != data_bytes:
        raise FormatError(
            f"there are {data_bytes} bytes of weights, but the graph was made with {end}",
            offset=min(end, data_bytes),
            hint="take the .data file that was converted together with this graph",
        )
