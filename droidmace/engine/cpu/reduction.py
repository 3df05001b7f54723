"""Ops that draw many values together: Pooling, Reduce, Softmax, Cumsum, ArgMax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from droidmace.engine.attributes import Window, unsupported
from droidmace.engine.cpu.base import FLOAT, INT, Array, CpuContext, channel_axis
from droidmace.engine.cpu.windows import padded, taps
from droidmace.engine.op_arguments import axis_of, is_caffe_arg_max, pool_kernel, rounds_up
from droidmace.formats.netdef import OperatorDef

_POOL_AVERAGE, _POOL_MAX = 1, 2


def pooling(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Pooling: the largest value under a window, or the mean of those within the image."""
    x = inputs[0]
    window = Window.of(op, pool_kernel(op))
    ceil = rounds_up(op)
    kind = op.int_arg("pooling_type", _POOL_AVERAGE)
    if kind == _POOL_MAX:
        source, out = padded(x, window, float(np.finfo(FLOAT).min), ceil=ceil)
        first, *others = taps(source, window, out)
        y = np.array(first)
        for view in others:
            np.maximum(y, view, out=y)
        return [y]
    if kind != _POOL_AVERAGE:
        raise unsupported(op, f"pooling type {kind}")
    if window.kernel == x.shape[1:3] and window.padding in (None, (0, 0)):
        source, out = padded(x, window, 0.0, ceil=ceil)
        if tuple(out) == (1, 1) and source is x:
            return [x.mean(axis=(1, 2), keepdims=True, dtype=FLOAT)]
    source, out = padded(x, window, 0.0, ceil=ceil)
    counted, _ = padded(np.ones((1, *x.shape[1:3], 1), FLOAT), window, 0.0, ceil=ceil)
    y = _sum(taps(source, window, out))
    y /= _sum(taps(counted, window, out))
    return [y]


def _sum(views: Sequence[Array]) -> Array:
    total = np.array(views[0])
    for view in views[1:]:
        total += view
    return total


_REDUCTIONS: tuple[Callable[..., Array], ...] = (np.mean, np.min, np.max, np.prod, np.sum)


def reduce(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Reduce: mean, minimum, maximum, product or sum over some axes, or over all."""
    x = inputs[0]
    kind = op.int_arg("reduce_type")
    if not 0 <= kind < len(_REDUCTIONS):
        raise unsupported(op, f"reduce type {kind}")
    axes = {axis_of(op, axis, x.ndim) for axis in op.ints_arg("axis")} or set(range(x.ndim))
    keepdims = bool(op.int_arg("keepdims"))
    result = _REDUCTIONS[kind](x, axis=tuple(sorted(axes)), keepdims=keepdims)
    return [np.asarray(result).astype(x.dtype, copy=False)]


def softmax(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Softmax or its logarithm.

    Of an image whose axes MACE knows: over the channels if ``axis`` is 1, which is the default;
    else over the last axis as MACE holds it, which for NCHW is the width
    (``mace/ops/softmax.cc``). Of anything else: over the last axis.
    """
    x = inputs[0]
    axis = x.ndim - 1
    if x.ndim == 4:
        over_channels = op.int_arg("axis", 1) == 1
        if context.nchw:
            axis = 1 if over_channels else 3
        elif op.int_arg("has_data_format"):
            axis = 3 if over_channels else 2
    shifted = x - x.max(axis=axis, keepdims=True)
    exponents = np.exp(shifted)
    total = exponents.sum(axis=axis, keepdims=True)
    return [shifted - np.log(total) if op.int_arg("use_log") else exponents / total]


def cumsum(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Cumsum along an axis, from either end, with or without the value itself."""
    x = inputs[0]
    axis = axis_of(op, op.int_arg("axis"), x.ndim)
    turned = np.flip(x, axis) if op.int_arg("reverse") else x
    y = np.cumsum(turned, axis=axis, dtype=x.dtype)
    if op.int_arg("exclusive"):
        y = np.concatenate([np.zeros_like(y.take([0], axis)), y], axis=axis)
        y = y.take(range(x.shape[axis]), axis)
    return [np.flip(y, axis) if op.int_arg("reverse") else y]


def arg_max(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """ArgMax, or ArgMin: where along an axis the largest values are, as int32, or the values.

    Of equal values MACE takes the last for a maximum, the first for a minimum.
    """
    x = inputs[0]
    top = op.int_arg("top_k", 1)
    wants_values = bool(op.int_arg("out_val"))
    if is_caffe_arg_max(op):
        flat = x.reshape(x.shape[0], -1)
        places, values = _largest(flat, 1, top, smallest=bool(op.int_arg("argmin")))
        shape = (x.shape[0], 1, top, *(1,) * (x.ndim - 3))
        if wants_values:
            pairs = np.concatenate([places.reshape(shape), values.reshape(shape)], axis=1)
            return [pairs.astype(FLOAT)]
        return [places.reshape(shape)]
    axis = op.int_arg("axis") if len(inputs) < 2 else int(inputs[1].reshape(-1)[0])
    axis = axis_of(op, axis, x.ndim)
    places, values = _largest(x, axis, top, smallest=bool(op.int_arg("argmin")))
    y = values if wants_values else places
    return [y if op.int_arg("keepdims", 1) or top > 1 else y.squeeze(axis)]


def _largest(x: Array, axis: int, count: int, *, smallest: bool) -> tuple[Array, Array]:
    if smallest:
        order = np.argsort(x, axis=axis, kind="stable")
        places = order.take(range(count), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
        places = np.flip(order, axis).take(range(count), axis)
    return places.astype(INT), np.take_along_axis(x, places, axis)


def sqr_diff_mean(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """SqrDiffMean: per image and channel, the mean square of the distance from the second input."""
    x = inputs[0]
    mean = inputs[1].reshape(x.shape[0], 1, 1, x.shape[channel_axis(x, context)])
    return [np.square(x - mean).mean(axis=(1, 2), keepdims=True, dtype=FLOAT)]
