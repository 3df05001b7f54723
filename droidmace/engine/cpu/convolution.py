"""Convolutions: as products of matrices, except for depthwise ones.

Filters are OIHW, depthwise filters MIHW (multiplier, input channels, height, width): output channel
``c * M + m`` comes from input channel ``c`` (``mace/ops/ref/depthwise_conv_2d.cc``). MACE's own
Conv2D knows no groups; here it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import Window
from droidmace.engine.cpu.activation import activate
from droidmace.engine.cpu.base import FLOAT, Array, CpuContext, check_size
from droidmace.engine.cpu.windows import all_windows, padded, taps
from droidmace.engine.op_arguments import Pair, deconv_padding
from droidmace.formats.netdef import OperatorDef

_COLUMN_BYTES = 8 << 20
"""How much of an image is laid out as a matrix at a time; about what a cache holds."""


def conv2d(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Conv2D."""
    x = inputs[0]
    window = Window.of(op, (inputs[1].shape[2], inputs[1].shape[3]))
    group = op.int_arg("group", 1)
    source, out = padded(x, window, 0.0)
    if group == 1:
        matrix = context.packed(op, inputs, 1, _as_matrix)
        y = _convolve(source, matrix, window, out)
    else:
        filters = np.split(inputs[1], group)
        parts = zip(np.split(source, group, axis=3), filters, strict=True)
        y = np.concatenate([_convolve(p, _as_matrix(f), window, out) for p, f in parts], axis=3)
    return [_finish(op, inputs, 2, y)]


def _as_matrix(filters: Array) -> Array:
    """OIHW filters as [H * W * I, O]."""
    matrix = filters.transpose(2, 3, 1, 0).reshape(-1, filters.shape[0])
    return np.ascontiguousarray(matrix, FLOAT)


def _convolve(x: Array, matrix: Array, window: Window, out: Array) -> Array:
    batch, height, width = x.shape[0], int(out[0]), int(out[1])
    depth = matrix.shape[0]
    windows = all_windows(x, window, out)
    if window.kernel == (1, 1):
        rows = windows.reshape(-1, depth)
        return (rows @ matrix).reshape(batch, height, width, matrix.shape[1])
    y = np.empty((batch, height, width, matrix.shape[1]), FLOAT)
    step = max(_COLUMN_BYTES // (4 * depth * width), 1)
    for n in range(batch):
        for top in range(0, height, step):
            columns = windows[n, top : top + step].reshape(-1, depth)
            target = y[n, top : top + step].reshape(-1, matrix.shape[1])
            np.matmul(columns, matrix, out=target)
    return y


def depthwise_conv2d(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """DepthwiseConv2d."""
    filters = inputs[1]
    multiplier, channels = filters.shape[:2]
    window = Window.of(op, (filters.shape[2], filters.shape[3]))
    weights = context.packed(op, inputs, 1, _as_taps)
    source, out = padded(inputs[0], window, 0.0)
    if multiplier > 1:
        check_size((*source.shape, multiplier))
        source = np.repeat(source, multiplier, axis=3)
    batch, height, width = source.shape[0], int(out[0]), int(out[1])
    y = np.zeros((batch, height, width, channels * multiplier), FLOAT)
    views = taps(source, window, out)
    # some rows at a time, so that all passes find them in the cache
    step = max(_COLUMN_BYTES // 16 // (4 * width * channels * multiplier), 1)
    scratch = np.empty((batch, min(step, height), *y.shape[2:]), FLOAT)
    for top in range(0, height, step):
        target = y[:, top : top + step]
        product = scratch[:, : target.shape[1]]
        for view, weight in zip(views, weights, strict=True):
            np.multiply(view[:, top : top + step], weight, out=product)
            target += product
    return [_finish(op, inputs, 2, y)]


def _as_taps(filters: Array) -> Array:
    """MIHW filters as [H * W, I * M]."""
    order = filters.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(order.reshape(order.shape[0] * order.shape[1], -1), FLOAT)


def deconv2d(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Deconv2D: what an input pixel gives to each place in its window is one matrix product."""
    x, filters = inputs[0], inputs[1]
    outputs, channels, *kernel = filters.shape
    matrix = context.packed(op, inputs, 1, _as_scatter_matrix)
    check_size((*x.shape[:3], matrix.shape[1]))
    gifts = x.reshape(-1, channels) @ matrix
    gifts = gifts.reshape(*x.shape[:3], *kernel, outputs)
    y = _scatter(op, inputs, gifts, (kernel[0], kernel[1]))
    bias = 3 if op.int_arg("framework_type") == 0 else 2
    return [_finish(op, inputs, bias, y)]


def _as_scatter_matrix(filters: Array) -> Array:
    """OIHW filters as [I, H * W * O]."""
    matrix = filters.transpose(1, 2, 3, 0).reshape(filters.shape[1], -1)
    return np.ascontiguousarray(matrix, FLOAT)


def depthwise_deconv2d(
    op: OperatorDef, inputs: Sequence[Array], context: CpuContext
) -> list[Array]:
    """DepthwiseDeconv2d: one group per channel, or a few channels to a group.

    Filters are [output channels of a group, input channels, H, W].
    """
    x, filters = inputs[0], inputs[1]
    per_group, channels, *kernel = filters.shape
    group = op.int_arg("group", 1)
    check_size((*x.shape[:3], *kernel, group, per_group))
    pixels = x.reshape(*x.shape[:3], group, channels // group)
    weights = filters.reshape(per_group, group, channels // group, *kernel)
    gifts = np.einsum("nhwgq,pgqij->nhwijgp", pixels, weights, optimize=True)
    gifts = gifts.reshape(*x.shape[:3], *kernel, group * per_group)
    y = _scatter(op, inputs, gifts, (kernel[0], kernel[1]))
    return [_finish(op, inputs, 2, y)]


def _scatter(op: OperatorDef, inputs: Sequence[Array], gifts: Array, kernel: Pair) -> Array:
    """Add up ``gifts`` [N, H, W, KH, KW, O] where their windows lie, and cut the padding off."""
    batch, height, width = gifts.shape[:3]
    strides = op.ints_arg("strides", (1, 1))
    out, cut = deconv_padding(op, (height, width), kernel, list(inputs))
    size = [(length - 1) * strides[i] + kernel[i] for i, length in enumerate((height, width))]
    # TensorFlow may ask for more than the windows reach
    size = [max(size[i], cut[i] // 2 + out[i]) for i in (0, 1)]
    check_size((batch, *size, gifts.shape[5]))
    y = np.zeros((batch, *size, gifts.shape[5]), FLOAT)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i, i + (height - 1) * strides[0] + 1, strides[0])
            columns = slice(j, j + (width - 1) * strides[1] + 1, strides[1])
            y[:, rows, columns] += gifts[:, :, :, i, j]
    top, left = cut[0] // 2, cut[1] // 2
    return np.ascontiguousarray(y[:, top : top + out[0], left : left + out[1]])


def _finish(op: OperatorDef, inputs: Sequence[Array], bias: int, y: Array) -> Array:
    if len(inputs) > bias:
        y += inputs[bias].reshape(-1)
    return activate(op, y)
