"""Finding where a chain of ops goes wrong first, in few looks.

A look asks, of several positions at once, whether what has been computed up to there is wrong. More
positions in a look mean fewer looks: with ``k`` of them what is left is one part of ``k + 1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

SPARE_RUNS = 3
"""Processes on top of the looks that halving would take: one on each runtime, and the proof."""


def run_limit(ops: int) -> int:
    """How many processes a bisection of so many ops may take: log2(ops) + 3, rounded down."""
    if ops < 1:
        raise ValueError("nothing to look into")
    return ops.bit_length() - 1 + SPARE_RUNS


def positions(right: int, wrong: int, looks: int) -> list[int]:
    """Where to look next, strictly between; so many that ``looks`` looks are enough.

    Evenly spread, in order; none if the two are neighbours.
    """
    span = wrong - right
    if span < 2:
        return []
    parts = _parts(span, looks)
    return sorted({right + span * one // parts for one in range(1, parts)} - {right, wrong})


def narrowed(
    right: int, wrong: int, looks: int, are_wrong: Callable[[Sequence[int]], Sequence[bool]]
) -> tuple[int, int]:
    """A right position and a wrong one behind it, next to each other after ``looks`` looks.

    ``are_wrong`` is asked at most ``looks`` times, for positions between ``right`` and ``wrong``,
    which are what their names say. What is right once is taken to be right up to there. Without a
    single look the two come back as they are.
    """
    while looks > 0 and wrong - right > 1:
        asked = positions(right, wrong, looks)
        looks -= 1
        for position, is_wrong in zip(asked, are_wrong(asked), strict=True):
            if is_wrong:
                wrong = position
                break
            right = position
    return right, wrong


def _parts(span: int, looks: int) -> int:
    """The least number whose ``looks``-th power is at least ``span``."""
    parts = max(2, math.ceil(math.pow(span, 1 / looks)) - 1)
    while parts**looks < span:
        parts += 1
    return parts
