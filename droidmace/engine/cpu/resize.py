"""Resizing of NHWC images: nearest, bilinear, bicubic.

Sources: ``mace/ops/resize_nearest_neighbor.cc``, ``resize_bilinear.cc``, ``resize_bicubic.cc``. All
are separable: rows first, then columns. Positions are computed in 32-bit floats as in MACE.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import unsupported
from droidmace.engine.cpu.base import FLOAT, Array, CpuContext
from droidmace.engine.op_arguments import resize_size
from droidmace.formats.netdef import OperatorDef

_HALF_PIXEL, _PYTORCH_HALF_PIXEL = 1, 2
_TABLE_SIZE = 1024


def resize_nearest(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """ResizeNearestNeighbor."""
    x = inputs[0]
    out = resize_size(op, (x.shape[1], x.shape[2]), list(inputs))
    if out == x.shape[1:3]:
        return [x]
    mode = op.str_arg("nearest_mode", "floor")
    if mode not in ("floor", "round_prefer_floor"):
        raise unsupported(op, f"nearest_mode {mode}")
    align = bool(op.int_arg("align_corners"))
    half = op.int_arg("coordinate_transformation_mode") == _HALF_PIXEL
    for axis, given in ((1, "height_scale"), (2, "width_scale")):
        size, length = x.shape[axis], out[axis - 1]
        factor = op.float_arg(given)
        scale = FLOAT(1) / FLOAT(factor) if factor > 0 else _scale(size, length, align=align)
        place = (np.arange(length, dtype=FLOAT) + FLOAT(0.5 if half else 0)) * scale
        if align:
            place = np.floor(place + FLOAT(0.5))
        else:
            place = np.floor(place) if mode == "floor" else np.ceil(place - FLOAT(0.5))
        x = x.take(np.clip(place.astype(np.int64), 0, size - 1), axis)
    return [x]


def resize_bilinear(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """ResizeBilinear."""
    x = inputs[0]
    out = resize_size(op, (x.shape[1], x.shape[2]), list(inputs))
    if out == x.shape[1:3]:
        return [x]
    for axis in (1, 2):
        size, length = x.shape[axis], out[axis - 1]
        place = _places(op, size, length)
        floor = np.floor(place)
        lower = np.clip(floor.astype(np.int64), 0, size - 1)
        upper = np.clip(np.ceil(place).astype(np.int64), 0, size - 1)
        low, high = x.take(lower, axis), x.take(upper, axis)
        high -= low
        high *= _along(place - floor, axis)
        high += low
        x = high
    return [x]


def resize_bicubic(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """ResizeBicubic: weights for 1024 distances; at half pixels TensorFlow's kernel, else
    PyTorch's."""
    x = inputs[0]
    out = resize_size(op, (x.shape[1], x.shape[2]), list(inputs))
    if out == x.shape[1:3]:
        return [x]
    for axis in (1, 2):
        size, length = x.shape[axis], out[axis - 1]
        place = _places(op, size, length)
        floor = np.floor(place)
        distance = np.rint((place - floor) * FLOAT(_TABLE_SIZE)) / FLOAT(_TABLE_SIZE)
        indices = floor.astype(np.int64)[None] + np.arange(-1, 3)[:, None]
        inside = np.clip(indices, 0, size - 1)
        tensorflow = op.int_arg("coordinate_transformation_mode") == _HALF_PIXEL
        weights = _cubic(distance, -0.5 if tensorflow else -0.75)
        if tensorflow:
            weights = np.where(inside == indices, weights, 0)
            total = weights.sum(axis=0)
            weights = weights / np.where(total == 0, 1, total)
        weights = weights.astype(FLOAT)
        x = sum(
            (x.take(inside[i], axis) * _along(weights[i], axis) for i in range(1, 4)),
            x.take(inside[0], axis) * _along(weights[0], axis),
        )
    return [x]


def _cubic(x: Array, a: float) -> Array:
    """Weights of the four pixels around a place at the distance ``x`` from the second."""

    def near(d: Array) -> Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return np.stack([far(x + 1), near(x), near(1 - x), far(2 - x)])


def _places(op: OperatorDef, size: int, length: int) -> Array:
    """Where in the input each output pixel lies, in pixels."""
    scale = _scale(size, length, align=bool(op.int_arg("align_corners")))
    mode = op.int_arg("coordinate_transformation_mode")
    index = np.arange(length, dtype=FLOAT)
    if mode == _HALF_PIXEL or (mode == _PYTORCH_HALF_PIXEL and length > 1):
        return (index + FLOAT(0.5)) * scale - FLOAT(0.5)
    return index * scale


def _scale(size: int, length: int, *, align: bool) -> np.float32:
    if align and length > 1:
        return FLOAT(size - 1) / FLOAT(length - 1)
    return FLOAT(size) / FLOAT(length)


def _along(values: Array, axis: int) -> Array:
    shape = [1, 1, 1, 1]
    shape[axis] = values.size
    return values.reshape(shape)
