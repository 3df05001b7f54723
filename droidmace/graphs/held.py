"""Outputs that keep their memory until MACE hands them out.

MACE plans memory by who reads a tensor (``mace/core/net/allocate_opt_strategy.cc``): what is not
read any more gives its memory to a later op, whether it is an output or not. A tensor that nobody
reads keeps its own. So these outputs hold another tensor's values by the end of a run:

* those that other ops read as well, on the CPU, in fp32 buffers on a GPU, and where an op of a
  GPU's net falls back to the CPU. Other nets of GPUs end with a copy of each output, to a buffer or
  to fp32, which counts as a reader (``mace/core/net_def_adapter.cc``);
* those that lie in their input's memory, which the plan takes for free if nobody reads the output.

What reads them at the end must neither need memory of theirs nor go by a copy that was made for
another op before. (``Identity`` does not do: fp16_fp16 lacks it, and on a GPU it aborts.)
"""

from __future__ import annotations

from dataclasses import replace

from droidmace.formats.netdef import (
    Argument,
    DataType,
    MemoryType,
    MultiNetDef,
    NetDef,
    OperatorDef,
    OutputShape,
)
from droidmace.graphs.activations import only_net
from droidmace.graphs.variants import is_half, memory_type

_LIE_IN_THEIR_INPUT = frozenset({"ExpandDims", "NonlocalReshape", "Reshape", "Squeeze"})
"""Ops that call ``Tensor::ReuseTensorBuffer`` (``mace/ops``)."""
_STEM = "hold"
_FLOATS = Argument(name="T", i=int(DataType.DT_FLOAT))


def at_risk(net: NetDef) -> tuple[str, ...]:
    """The outputs that may hold another tensor's values by the end of a run."""
    read = {name for op in net.ops for name in op.inputs}
    lying = {name for op in net.ops if op.type in _LIE_IN_THEIR_INPUT for name in op.outputs}
    if len(net.ops) == 1:
        return ()
    return tuple(one.name for one in net.output_infos if one.name in read or one.name in lying)


def held(model: MultiNetDef) -> MultiNetDef:
    """The same model with every output that it computes intact at the end, on either runtime."""
    net = only_net(model)
    endangered = at_risk(net)
    if not endangered:
        return model
    taken = {name for op in net.ops for name in (op.name, *op.outputs)}
    taken.update(tensor.name for tensor in net.tensors)
    stem = _STEM
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    if memory_type(net) is MemoryType.GPU_BUFFER and not is_half(net):
        readers = tuple(_lying_in(name, f"{stem}{i}") for i, name in enumerate(endangered))
    else:
        rank = next(len(info.dims) for info in net.output_infos if info.name == endangered[0])
        readers = (_looking_at(endangered, stem, max(1, rank)),)
    return replace(model, nets=(replace(net, ops=(*net.ops, *readers)),))


def _looking_at(tensors: tuple[str, ...], name: str, rank: int) -> OperatorDef:
    """Reads the first one's shape, and no values; MACE has it for the CPU, whatever the type.

    A single op: after the first of several, what it has read would be free for copies that the next
    one needs. Memory of its own is of whole numbers, and so never that of floats.
    """
    return OperatorDef(
        type="Shape",
        name=name,
        inputs=tensors,
        outputs=(name,),
        output_shapes=(OutputShape((rank,)),),
        output_types=(DataType.DT_INT32,),
        args=(_FLOATS,),
    )


def _lying_in(tensor: str, name: str) -> OperatorDef:
    """The same memory under another name, on the runtime where it is: nothing is copied at all.

    Only so if it declares no shape; with one, MACE has it for the CPU alone
    (``mace/ops/reshape.cc``), where it would read a copy.
    """
    flat = Argument(name="dim", ints=(-1,))
    return OperatorDef(
        type="Reshape", name=name, inputs=(tensor,), outputs=(name,), args=(_FLOATS, flat)
    )
