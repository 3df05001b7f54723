"""Strategies that learn nothing: what others must be better than."""

from __future__ import annotations

from collections.abc import Sequence

from droidmace.tuning.search import GroupHistory
from droidmace.tuning.space import mace_part
from droidmace.tuning.strategies.turns import InTurns, Move, all_moves, seeded


class RandomSearch(InTurns):
    """Any candidate that was not tried yet."""

    def moves(self, history: GroupHistory) -> Sequence[Move]:
        """See :class:`InTurns`."""
        moves = list(all_moves(history))
        seeded(self.seed, history.group.name).shuffle(moves)
        return moves


class Exhaustive(InTurns):
    """Every candidate, MACE's own first."""

    def moves(self, history: GroupHistory) -> Sequence[Move]:
        """See :class:`InTurns`."""
        return [*_mace_moves(history), *all_moves(history)]


class MaceList(InTurns):
    """MACE's own candidates and no others, as its tuner tries them."""

    def moves(self, history: GroupHistory) -> Sequence[Move]:
        """See :class:`InTurns`."""
        return _mace_moves(history)


def _mace_moves(history: GroupHistory) -> list[Move]:
    return [
        (place, params)
        for place, space in enumerate(history.group.keys)
        for params in mace_part(space)
    ]
