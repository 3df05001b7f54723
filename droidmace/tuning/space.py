"""What may be chosen for a tuning key: all legal local sizes, and the block that goes with them.

Along each axis: the powers of two up to the global size rounded up to one, and the divisors of the
global size; together at most as many work-items as the kernel takes. What MACE's own tuner would
try, whatever its numbers, is always among them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from droidmace.tuning.journal_lines import GroupFacts, KeyFacts
from droidmace.tuning.kernel_shapes import MAX_ITEMS, kernel_shape
from droidmace.tuning.search import (
    Choice,
    Group,
    GroupHistory,
    History,
    KeySpace,
    Params,
    RunStatus,
)

ASSUMED_KWG_SIZE = 1024
"""Where the kernel's limit is not known: what today's mobile GPUs take at most. A driver that takes
less refuses, which is data."""
MAX_KERNEL_US = 1000.0
"""How long a command may take where kernel time is limited (``opencl_helper.h``)."""
MAX_CANDIDATES = 4096
"""Of one key. A space is thinned out evenly beyond, which no kernel of a phone's net needs."""
_MAX_KWG_SIZE = 1 << 16
"""Larger work-groups than any device takes are not believed: the space stays small."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a work-group may be: items in all, and along each axis (empty: unknown)."""

    kwg_size: int = ASSUMED_KWG_SIZE
    max_lws: tuple[int, ...] = ()

    def allow(self, lws: Sequence[int]) -> bool:
        """Whether a local size is legal as far as is known."""
        if not lws or min(lws) < 1 or math.prod(lws) > self.kwg_size:
            return False
        return all(size <= most for size, most in zip(lws, self.max_lws, strict=False))


def key_space(
    facts: KeyFacts, *, time_ms: float | None = None, known: Iterable[Params] = ()
) -> KeySpace:
    """The candidates of one key, MACE's own first.

    ``known``: values that ran before (the phone's own winners). They tell the number of axes, and
    are candidates themselves. ``time_ms``: what the kernel takes by default, which says how small
    its slices must be where ``facts.block`` limits kernel time.
    """
    values = [value for value in known if len(value) in (3, 4) and min(value[:-1]) >= 1]
    axes = len(facts.gws) or (len(values[0]) - 1 if values else None)
    shape = kernel_shape(facts.key, axes)
    gws = facts.gws or shape.gws
    if min(gws, default=1) < 1 or math.prod(gws) > MAX_ITEMS:
        gws = ()
    largest = max((math.prod(value[:-1]) for value in values), default=1)
    kwg_size = min(facts.kwg_size or max(ASSUMED_KWG_SIZE, largest), _MAX_KWG_SIZE)
    limits = Limits(kwg_size, facts.max_lws or ())
    own = mace_candidates(gws, limits, shape.axes)
    sizes = [value[:-1] for value in own] + every_lws(gws, limits, shape.axes)
    slices = 0 if not facts.block else int((time_ms or 0.0) * 1000.0 / MAX_KERNEL_US) + 1
    found = [(*lws, block_of(gws, lws, slices)) for lws in sizes]
    found += [value for value in values if len(value) == shape.axes + 1]
    unique = list(dict.fromkeys(found))
    if len(unique) > MAX_CANDIDATES:
        rest = unique[len(own) :]
        kept = MAX_CANDIDATES - len(own)
        unique = unique[: len(own)] + [rest[i * len(rest) // kept] for i in range(kept)]
    return KeySpace(facts.key, facts.kernel or shape.family, gws, tuple(unique))


def build_groups(facts: Iterable[GroupFacts]) -> tuple[Group, ...]:
    """The groups of a search with the candidates of all of their keys."""
    return tuple(
        Group(one.name, tuple(key_space(key) for key in one.keys), one.ops) for one in facts
    )


def every_lws(gws: Sequence[int], limits: Limits, axes: int) -> list[tuple[int, ...]]:
    """All legal local sizes, in the order of their numbers; without a ``gws`` powers of two."""
    if axes not in (2, 3):
        return []
    most = limits.kwg_size
    along = [_sizes(size, most) for size in gws] if gws else [_sizes(most, most)] * axes
    return [lws for lws in itertools.product(*along) if limits.allow(lws)]


def mace_candidates(gws: Sequence[int], limits: Limits, axes: int) -> list[Params]:
    """What MACE's own tuner tries, in its order, each once (``opencl_helper.cc``).

    At most 30 for a 3-D kernel, whose global size must be known, and 10 for a 2-D kernel.
    """
    most = limits.kwg_size
    tried: list[tuple[int, ...]] = []
    if axes == 2:
        tried += [(most >> shift, 1 << shift) for shift in range(1, 9)]
        tried += [(most, 1), (1, most)]
    elif axes == 3 and len(gws) == 3:
        columns = (gws[0], gws[0] // 4, gws[0] // 8, 4, 1)
        slabs = (gws[2], gws[2] // 8, gws[2] // 4, 8, 4, 1)
        tried += [(column, gws[1], slab) for column in columns for slab in slabs]
    return [(*lws, 0) for lws in dict.fromkeys(tried) if limits.allow(lws)]


def mace_part(space: KeySpace) -> list[Params]:
    """Those candidates that MACE's own tuner would try, in its order.

    The kernel's limit is not in ``space``: the largest candidate has as many items.
    """
    axes = len(space.candidates[0]) - 1 if space.candidates else 0
    by_lws = {value[:-1]: value for value in space.candidates}
    largest = max(map(math.prod, by_lws), default=1)
    tried = mace_candidates(space.gws, Limits(largest), axes)
    return [by_lws[value[:-1]] for value in tried if value[:-1] in by_lws]


def block_of(gws: Sequence[int], lws: Sequence[int], slices: int) -> int:
    """The block that splits the last axis into ``slices`` commands, as MACE rounds it; 0: none."""
    if slices < 1 or not gws:
        return 0
    whole = max(gws[-1] // min(slices, gws[-1]), 1)
    return -(-whole // lws[-1]) * lws[-1]


class Legal:
    """Which choices of a group are worth trying after what its driver has refused.

    A refused work-group refuses all that are as large: those of as many items or more, unless one
    of that many ran; then the longest axis is to blame, and sizes as long along it. ``suspects``:
    see :func:`suspects_of`.
    """

    def __init__(self, history: GroupHistory, suspects: Collection[Choice] = ()) -> None:
        self._refused = history.refused
        self._suspects = frozenset(suspects)
        self._bounds: list[list[tuple[int, int]]] = []
        for place in range(len(history.group.keys) if history.refused else 0):
            around = {_without(choice, place) for choice in history.samples}
            around.add(_without(history.group.default, place))
            ran = [lws for choice in history.samples if (lws := _lws(choice, place))]
            # what else was in a refused choice has run before: this value is to blame
            refused = [
                lws
                for choice in history.refused
                if (lws := _lws(choice, place)) and _without(choice, place) in around
            ]
            self._bounds.append(_bounds(ran, refused))

    def __call__(self, choice: Choice) -> bool:
        """Whether nothing that was refused or failed speaks against it."""
        if choice in self._suspects:
            return False
        if not self._refused:
            return True
        return choice not in self._refused and not any(
            _too_large(_lws(choice, place), bounds) for place, bounds in enumerate(self._bounds)
        )


def suspects_of(history: History) -> dict[str, set[Choice]]:
    """By group the choices that were in a process that failed, and in none that did not.

    One of them may crash the driver, which tells nobody which. There are others to try: the same
    plan is not worth failing again.
    """
    found: dict[str, set[Choice]] = {name: set() for name in history.groups}
    for run in history.runs:
        if run.status is RunStatus.FAILED:
            for name, choice in run.plan.items():
                if name in found and choice not in history.groups[name].samples:
                    found[name].add(choice)
    return found


class SharedLimit:
    """Work-groups that a kernel will likely be refused, by what befell other kernels.

    Kernels differ in what they take, but not much: a size that more kernels were refused than ran
    is not worth a process, of which the others lose theirs too.
    """

    def __init__(self, histories: Iterable[GroupHistory]) -> None:
        self._ran: list[int] = []
        self._refused: list[int] = []
        for history in histories:
            ran = max(map(_largest, history.samples), default=0)
            # what ran is not refused for its size
            refused = [size for one in history.refused if (size := _largest(one)) > ran]
            self._ran.append(ran)
            self._refused += [min(refused)] if refused else []

    def expects(self, choice: Choice) -> bool:
        """Whether it will likely run."""
        size = _largest(choice) if self._refused else 0
        if not size:
            return True
        refused = sum(one <= size for one in self._refused)
        return refused <= sum(one >= size for one in self._ran)


def _largest(choice: Choice) -> int:
    return max((math.prod(params[:-1]) for params in choice if params is not None), default=0)


def _without(choice: Choice, place: int) -> Choice:
    return (*choice[:place], *choice[place + 1 :])


def _lws(choice: Choice, place: int) -> tuple[int, ...]:
    params = choice[place]
    return () if params is None else params[:-1]


def _too_large(lws: tuple[int, ...], bounds: Sequence[tuple[int, int]]) -> bool:
    return any(
        (math.prod(lws) if axis < 0 else lws[axis]) >= bound
        for axis, bound in bounds
        if lws and axis < len(lws)
    )


def _bounds(
    ran: Sequence[tuple[int, ...]], refused: Sequence[tuple[int, ...]]
) -> list[tuple[int, int]]:
    """(axis, or -1 for the product; the smallest size that is too large)."""
    found = []
    for lws in refused:
        size = math.prod(lws)
        if all(math.prod(other) < size for other in ran):
            found.append((-1, size))
            continue
        axis = max(range(len(lws)), key=lambda i: lws[i])
        if all(other[axis] < lws[axis] for other in ran if axis < len(other)):
            found.append((axis, lws[axis]))
    return found


@functools.cache
def _sizes(size: int, most: int) -> tuple[int, ...]:
    """Powers of two up to ``size`` rounded up to one, and the divisors of ``size``; to ``most``."""
    powers = {1 << shift for shift in range((size - 1).bit_length() + 1)}
    divisors = {i for i in range(1, min(size, most) + 1) if size % i == 0}
    return tuple(sorted(i for i in powers | divisors if i <= most))
