"""Sharing memory between activations that are never alive at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """From which step to which (both included) memory of ``size`` is needed."""

    first: int
    last: int
    size: Size


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Sizes, and which of them each name uses."""

    sizes: tuple[Size, ...]
    slots: Mapping[str, int]


def plan_memory(lifetimes: Mapping[str, Lifetime]) -> MemoryPlan:
    """Give each name a piece of memory; names whose lifetimes overlap get different ones.

    Greedy by start: the free piece that is large enough and smallest, else the free one that has to
    grow least, else a new one.
    """
    sizes: list[Size] = []
    busy_until: list[int] = []
    slots: dict[str, int] = {}
    for name, life in sorted(lifetimes.items(), key=lambda item: (item[1].first, item[0])):
        free = [slot for slot, last in enumerate(busy_until) if last < life.first]
        slot = min(free, key=lambda index: _growth(sizes[index], life.size), default=None)
        if slot is None:
            slot = len(sizes)
            sizes.append(life.size)
            busy_until.append(life.last)
        else:
            sizes[slot] = _union(sizes[slot], life.size)
            busy_until[slot] = life.last
        slots[name] = slot
    return MemoryPlan(tuple(sizes), slots)


def lifetimes_of(
    steps: Iterable[tuple[Iterable[str], Iterable[str]]],
    sizes: Mapping[str, Size],
    aliases: Mapping[str, str],
    kept: Iterable[str],
) -> dict[str, Lifetime]:
    """Lifetimes from what each step reads and writes.

    ``aliases`` maps a name to the one whose memory it shares; ``kept`` live to the end.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    count = 0
    for index, (reads, writes) in enumerate(steps):
        count = index + 1
        for name in (*reads, *writes):
            owner = _owner(name, aliases)
            first.setdefault(owner, index)
            last[owner] = index
    for name in kept:
        last[_owner(name, aliases)] = count
    return {name: Lifetime(first[name], last[name], sizes[name]) for name in first}


def _owner(name: str, aliases: Mapping[str, str]) -> str:
    while name in aliases:
        name = aliases[name]
    return name


def _union(one: Size, other: Size) -> Size:
    return (max(one[0], other[0]), max(one[1], other[1]))


def _growth(size: Size, wanted: Size) -> tuple[int, int]:
    grown = _union(size, wanted)
    return (grown[0] * grown[1] - size[0] * size[1], size[0] * size[1])
