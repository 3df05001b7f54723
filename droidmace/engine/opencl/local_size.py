"""Local work-group sizes: the defaults for untuned kernels, and the candidates of a tuning run.

The rules are MACE's (``mace/ops/opencl/image/*.cc`` and ``opencl_helper.cc``), so that tuned files
and comparisons mean here what they mean there. All sizes are in work-items; 3-D results end with a
block of 0 (do not split), as tuned parameters do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Gws = tuple[int, int, int]
Params = tuple[int, ...]
_BASE_CACHE_BYTES = 16384
_BYTES_PER_PIXEL = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules look at: cache in bytes, compute units, the kernel's largest work-group."""

    cache_bytes: int
    compute_units: int
    kwg_size: int

    @property
    def base(self) -> int:
        """Cache size in units of the smallest mobile GPU's."""
        return max(self.cache_bytes // _BASE_CACHE_BYTES, 1)


Rule = Callable[[Gws, Limits], Params]


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is not below ``value``."""
    return -(-value // multiple) * multiple


def default_3d(gws: Gws, limits: Limits) -> Params:
    """For kernels without a rule of their own."""
    kwg, base = limits.kwg_size, limits.base
    lws1 = min(gws[1], kwg)
    lws2 = min(gws[2], base, kwg // lws1)
    lws0 = min(max(min(base, kwg // (lws1 * lws2)), 1), gws[0])
    return (lws0, lws1, lws2, 0)


def conv_1x1(gws: Gws, limits: Limits) -> Params:
    """For 1x1 convolutions."""
    kwg, base = limits.kwg_size, limits.base
    lws1 = min(gws[1], kwg)
    if lws1 >= base or (lws1 > 1 and gws[0] >= 128):
        lws0 = min(gws[0], base)
    else:
        lws0 = gws[0] // 8
        if lws0 < base:
            lws0 = max(gws[0] // 4, base)
    lws0 = min(lws0, kwg // lws1)
    size = lws0 * lws1
    per_unit = limits.cache_bytes // (12 * _BYTES_PER_PIXEL) // size // limits.compute_units * 8
    return (lws0, lws1, _last(per_unit, min(gws[2], base), gws, size, limits), 0)


def conv_3x3(gws: Gws, limits: Limits) -> Params:
    """For 3x3 convolutions."""
    kwg, base = limits.kwg_size, min(limits.base, 4)
    units = max(limits.compute_units // 2, 1)
    lws1 = min(gws[1], kwg)
    lws0 = min(gws[0], base, kwg // lws1)
    size = lws0 * lws1
    per_unit = round_up(limits.cache_bytes // (14 * _BYTES_PER_PIXEL) // size // units, base)
    return (lws0, lws1, _last(per_unit, min(gws[2], base), gws, size, limits), 0)


def conv_general(taps: int) -> Rule:
    """For convolutions of ``taps`` = kernel height x width."""

    def rule(gws: Gws, limits: Limits) -> Params:
        kwg = limits.kwg_size
        lws1 = min(gws[1], kwg)
        lws0 = min(gws[0] // 4 or gws[0], kwg // lws1)
        size = lws0 * lws1
        footprint = 12 * _BYTES_PER_PIXEL
        per_unit = limits.cache_bytes // footprint // taps // size // limits.compute_units * 8
        fallback = gws[2] if gws[2] < 20 else limits.base
        return (lws0, lws1, _last(per_unit, fallback, gws, size, limits), 0)

    return rule


def depthwise(gws: Gws, limits: Limits) -> Params:
    """For depthwise convolutions."""
    kwg, base = limits.kwg_size, limits.cache_bytes // _BASE_CACHE_BYTES
    lws1 = min(gws[1], kwg)
    room = kwg // lws1
    if lws1 >= base:
        lws0 = min(gws[0], base)
    else:
        lws0 = min(gws[0] // 8, room)
        if lws0 < base:
            lws0 = min(max(gws[0] // 4, base), room)
    lws0 = max(min(lws0, room), 1)
    size = lws0 * lws1
    per_unit = limits.cache_bytes // (9 * _BYTES_PER_PIXEL) // size * 4
    return (lws0, lws1, _last(per_unit, gws[2], gws, size, limits), 0)


def pooling(gws: Gws, limits: Limits) -> Params:
    """For poolings."""
    kwg = limits.kwg_size
    lws1 = min(gws[1], kwg)
    lws2 = min(gws[2], limits.base, kwg // lws1)
    lws0 = max(min(gws[0] // 4 or gws[0], kwg // (lws1 * lws2)), 1)
    return (lws0, lws1, lws2, 0)


def softmax(gws: Gws, limits: Limits) -> Params:
    """For softmax."""
    kwg, base = limits.kwg_size, limits.base
    lws1 = min(gws[1], kwg)
    lws0 = min(gws[0] if gws[0] < base else gws[0] // base, kwg // lws1)
    lws2 = max(min(gws[2], kwg // (lws0 * lws1)), 1)
    return (lws0, lws1, lws2, 0)


def concat(gws: Gws, limits: Limits) -> Params:
    """For concatenations."""
    kwg, base = limits.kwg_size, limits.base
    lws1 = min(gws[1], kwg)
    lws0 = min(base, kwg // lws1)
    lws2 = max(min(base, kwg // (lws0 * lws1)), 1)
    return (lws0, lws1, lws2, 0)


def resize(gws: Gws, limits: Limits) -> Params:
    """For resizes."""
    kwg, base = limits.kwg_size, limits.base
    lws1 = min(gws[1], kwg)
    lws0 = min(gws[0], base) if lws1 >= base else gws[0] // 8 or gws[0]
    lws0 = min(lws0, kwg // lws1)
    lws2 = max(min(gws[2] // 8 or gws[2], kwg // (lws0 * lws1)), 1)
    return (lws0, lws1, lws2, 0)


def one_item(_: object, __: object) -> Params:
    """For 3-D kernels whose work-items are large: each a work-group of its own."""
    return (1, 1, 1, 0)


def row_2d(_: object, limits: Limits) -> Params:
    """For 2-D kernels: the whole work-group along the first axis."""
    return (limits.kwg_size, 1, 0)


def whole_row_2d(gws: Gws, limits: Limits) -> Params:
    """For transforms of activations: a work-group along the first axis, and not much longer.

    MACE's are as long as the kernel allows, which on a CPU is many times a row.
    """
    row = 1 << (gws[0] - 1).bit_length()
    return (min(limits.kwg_size, row), 1, 0)


def filter_2d(_: object, limits: Limits) -> Params:
    """For the transform of convolution filters."""
    return (16, max(limits.kwg_size // 16, 1), 0)


def candidates_3d(gws: Gws, kwg_size: int) -> list[Params]:
    """The up to 30 sizes a tuning run tries for a 3-D kernel, each once."""
    firsts = (gws[0], gws[0] // 4, gws[0] // 8, 4, 1)
    lasts = (gws[2], gws[2] // 8, gws[2] // 4, 8, 4, 1)
    tried = [(first, gws[1], last, 0) for first in firsts for last in lasts]
    return [lws for lws in dict.fromkeys(tried) if 0 < lws[0] * lws[1] * lws[2] <= kwg_size]


def candidates_2d(kwg_size: int) -> list[Params]:
    """The up to 10 sizes a tuning run tries for a 2-D kernel, each once."""
    tried = [(kwg_size // size, size, 0) for size in (2, 4, 8, 16, 32, 64, 128, 256)]
    tried += [(kwg_size, 1, 0), (1, kwg_size, 0)]
    return [lws for lws in dict.fromkeys(tried) if 0 < lws[0] * lws[1] <= kwg_size]


def _last(wanted: int, fallback: int, gws: Gws, used: int, limits: Limits) -> int:
    """Size of the last axis: what the cache holds, within the work-group limit, at least 1."""
    return max(min(min(wanted, gws[2]) or fallback, limits.kwg_size // used), 1)
