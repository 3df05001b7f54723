"""Normalizations. Images come as NHWC. Sources: ``mace/ops/*_norm.cc``, ``mvnorm.cc``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import unsupported
from droidmace.engine.cpu.activation import activate
from droidmace.engine.cpu.base import FLOAT, Array, CpuContext
from droidmace.engine.op_arguments import axis_of
from droidmace.formats.netdef import OperatorDef

_LP_EPSILON = 1e-6


def batch_norm(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """BatchNorm: scale and offset per channel; mean and variance too unless they are folded."""
    x, scale, offset, *moments = inputs
    if moments:
        mean, variance = moments
        scale = scale / np.sqrt(variance + FLOAT(op.float_arg("epsilon", 1e-4)))
        offset = offset - mean * scale
    y = x * scale.reshape(-1)
    y += offset.reshape(-1)
    return [activate(op, y)]


def instance_norm(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """InstanceNorm: per image and channel; scale and offset if ``affine``."""
    x = inputs[0]
    centred = x - x.mean(axis=(1, 2), keepdims=True, dtype=FLOAT)
    variance = np.square(centred).mean(axis=(1, 2), keepdims=True, dtype=FLOAT)
    y = centred / np.sqrt(variance + FLOAT(op.float_arg("epsilon", 1e-4)))
    if op.int_arg("affine"):
        y = y * inputs[1].reshape(-1) + inputs[2].reshape(-1)
    return [activate(op, y)]


def group_norm(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """GroupNorm: per image and group of neighbouring channels."""
    x = inputs[0]
    groups = x.reshape(*x.shape[:3], op.int_arg("group_num", 32), -1)
    centred = groups - groups.mean(axis=(1, 2, 4), keepdims=True, dtype=FLOAT)
    variance = np.square(centred).mean(axis=(1, 2, 4), keepdims=True, dtype=FLOAT)
    y = centred / np.sqrt(variance + FLOAT(op.float_arg("epsilon", 1e-5)))
    return [y.reshape(x.shape)]


def mv_norm(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """MVNorm: per image, or per image and channel; the epsilon is added to the deviation."""
    x = inputs[0]
    axes = (1, 2, 3) if op.int_arg("across_channels") else (1, 2)
    y = x - x.mean(axis=axes, keepdims=True, dtype=FLOAT)
    if op.int_arg("normalize_variance", 1):
        deviation = np.sqrt(np.square(y).mean(axis=axes, keepdims=True, dtype=FLOAT))
        y /= deviation + FLOAT(op.float_arg("epsilon", 1e-9))
    return [y]


def lp_norm(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """LpNorm, p 1 or 2. MACE sums over ``axis`` and all axes behind it."""
    x = inputs[0]
    power = op.int_arg("p", 2)
    axes = tuple(range(axis_of(op, op.int_arg("axis", -1), x.ndim), x.ndim))
    if power == 1:
        norm = np.abs(x).sum(axis=axes, keepdims=True)
    elif power == 2:
        norm = np.sqrt(np.square(x).sum(axis=axes, keepdims=True))
    else:
        raise unsupported(op, f"p {power}")
    return [x / (norm + FLOAT(_LP_EPSILON))]


def local_response_norm(
    op: OperatorDef, inputs: Sequence[Array], context: CpuContext
) -> list[Array]:
    """LocalResponseNorm over ``depth_radius`` channels to either side."""
    x = inputs[0]
    radius = min(op.int_arg("depth_radius", 5), x.shape[3])
    if radius < 0:
        raise unsupported(op, f"depth_radius {radius}")
    # sums up to each channel; a window's sum is the difference of two of them
    squares = np.pad(np.square(x), ((0, 0), (0, 0), (0, 0), (radius + 1, radius)))
    sums = np.cumsum(squares, axis=3, dtype=np.float64)
    windows = sums[..., 2 * radius + 1 :] - sums[..., : -2 * radius - 1]
    scale = op.float_arg("bias", 1.0) + op.float_arg("alpha", 1.0) * windows
    return [(x * scale ** -op.float_arg("beta", 0.5)).astype(FLOAT)]
