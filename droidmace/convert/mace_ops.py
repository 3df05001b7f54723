"""Drafts of MACE ops, and the names and numbers that MACE gives to their arguments.

Source of the names: ``MaceKeyword`` and the enumerations in MACE's
``tools/python/transform/base_converter.py``, and ``mace/ops/common/*.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from droidmace.convert.graph import Shape

ArgumentValue = int | float | str | tuple[int, ...] | tuple[float, ...]
"""Becomes an argument's ``i``, ``f``, ``s``, ``ints`` or ``floats``."""

FRAMEWORK_ONNX = 2
"""``framework_type`` of a model that comes from ONNX."""


class ReduceType(IntEnum):
    """Argument ``reduce_type`` of a Reduce op."""

    MEAN = 0
    MIN = 1
    MAX = 2
    PROD = 3
    SUM = 4


class PoolingType(IntEnum):
    """Argument ``pooling_type`` of a Pooling op."""

    AVG = 1
    MAX = 2


class RoundMode(IntEnum):
    """Argument ``round_mode`` of a Pooling op."""

    FLOOR = 0
    CEIL = 1


class PadType(IntEnum):
    """Argument ``pad_type`` of a Pad op. SYMMETRIC repeats the border itself, REFLECT does not."""

    CONSTANT = 0
    REFLECT = 1
    SYMMETRIC = 2


class CoordinateMode(IntEnum):
    """Argument ``coordinate_transformation_mode`` of the resizing ops."""

    NONE = 0
    HALF_PIXEL = 1
    PYTORCH_HALF_PIXEL = 2


@dataclass(frozen=True, slots=True)
class OpDraft:
    """A MACE op before it is written.

    ``inputs`` are tensors and constants, ``shapes`` are the outputs', NHWC. ``arguments`` are those
    of this op alone, in MACE's order; those that every op carries are added later.
    ``multiply_adds`` is its work. ``integers``: it writes int32.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    arguments: Mapping[str, ArgumentValue]
    multiply_adds: int = 0
    integers: bool = False

    def with_arguments(self, more: Mapping[str, ArgumentValue]) -> OpDraft:
        """The op with ``more`` behind its arguments."""
        return replace(self, arguments={**self.arguments, **more})
