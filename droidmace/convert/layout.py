"""Where an ONNX tensor lies in a MACE tensor.

Every MACE tensor here has four axes, stored as (n, h, w, c) on the GPU and as (n, c, h, w) on the
CPU. An ONNX tensor of any rank lies in one: each of its axes is a group of MACE axes, in row-major
order, and an axis of size 1 is the empty group. So Flatten, Squeeze, Unsqueeze, Transpose and many
a Reshape only change the groups and compute nothing. MACE axes count as N, C, H, W (0…3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from droidmace.convert.graph import Shape

N, C, H, W = range(4)
Groups = tuple[tuple[int, ...], ...]
"""For each ONNX axis the MACE axes that it consists of."""

_PLACES: dict[int, tuple[int, ...]] = {
    0: (),
    1: (C,),
    2: (N, C),
    # In order both in (n, c, h, w) and in (n, h, w, c), and with a matrix in the last two.
    3: (N, H, W),
    4: (N, C, H, W),
}


@dataclass(frozen=True, slots=True)
class Value:
    """An ONNX tensor in MACE tensor ``tensor`` of ``shape`` (n, h, w, c)."""

    tensor: str
    shape: Shape
    groups: Groups

    def size(self, axis: int) -> int:
        """The size of MACE axis ``axis`` (N, C, H or W)."""
        return nchw(self.shape)[axis]

    @property
    def onnx_shape(self) -> Shape:
        """The ONNX tensor's own shape."""
        return tuple(math.prod(self.size(axis) for axis in group) for group in self.groups)

    @property
    def order(self) -> tuple[int, ...]:
        """The MACE axes larger than 1, in the order in which ONNX's axes run through them."""
        return tuple(axis for group in self.groups for axis in group)

    @property
    def in_order(self) -> bool:
        """Whether the values lie in (n, c, h, w) as ONNX has them."""
        return self.order == tuple(sorted(self.order))

    def regrouped(self, groups: Groups) -> Value:
        """The same MACE tensor, read as another ONNX tensor."""
        return replace(self, groups=groups)

    def reshaped(self, target: Shape) -> Value | None:
        """The same values as an ONNX tensor of shape ``target``; None if that moves them."""
        order = list(self.order)
        groups = []
        for size in target:
            group: list[int] = []
            product = 1
            while product < size and order:
                group.append(order.pop(0))
                product *= self.size(group[-1])
            if product != size:
                return None
            groups.append(tuple(group))
        return None if order else self.regrouped(tuple(groups))


@dataclass(frozen=True, slots=True)
class Layout:
    """A wanted place: groups, and the sizes (n, c, h, w) of the MACE tensor."""

    groups: Groups
    sizes: Shape

    @classmethod
    def of(cls, value: Value) -> Layout:
        """Where ``value`` is."""
        return cls(value.groups, nchw(value.shape))

    @classmethod
    def at(cls, shape: Shape, places: Sequence[int]) -> Layout:
        """ONNX axis i of a tensor of ``shape`` at MACE axis ``places[i]``."""
        sizes = [1, 1, 1, 1]
        for size, place in zip(shape, places, strict=True):
            sizes[place] *= size
        groups = tuple((p,) if size > 1 else () for size, p in zip(shape, places, strict=True))
        return cls(groups, tuple(sizes))

    @classmethod
    def plain(cls, shape: Shape) -> Layout | None:
        """The usual place of a tensor of ``shape``; None if it has too many axes."""
        if len(shape) <= 4:
            return cls.at(shape, _PLACES[len(shape)])
        sizes = tuple(size for size in shape if size > 1)
        if len(sizes) > 4:
            return None
        inner = cls.at(sizes, _PLACES[len(sizes)])
        remaining = iter(inner.groups)
        return cls(tuple(next(remaining) if size > 1 else () for size in shape), inner.sizes)

    @property
    def order(self) -> tuple[int, ...]:
        """As :attr:`Value.order`."""
        return tuple(axis for group in self.groups for axis in group)


def nhwc(shape: Sequence[int]) -> Shape:
    """(n, c, h, w) to (n, h, w, c)."""
    return (shape[0], shape[2], shape[3], shape[1])


def nchw(shape: Sequence[int]) -> Shape:
    """(n, h, w, c) to (n, c, h, w)."""
    return (shape[0], shape[3], shape[1], shape[2])


def nhwc_axis(axis: int) -> int:
    """A MACE axis (N, C, H, W) as arguments count it that follow (n, h, w, c)."""
    return {N: 0, H: 1, W: 2, C: 3}[axis]
