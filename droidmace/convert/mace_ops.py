"""Drafts of MACE ops, and the names and numbers that MACE gives to their arguments.

Source of the names: ``MaceKeyword`` and the enumerations in MACE's
``tools/python/transform/base_converter.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from droidmace.convert.graph import Shape

ArgumentValue = int | float | str | tuple[int, ...]
"""Becomes an argument's ``i``, ``f``, ``s`` or ``ints``."""

FRAMEWORK_ONNX = 2
"""``framework_type`` of a model that comes from ONNX."""


class EltwiseType(IntEnum):
    """Argument ``type`` of an Eltwise op."""

    SUM = 0


class ReduceType(IntEnum):
    """Argument ``reduce_type`` of a Reduce op."""

    MEAN = 0


@dataclass(frozen=True, slots=True)
class OpDraft:
    """A MACE op before it is written.

    ``inputs`` are tensors and constants, ``shape`` is the output's, NHWC. ``arguments`` are those
    of this op alone, in MACE's order; those that every op carries are added later.
    ``multiply_adds`` is its work.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    output: str
    shape: Shape
    arguments: Mapping[str, ArgumentValue]
    multiply_adds: int = 0

    def with_arguments(self, more: Mapping[str, ArgumentValue]) -> OpDraft:
        """The op with ``more`` behind its arguments."""
        return replace(self, arguments={**self.arguments, **more})
