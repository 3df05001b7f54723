"""Images at another size, by the same integers wherever it runs.

Pillow's resampling, as its releases 10 to 12 have it, is what most classifiers were trained with
(torchvision's ``Resize`` calls it); release 13 gives other values at some sizes. So that figures
can be compared from one computer to the next, its definition is followed here, instead of asking
whichever release is installed: ``Image.resize`` with ``Image.Resampling`` of the same name,
without ``reducing_gap``. The filter grows with the reduction (others call that antialiasing);
columns are resampled before rows; for uint8, weights have 22 binary places, and results are
rounded to uint8 after each of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

_PLACES = 22
"""Binary places of a weight: 32 less 8 of a pixel, less 2 for sums above the largest."""


def resample(
    images: NDArray[Any], size: tuple[int, int], interpolation: Interpolation
) -> NDArray[Any]:
    """``images`` (n, height, width, channels) at another ``size`` (height, width).

    uint8 gives uint8; anything else is calculated in float64, and gives float32.
    """
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    for axis, length in ((2, size[1]), (1, size[0])):
        if images.shape[axis] != length:
            # The axis comes first: then pixels that belong together lie together.
            first = np.ascontiguousarray(np.moveaxis(images, axis, 0))
            images = np.moveaxis(_along_first(first, length, interpolation), 0, axis)
    return np.ascontiguousarray(images)


def _along_first(values: NDArray[Any], length: int, interpolation: Interpolation) -> NDArray[Any]:
    if interpolation == "nearest":
        return values[_nearest(len(values), length)]
    places, weights = _weights(len(values), length, interpolation)
    shape = (length,) + (1,) * (values.ndim - 1)
    if values.dtype != np.uint8:
        total = np.zeros((length, *values.shape[1:]))
        for tap in range(places.shape[1]):
            total += values[places[:, tap]] * weights[:, tap].reshape(shape)
        return total.astype(np.float32)
    whole = np.trunc(weights * (1 << _PLACES) + np.copysign(0.5, weights)).astype(np.int32)
    sums = np.full((length, *values.shape[1:]), 1 << (_PLACES - 1), np.int32)
    product = np.empty_like(sums)
    for tap in range(places.shape[1]):
        np.multiply(values[places[:, tap]], whole[:, tap].reshape(shape), out=product)
        sums += product
    sums >>= _PLACES
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


@lru_cache(maxsize=512)
def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """For each new place, the old one; added up step by step, as Pillow does."""
    step = old / new
    steps = np.full(new, step)
    steps[0] = step * 0.5
    return np.minimum(np.cumsum(steps).astype(np.intp), old - 1)


@lru_cache(maxsize=512)
def _weights(
    old: int, new: int, interpolation: str
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each new place, the old ones (new, taps) and what each counts; unused taps count 0."""
    reach, curve = _FILTERS[interpolation]
    scale = old / new
    stretch = max(scale, 1.0)
    reach *= stretch
    taps = math.ceil(reach) * 2 + 1
    places = np.zeros((new, taps), np.intp)
    weights = np.zeros((new, taps))
    for index in range(new):
        center = (index + 0.5) * scale
        begin = max(0, int(center - reach + 0.5))
        end = min(old, int(center + reach + 0.5))
        found = [curve((place - center + 0.5) * (1.0 / stretch)) for place in range(begin, end)]
        total = 0.0
        for weight in found:
            total += weight
        places[index, : end - begin] = range(begin, end)
        weights[index, : end - begin] = [weight / total if total else 0.0 for weight in found]
    used = int(np.flatnonzero(weights.any(axis=0)).max(initial=0)) + 1
    return places[:, :used], weights[:, :used]


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    # 0.54 and 0.46 in float32, as in Pillow.
    return math.sin(x) / x * (0.5400000214576721 + 0.46000000834465027 * math.cos(x))


def _bicubic(x: float) -> float:
    a = -0.5
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0


def _sinc(x: float) -> float:
    x *= math.pi
    return math.sin(x) / x if x else 1.0


_FILTERS: dict[str, tuple[float, Callable[[float], float]]] = {
    "box": (0.5, _box),
    "bilinear": (1.0, _bilinear),
    "hamming": (1.0, _hamming),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}
