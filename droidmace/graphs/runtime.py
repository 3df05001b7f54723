"""The same model on another runtime."""

from __future__ import annotations

from dataclasses import replace

from droidmace.formats.netdef import Argument, DeviceType, MultiNetDef, NetDef

_KEY = "runtime_type"


def on_runtime(model: MultiNetDef, runtime: DeviceType) -> MultiNetDef:
    """``model`` with every net and op on ``runtime``; the weights stay what they are.

    Models that MACE's converter makes for the CPU and for the GPU differ in the nets' argument
    ``runtime_type`` and in how some ops are written (``tools/python/transform/transformer.py``);
    the CPU runs what is written for the GPU as well, except for LSTM cells, which abort. An op's
    own ``device_type``, which older releases write, goes before it and is left out here.
    """
    return replace(model, nets=tuple(_on(net, runtime) for net in model.nets))


def is_for_gpu(model: MultiNetDef) -> bool:
    """Whether anything of it was converted to run on a GPU."""
    gpu = int(DeviceType.GPU)
    return any(
        net.int_arg(_KEY) == gpu or any(op.device_type == gpu for op in net.ops)
        for net in model.nets
    )


def _on(net: NetDef, runtime: DeviceType) -> NetDef:
    argument = Argument(name=_KEY, i=int(runtime))
    others = tuple(one for one in net.args if one.name != _KEY)
    return replace(
        net,
        args=(*others, argument),
        ops=tuple(replace(op, device_type=None) for op in net.ops),
    )
