"""Ops that pick, stack and make values: Gather, Stack, Fill, Shape, OneHot, image patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import Window, unsupported
from droidmace.engine.cpu.base import FLOAT, INT, Array, CpuContext
from droidmace.engine.cpu.windows import padded, taps
from droidmace.engine.op_arguments import axis_of, pool_kernel
from droidmace.formats.netdef import OperatorDef


def gather(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Gather: the second input's indices along an axis of the first; negative ones count back."""
    x = inputs[0]
    axis = axis_of(op, op.int_arg("axis"), x.ndim)
    places = inputs[1].astype(np.int64)
    size = x.shape[axis]
    if places.size and not -size <= places.min() <= places.max() < size:
        raise unsupported(op, f"index {places.min()} or {places.max()} of {size}")
    return [x.take(places % size, axis)]


def stack(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Stack."""
    return [np.stack(inputs, axis_of(op, op.int_arg("axis"), inputs[0].ndim + 1))]


def unstack(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Unstack."""
    axis = axis_of(op, op.int_arg("axis"), inputs[0].ndim)
    return list(np.moveaxis(inputs[0], axis, 0))


def fill(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Fill: a tensor of the first input's shape with the second's value."""
    shape = tuple(int(size) for size in inputs[0])
    return [np.full(shape, inputs[1].reshape(-1)[0], inputs[1].dtype)]


def shape(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Shape, as int32."""
    return [np.array(inputs[0].shape, INT)]


def one_hot(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """OneHot along a new axis."""
    x = inputs[0]
    axis = axis_of(op, op.int_arg("axis", -1), x.ndim + 1)
    places = np.arange(op.int_arg("depth")).reshape(-1, *(1,) * (x.ndim - axis))
    hit = np.expand_dims(x, axis) == places
    on, off = op.float_arg("on_value", 1.0), op.float_arg("off_value")
    return [np.where(hit, FLOAT(on), FLOAT(off))]


def extract_image_patches(
    op: OperatorDef, inputs: Sequence[Array], context: CpuContext
) -> list[Array]:
    """ExtractImagePatches: what lies under each window, as channels."""
    source, out = padded(inputs[0], window := Window.of(op, pool_kernel(op)), 0.0)
    return [np.concatenate(taps(source, window, out), axis=3)]
