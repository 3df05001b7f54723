"""What ops with kernels of their own share where activations lie in buffers of a CPU driver.

A work-item of these kernels is a piece of work for a core, on vectors of channels; so a work-group
is one work-item, and a tuning run tries few sizes. Their header: ``kernels/buffer_wide.h``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import FusedActivation, unsupported
from droidmace.engine.fusion import has_residual
from droidmace.engine.opencl.local_size import one_item, round_up
from droidmace.engine.opencl.runtime import Bindable, Dispatch, Gpu, KernelArgument
from droidmace.engine.opencl.tensor import HostArray
from droidmace.engine.ops.base import GpuOp
from droidmace.formats.netdef import OperatorDef

LANES = 16
"""Channels in one vector of the kernels."""
_GROUP_SIZES = (1, 4, 16)
"""What a tuning run tries. Few: they differ little, and PoCL compiles a kernel for each."""
_BOUNDS = {"NOOP": (-np.inf, np.inf), "RELU": (0.0, np.inf)}


def activation_options(op: OperatorDef) -> tuple[tuple[str, ...], tuple[float, float]]:
    """Build options of the fused activation, and the two numbers it takes.

    None, RELU and RELUX are the same program with other bounds.
    """
    activation = FusedActivation.of(op)
    name = op.str_arg("activation", "NOOP")
    if name == "RELUX":
        return ("-DBOUNDED",), (0.0, activation.max_limit)
    if name in _BOUNDS:
        return ("-DBOUNDED",), _BOUNDS[name]
    return activation.options, activation.arguments


def pack_vector(values: HostArray, *, multiple: int) -> HostArray:
    """A value per channel, and zeros up to a multiple of ``multiple``."""
    packed = np.zeros(round_up(values.size, multiple), values.dtype)
    packed[: values.size] = values.reshape(-1)
    return packed


def bind_wide(
    gpu: Gpu,
    name: str,
    program: str,
    *,
    options: Sequence[str],
    arguments: Sequence[KernelArgument | Bindable],
    key: str,
    gws: tuple[int, int, int],
) -> Dispatch:
    """Bind a kernel whose work-items are large."""
    dispatch = gpu.bind(
        program, name, options=options, arguments=arguments, key=key, gws=gws, rule=one_item
    )
    most = min(gws[0], dispatch.kwg_size)
    dispatch.choices = [(size, 1, 1, 0) for size in _GROUP_SIZES if size <= most]
    return dispatch


def packed_bias(op: GpuOp, channels: int, multiple: int) -> tuple[cl.Buffer, ...]:
    """The bias of ``op``, if it has one, with zeros up to ``multiple`` values."""
    if len(op.op.inputs) - has_residual(op.op) < 3:
        return ()
    name = op.op.inputs[2]
    weights = op.context.weights
    count = weights.array(name).size
    if count != channels:
        raise unsupported(op.op, f"{name!r} has {count} values for {channels} channels")
    pack = functools.partial(pack_vector, multiple=multiple)
    return (weights.packed(name, f"vector of {multiple}", pack),)
