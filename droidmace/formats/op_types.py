"""Numbers that ops of a MACE model take as arguments."""

from __future__ import annotations

from enum import IntEnum


class EltwiseType(IntEnum):
    """Argument ``type`` of an Eltwise op (``mace/ops/common/eltwise_type.h``)."""

    SUM = 0
    SUB = 1
    PROD = 2
    DIV = 3
    MIN = 4
    MAX = 5
    NEG = 6
    ABS = 7
    SQR_DIFF = 8
    POW = 9
    FLOOR_DIV = 11
    CLIP = 12
    SIGN = 13
