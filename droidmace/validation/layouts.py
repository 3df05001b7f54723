"""How one tensor's values lie in a MACE model, and how in the model it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

ChannelOrder = Literal["NCHW", "NHWC"]

_PERMUTATIONS: dict[str, tuple[int, ...]] = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 2, 3, 1)}
"""To the other of the two."""
_BY_PLATFORM: dict[str, ChannelOrder] = {"tensorflow": "NHWC", "keras": "NHWC"}


class TensorLike(Protocol):
    """An input or output as a deployment file declares it (``config.TensorSpec`` is one)."""

    @property
    def name(self) -> str:
        """The tensor's name."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions, the batch dimension included."""
        ...

    @property
    def data_type(self) -> str:
        """``float32``, ``int32``, …"""
        ...

    @property
    def data_format(self) -> str:
        """``NHWC``, ``NCHW`` or ``NONE``."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """A :class:`TensorLike` for those who have no deployment file."""

    name: str
    shape: tuple[int, ...]
    data_type: str = "float32"
    data_format: str = "NHWC"


def order_of_platform(platform: str) -> ChannelOrder:
    """How models of a training platform order images' axes.

    TensorFlow and Keras put the channels last, all others first, as in
    ``get_real_out_value_shape_df`` of MACE's ``tools/python/validate.py``.
    """
    return _BY_PLATFORM.get(platform, "NCHW")


def element_count(shape: Sequence[int]) -> int:
    """Number of values of a shape."""
    return math.prod(shape)


def permutation(
    shape: Sequence[int],
    data_format: str,
    there: Sequence[int | str | None],
    order: ChannelOrder,
) -> tuple[int, ...] | None:
    """How the axes of a tensor of ``shape`` have to be turned to lie as in the original model.

    ``there`` is the shape in that model: a dimension that is no number fits every size, and no
    dimensions at all say nothing. ``order`` decides where both ways fit. None: neither does.
    """
    candidates = [tuple(range(len(shape)))]
    axes = _PERMUTATIONS.get(data_format)
    if axes is not None and len(shape) == 4:
        candidates.insert(1 if data_format == order else 0, axes)
    if not there:
        return candidates[0]
    for axes in candidates:
        sizes = [shape[axis] for axis in axes]
        if len(sizes) == len(there) and all(
            not isinstance(size, int) or size == own for own, size in zip(sizes, there, strict=True)
        ):
            return axes
    return None


def turned(values: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """``values`` with axes in that order, contiguous."""
    return np.ascontiguousarray(values.transpose(axes))


def turned_back(values: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """The opposite of :func:`turned`."""
    return np.ascontiguousarray(values.transpose(np.argsort(axes)))
