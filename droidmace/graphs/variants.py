"""The same net computed in another way: to see whether an error goes away with it.

Source of what is where: ``tools/python/transform/transformer.py`` (``add_winograd_arg``,
``add_opencl_informations``) and ``mace/ops/conv_2d.cc`` of XiaoMi/mace.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from droidmace.formats.netdef import (
    Argument,
    ConstTensor,
    DataType,
    MemoryType,
    MultiNetDef,
    NetDef,
    OperatorDef,
    read_weights,
)
from droidmace.graphs.activations import only_net

HALF_TYPES = frozenset({DataType.DT_HALF, DataType.DT_FLOAT16})
_ALIGNMENT = 4
"""MACE starts every tensor's weights at a multiple of this many bytes."""
_WINOGRAD = "wino_block_size"
_MEMORY = "opencl_mem_type"


def is_half(net: NetDef) -> bool:
    """Whether its activations are 16-bit floats on the GPU."""
    # An op of DT_FLOAT16 in a net of another type has such weights only (fp16_gather_weight).
    return net.data_type in HALF_TYPES or any(
        op.int_arg("T", int(DataType.DT_FLOAT)) == DataType.DT_HALF for op in net.ops
    )


def uses_winograd(op: OperatorDef) -> bool:
    """Whether a convolution may be computed by Winograd's method; MACE has the last word."""
    return bool(op.int_arg(_WINOGRAD))


def memory_type(net: NetDef) -> MemoryType:
    """How activations lie on the GPU."""
    buffer = net.int_arg(_MEMORY, int(MemoryType.GPU_IMAGE)) == MemoryType.GPU_BUFFER
    return MemoryType.GPU_BUFFER if buffer else MemoryType.GPU_IMAGE


def without_winograd(model: MultiNetDef) -> MultiNetDef:
    """With every convolution computed directly. The filters in the file are the same."""
    net = only_net(model)
    ops = tuple(
        replace(op, args=tuple(arg for arg in op.args if arg.name != _WINOGRAD)) for op in net.ops
    )
    return replace(model, nets=(replace(net, ops=ops),))


def in_memory(model: MultiNetDef, memory: MemoryType) -> MultiNetDef:
    """With activations as images, or in buffers."""
    net = only_net(model)
    others = tuple(arg for arg in net.args if arg.name != _MEMORY)
    args = (*others, Argument(name=_MEMORY, i=int(memory)))
    return replace(model, nets=(replace(net, args=args),))


def packed(
    model: MultiNetDef, data: bytes | memoryview, *, float32: bool = False
) -> tuple[MultiNetDef, bytes]:
    """The model with no more weights than it reads, and the content of its ``.data`` file.

    ``float32``: everything computed and stored in 32 bits. Raises ``FormatError`` for weights that
    do not fit.
    """
    net = only_net(model)
    read = {name for op in net.ops for name in op.inputs}
    weights = bytearray()
    tensors = []
    for tensor in net.tensors:
        if tensor.name not in read:
            continue
        widens = float32 and tensor.data_type in HALF_TYPES
        if tensor.float_data or tensor.int32_data:
            tensors.append(replace(tensor, data_type=DataType.DT_FLOAT) if widens else tensor)
            continue
        values = bytes(read_weights(net, data, tensor))
        if widens:
            values = np.frombuffer(values, "<f2").astype("<f4").tobytes()
        weights.extend(bytes(-len(weights) % _ALIGNMENT))
        tensors.append(_at(tensor, len(weights), widens=widens))
        weights.extend(values)
    ops = tuple(_op_in_float32(op) for op in net.ops) if float32 else net.ops
    changed = replace(
        net,
        ops=ops,
        tensors=tuple(tensors),
        data_type=DataType.DT_FLOAT if float32 else net.data_type,
        data_offset=0,
        data_size=len(weights),
    )
    return replace(model, nets=(changed,)), bytes(weights)


def _at(tensor: ConstTensor, offset: int, *, widens: bool) -> ConstTensor:
    kind = DataType.DT_FLOAT if widens else tensor.data_type
    return replace(tensor, offset=offset, data_type=kind)


def _op_is_half(op: OperatorDef) -> bool:
    return op.int_arg("T", int(DataType.DT_FLOAT)) in HALF_TYPES


def _op_in_float32(op: OperatorDef) -> OperatorDef:
    if not _op_is_half(op):
        return op
    kind = Argument(name="T", i=int(DataType.DT_FLOAT))
    return replace(op, args=tuple(kind if arg.name == "T" else arg for arg in op.args))
