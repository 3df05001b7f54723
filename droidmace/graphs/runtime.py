"""The same model on another runtime."""

from __future__ import annotations

from dataclasses import replace

from droidmace.formats.netdef import Argument, DeviceType, MultiNetDef, NetDef

_KEY = "runtime_type"


def on_runtime(model: MultiNetDef, runtime: DeviceType) -> MultiNetDef:
    """``model`` with every net and op on ``runtime``; the weights stay what they are.

    Models that MACE's converter makes for the CPU and for the GPU differ in the nets' argument
    ``runtime_type`` only (``tools/python/transform/transformer.py``); an op's own ``device_type``,
    which older releases write, goes before it and is left out here.
    """
    return replace(model, nets=tuple(_on(net, runtime) for net in model.nets))


def _on(net: NetDef, runtime: DeviceType) -> NetDef:
    argument = Argument(name=_KEY, i=int(runtime))
    others = tuple(one for one in net.args if one.name != _KEY)
    return replace(
        net,
        args=(*others, argument),
        ops=tuple(replace(op, device_type=None) for op in net.ops),
    )
