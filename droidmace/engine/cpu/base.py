"""What every CPU op is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from droidmace.engine.shapes import MAX_ELEMENTS
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

Array = npt.NDArray[Any]
"""float32, or int32 where MACE has integers (indices, shapes, comparisons)."""
FLOAT = np.float32
INT = np.int32


@dataclass(frozen=True)
class CpuContext:
    """What an op may use beside its inputs.

    ``constants`` are the net's, by name. ``on_gpu``: the op belongs to a GPU net and falls back.
    ``nchw``: this op counts the axes of images as NCHW, and its inputs lie so
    (:mod:`droidmace.engine.axis_order`). What ops make of their constants is kept in ``packed``.
    """

    constants: Mapping[str, Array]
    on_gpu: bool = False
    nchw: bool = False
    packed_arrays: dict[tuple[str, str], Array] = field(default_factory=dict, repr=False)

    def packed(
        self, op: OperatorDef, values: Sequence[Array], index: int, pack: Callable[[Array], Array]
    ) -> Array:
        """``pack`` of input ``index``, made once if that input is a constant."""
        name = op.inputs[index]
        if name not in self.constants:
            return pack(values[index])
        key = (name, f"{pack.__module__}.{pack.__qualname__}")
        if key not in self.packed_arrays:
            self.packed_arrays[key] = pack(values[index])
        return self.packed_arrays[key]


CpuOp = Callable[[OperatorDef, Sequence[Array], CpuContext], list[Array]]
"""An op: its definition, all of its inputs (constants too), the context; returns its outputs.

Images are NHWC, or NCHW where ``context.nchw`` is set. Inputs may be views; they are not written
to. Shapes have been checked by :func:`droidmace.engine.shapes.output_shapes`."""


def channel_axis(values: Array, context: CpuContext) -> int:
    """Which axis of activations holds the channels."""
    return 1 if context.nchw and values.ndim == 4 else values.ndim - 1


def per_channel(vector: Array, values: Array, context: CpuContext) -> Array:
    """A vector with one value per channel, in a shape that spreads over ``values``.

    Raises ``EngineError`` when it has another number of values.
    """
    axis = channel_axis(values, context)
    if values.ndim == 0 or vector.size != values.shape[axis]:
        raise EngineError(f"{vector.size} values for channels of {list(values.shape)}")
    shape = [1] * values.ndim
    shape[axis] = vector.size
    return vector.reshape(shape)


def check_size(sizes: Iterable[int]) -> None:
    """Refuse an array that only a nonsensical model asks for. Raises ``EngineError``."""
    elements = math.prod(sizes)
    if elements > MAX_ELEMENTS:
        raise EngineError(f"an array of {elements} values is too large")


def pad_array(x: Array, pairs: Sequence[tuple[int, int]], fill: float) -> Array:
    """``x`` with ``fill`` around it, as many values per axis as ``pairs`` say.

    Raises ``EngineError`` when that would be too large.
    """
    check_size(sum(pair) + size for pair, size in zip(pairs, x.shape, strict=True))
    return np.pad(x, pairs, constant_values=fill)
