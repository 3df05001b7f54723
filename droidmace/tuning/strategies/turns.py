"""What all strategies share: one choice of every group for each process."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from droidmace.tuning.search import Choice, GroupHistory, History, Params, Plan
from droidmace.tuning.selection import chosen
from droidmace.tuning.space import Legal, suspects_of

Move = tuple[int, Params]
"""Which of a group's keys, and the value it gets; the other keys stay as they are."""


def seeded(seed: int, *words: object) -> random.Random:
    """A generator that depends on its arguments alone, not on the process."""
    text = "\0".join(map(str, (seed, *words)))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - not for secrets


def moved(choice: Choice, move: tuple[int, Params | None]) -> Choice:
    """``choice`` with one key's value changed; None: its default."""
    place, params = move
    return (*choice[:place], params, *choice[place + 1 :])


def all_moves(history: GroupHistory) -> Iterator[Move]:
    """Every candidate of every key, in the order of the space."""
    for place, space in enumerate(history.group.keys):
        for params in space.candidates:
            yield place, params


def tried_moves(history: GroupHistory) -> set[Move]:
    """Candidates that were measured or refused, whatever stood beside them."""
    return {
        (place, params)
        for choice in (*history.samples, *history.refused)
        for place, params in enumerate(choice)
        if params is not None
    }


class InTurns(ABC):
    """A strategy that looks at each group by itself.

    The first process runs the defaults, which all else is compared with. Groups that have nothing
    left to try are held at their best; when no group has, the search is over.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def propose(self, history: History, count: int) -> list[Plan]:
        """See :class:`droidmace.tuning.search.Strategy`."""
        best = chosen(history)
        suspects = suspects_of(history)
        queues = {
            name: self._queue(group, best[name], Legal(group, suspects[name]), count)
            for name, group in history.groups.items()
        }
        longest = max(map(len, queues.values()), default=0)
        return [
            {
                name: queue[turn] if turn < len(queue) else best[name]
                for name, queue in queues.items()
            }
            for turn in range(longest)
        ]

    def _queue(self, history: GroupHistory, best: Choice, legal: Legal, count: int) -> list[Choice]:
        default = history.group.default
        queue = [] if default in history.samples or default in history.refused else [default]
        tried = tried_moves(history)
        for move in self.moves(history):
            if len(queue) >= count:
                break
            choice = moved(best, move)
            if move not in tried and legal(choice):
                tried.add(move)
                queue.append(choice)
        return queue[:count]

    @abstractmethod
    def moves(self, history: GroupHistory) -> Sequence[Move]:
        """What to try of a group, in order; the same at every call."""
