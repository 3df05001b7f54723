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

Images of a GPU are a case of their own, and what MACE has put on the CPU must be known for them;
its log tells. One that an op on the CPU reads must not be an output: MACE gives the copy for that
op and the image behind the output one name (``TransformedName`` in ``net_def_adapter.cc``). And
what lies in such a copy is lost to the copies of outputs, which come behind every reader: cut in
front of it (:func:`lain_in`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from droidmace.formats.netdef import (
    Argument,
    DataType,
    DeviceType,
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


def lies_in_its_input(op: OperatorDef) -> bool:
    """Whether an op may hand on its input's memory as its output."""
    return op.type in _LIE_IN_THEIR_INPUT


def lain_in(net: NetDef, tensor: str, on_cpu: Collection[str]) -> str:
    """The tensor whose values ops on the CPU only pass on as ``tensor``; itself, if none do."""
    makers = {name: op for op in net.ops for name in op.outputs}
    while (op := makers.get(tensor)) is not None and op.name in on_cpu and lies_in_its_input(op):
        tensor = op.inputs[0]
    return tensor


def at_risk(net: NetDef, runtime: DeviceType, on_cpu: Collection[str] = ()) -> tuple[str, ...]:
    """The outputs that may hold another tensor's values by the end of a run.

    ``on_cpu``: the ops of a GPU's net, by name, that MACE runs on the CPU.
    """
    return (*_overwritten(net, runtime, on_cpu), *_contested(net, runtime, on_cpu))


def held(model: MultiNetDef, runtime: DeviceType, on_cpu: Collection[str] = ()) -> MultiNetDef:
    """The same model with every output that it computes intact at the end.

    ``on_cpu`` as for :func:`at_risk`; it matters in images only, where outputs beside those on the
    CPU that lie in their input may still overwrite these.
    """
    net = only_net(model)
    overwritten = _overwritten(net, runtime, on_cpu)
    contested = _contested(net, runtime, on_cpu)
    if not overwritten and not contested:
        return model
    taken = {name for op in net.ops for name in (op.name, *op.outputs)}
    taken.update(tensor.name for tensor in net.tensors)
    stem = _STEM
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    ops = _with_twins(net.ops, contested, stem)
    readers: tuple[OperatorDef, ...] = ()
    if runtime is DeviceType.GPU and _lies_in(net, MemoryType.GPU_BUFFER) and not is_half(net):
        readers = tuple(_lying_in(name, f"{stem}{i}") for i, name in enumerate(overwritten))
    elif overwritten:
        rank = next(len(info.dims) for info in net.output_infos if info.name == overwritten[0])
        readers = (_looking_at(overwritten, stem, max(1, rank)),)
    return replace(model, nets=(replace(net, ops=(*ops, *readers)),))


def _lies_in(net: NetDef, memory: MemoryType) -> bool:
    return memory_type(net) is memory


def _in_images(net: NetDef, runtime: DeviceType) -> bool:
    return runtime is DeviceType.GPU and _lies_in(net, MemoryType.GPU_IMAGE)


def _overwritten(net: NetDef, runtime: DeviceType, on_cpu: Collection[str]) -> tuple[str, ...]:
    """The outputs whose memory the plan gives away."""
    read = {name for op in net.ops for name in op.inputs}
    lying = {name for op in net.ops if lies_in_its_input(op) for name in op.outputs}
    if len(net.ops) == 1:
        return ()
    names = [one.name for one in net.output_infos if one.name in read or one.name in lying]
    if _in_images(net, runtime):
        there = {name for op in net.ops if op.name in on_cpu for name in op.outputs}
        names = [name for name in names if name in there]
    return tuple(names)


def _contested(net: NetDef, runtime: DeviceType, on_cpu: Collection[str]) -> tuple[str, ...]:
    """The outputs in images that an op on the CPU reads."""
    if not _in_images(net, runtime):
        return ()
    read_there = {name for op in net.ops if op.name in on_cpu for name in op.inputs}
    images = {name for op in net.ops if op.name not in on_cpu for name in op.outputs}
    return tuple(one.name for one in net.output_infos if one.name in read_there & images)


def _with_twins(
    ops: Sequence[OperatorDef], contested: Collection[str], stem: str
) -> tuple[OperatorDef, ...]:
    """What makes ``contested`` twice: once for the other ops, once to be handed out."""
    inner = {name: f"{stem}in{i}" for i, name in enumerate(contested)}
    found: list[OperatorDef] = []
    for op in ops:
        inputs = tuple(inner.get(name, name) for name in op.inputs)
        outputs = tuple(inner.get(name, name) for name in op.outputs)
        found.append(replace(op, inputs=inputs, outputs=outputs))
        if outputs != op.outputs:
            name = f"{stem}twin{len(found)}"
            unread = (f"{name}_{i}" for i in range(len(op.outputs)))
            outputs = tuple(
                one if one in inner else other
                for one, other in zip(op.outputs, unread, strict=True)
            )
            found.append(replace(op, name=name, inputs=inputs, outputs=outputs))
    return tuple(found)


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
