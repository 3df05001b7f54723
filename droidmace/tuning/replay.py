"""A recorded search as a phone: strategies are compared on measurements, without a device.

Only what was recorded can be measured: nothing is interpolated. A choice that the journal does not
have is taken out of the space, and one that the driver refused is refused again. Of a group with
several keys, the key with the most records may vary; the others keep their default.

Recorded times are noisy, and the smallest of hundreds is a lucky one that nobody would see again.
So every choice's samples are dealt out in two halves: searches see one of them and are judged by
the other, and so is the exhaustive search that they are compared with.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from droidmace.errors import InputError
from droidmace.results import SearchPoint, Spread
from droidmace.tuning.journal import JournalContent
from droidmace.tuning.journal_lines import is_size
from droidmace.tuning.loop import Budget, LoopSettings, best_plan, run_search
from droidmace.tuning.search import (
    Choice,
    Group,
    GroupHistory,
    History,
    KeySpace,
    Params,
    Plan,
    RunRecord,
    RunStatus,
    Strategy,
)
from droidmace.tuning.selection import typical_ms
from droidmace.tuning.space import build_groups
from droidmace.tuning.strategies.turns import seeded

MakeStrategy = Callable[[int], Strategy]
"""A strategy for a seed."""
WITHIN = (0.01, 0.02, 0.05)
"""How near to the recorded best a search is to come, as shares of it."""


@dataclass(frozen=True)
class RecordedTable:
    """What a journal knows: groups of recorded choices, their samples (ms), and those refused.

    ``samples`` are those that a search sees, ``judged`` those that it is judged by.
    """

    groups: tuple[Group, ...]
    samples: Mapping[str, Mapping[Choice, tuple[float, ...]]]
    judged: Mapping[str, Mapping[Choice, tuple[float, ...]]]
    refused: Mapping[str, frozenset[Choice]]

    @classmethod
    def of(cls, content: JournalContent) -> RecordedTable:
        """From a journal's content. Raises ``InputError`` when it holds nothing to replay."""
        history = History(build_groups(content.groups))
        for record in content.records():
            history.add(record)
        groups: list[Group] = []
        halves: list[dict[str, dict[Choice, tuple[float, ...]]]] = [{}, {}]
        refused: dict[str, frozenset[Choice]] = {}
        for name, recorded in history.groups.items():
            group = _recorded_group(recorded)
            choices = {group.default, *_choices(group)}
            found = {
                choice: values
                for choice, values in recorded.samples.items()
                if choice in choices and values
            }
            if group.default not in found or len(found) < 2:
                continue
            groups.append(group)
            for half, samples in enumerate(halves):
                samples[name] = {
                    choice: tuple(values[half::2] or values) for choice, values in found.items()
                }
            refused[name] = frozenset(recorded.refused & choices)
        if not groups:
            raise InputError(
                "the journal holds nothing to replay: no group was measured with its default"
                " and another choice",
                hint="give the journal or bundle of 'droidmace tune --search fast', deep or "
                "exhaustive",
            )
        return cls(tuple(groups), halves[0], halves[1], refused)

    @property
    def swapped(self) -> RecordedTable:
        """The same with the halves the other way round."""
        return RecordedTable(self.groups, self.judged, self.samples, self.refused)

    @property
    def size(self) -> int:
        """How many evaluations an exhaustive search of the table takes."""
        return sum(len(self.samples[one.name]) + len(self.refused[one.name]) for one in self.groups)

    def total_ms(self, plan: Plan) -> float:
        """A plan's total as it is judged; infinity where a part of it was never measured."""
        total_ms = 0.0
        for one in self.groups:
            found = self.judged[one.name].get(plan.get(one.name, one.default))
            total_ms += typical_ms(found) if found else math.inf
        return total_ms

    @functools.cached_property
    def best_ms(self) -> float:
        """What the choices that an exhaustive search would make are judged to take in all.

        It sees all samples of its half, and trusts them: the smallest typical time wins.
        """
        return self.total_ms(
            {
                name: min(found, key=lambda choice: typical_ms(found[choice]))
                for name, found in self.samples.items()
            }
        )


class Replayer:
    """Answers plans with recorded samples, one of a choice's at random."""

    def __init__(self, table: RecordedTable, seed: int) -> None:
        self._table = table
        self._random: random.Random = seeded(seed, "replay")

    def __call__(self, plans: Sequence[Plan]) -> Iterator[RunRecord]:
        """See :data:`droidmace.tuning.loop.Evaluate`.

        Each refused choice costs a process of its own, as on a phone; then the plan runs with that
        group's default.
        """
        for plan in plans:
            left = dict(plan)
            for group in self._table.groups:
                choice = left.get(group.name, group.default)
                if choice in self._table.refused[group.name]:
                    yield RunRecord(dict(left), RunStatus.REFUSED, 0, guilty=group.name)
                    left[group.name] = group.default
            times = {
                group.name: self._random.choice(samples)
                for group in self._table.groups
                if (samples := self._samples(group, left))
            }
            yield RunRecord(left, RunStatus.OK, 1, times)

    def _samples(self, group: Group, plan: Plan) -> tuple[float, ...]:
        return self._table.samples[group.name].get(plan.get(group.name, group.default), ())


@dataclass(frozen=True, slots=True)
class ReplayedSearch:
    """One search on a table. ``curve``: evaluations, and the judged total of the plan that the
    search would have chosen then; ``best_ms``: that of an exhaustive search of what it saw."""

    seed: int
    plan: Plan
    total_ms: float
    best_ms: float
    curve: tuple[SearchPoint, ...]
    wall_s: float

    def evaluations_within(self, share: float) -> int | None:
        """After how many evaluations the total came to that near the best and stayed there.

        None: never.
        """
        limit_ms = self.best_ms * (1.0 + share)
        reached: int | None = None
        for point in self.curve:
            if point.best_ms > limit_ms:
                reached = None
            elif reached is None:
                reached = point.evaluations
        return reached


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Searches with one strategy on one journal, seed by seed. Totals in ms."""

    strategy: str
    groups: int
    size: int
    """Evaluations of an exhaustive search."""
    budget: int
    untuned_ms: float
    best_ms: float
    """What an exhaustive search found, the mean of both halves."""
    searches: tuple[ReplayedSearch, ...] = field(repr=False)

    @property
    def totals_ms(self) -> Spread:
        """What the searches ended with."""
        return Spread.of([one.total_ms for one in self.searches])

    def evaluations_within(self, share: float) -> list[int | None]:
        """Of every search: evaluations until within ``share`` of the recorded best; None: never."""
        return [one.evaluations_within(share) for one in self.searches]

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "strategy": self.strategy,
            "groups": self.groups,
            "size": self.size,
            "budget": self.budget,
            "untuned_ms": self.untuned_ms,
            "recorded_best_ms": self.best_ms,
            "total_ms": [one.total_ms for one in self.searches],
            "evaluations_within": {
                f"{share:.0%}": self.evaluations_within(share) for share in WITHIN
            },
        }


def replay(
    content: JournalContent | RecordedTable,
    strategy: str,
    make: MakeStrategy,
    budget: int,
    *,
    seed: int = 0,
    repeats: int = 1,
    settings: LoopSettings | None = None,
) -> ReplayReport:
    """Search ``repeats`` times for ``budget`` evaluations each, with seeds from ``seed`` on.

    Searches with an odd seed see the second half of the samples and are judged by the first.

    ``strategy`` names what ``make`` makes. Raises ``InputError`` if there is nothing to replay.
    """
    table = content if isinstance(content, RecordedTable) else RecordedTable.of(content)
    halves = (table, table.swapped)
    searches = tuple(
        _search(halves[one % 2], make(one), budget, one, settings)
        for one in range(seed, seed + repeats)
    )
    return ReplayReport(
        strategy=strategy,
        groups=len(table.groups),
        size=table.size,
        budget=budget,
        untuned_ms=sum(half.total_ms({}) for half in halves) / 2,
        best_ms=sum(half.best_ms for half in halves) / 2,
        searches=searches,
    )


def _search(
    table: RecordedTable,
    strategy: Strategy,
    budget: int,
    seed: int,
    settings: LoopSettings | None,
) -> ReplayedSearch:
    curve: list[SearchPoint] = []

    def observe(record: RunRecord, history: History) -> None:
        total_ms = table.total_ms(best_plan(strategy, history))
        curve.append(SearchPoint(0.0, history.evaluations, total_ms))

    outcome = run_search(
        strategy,
        Replayer(table, seed),
        Budget(evaluations=budget),
        History(table.groups),
        on_record=observe,
        settings=settings,
    )
    return ReplayedSearch(
        seed=seed,
        plan=outcome.plan,
        total_ms=table.total_ms(outcome.plan),
        best_ms=table.best_ms,
        curve=tuple(curve),
        wall_s=outcome.wall_s,
    )


def _recorded_group(history: GroupHistory) -> Group:
    """The group with those candidates only that were recorded with all else at its default."""
    group = history.group
    recorded: list[list[Params]] = [[] for _ in group.keys]
    for choice in (*history.samples, *history.refused):
        changed = [place for place, params in enumerate(choice) if params is not None]
        if len(changed) != 1:
            continue
        if (params := choice[changed[0]]) is not None and is_size(params):
            recorded[changed[0]].append(params)
    most = max(range(len(recorded)), key=lambda place: len(recorded[place]), default=0)
    spaces = []
    for place, space in enumerate(group.keys):
        known = set(recorded[place]) if place == most else set()
        ordered = [params for params in space.candidates if params in known]
        ordered += sorted(known - set(ordered))
        spaces.append(KeySpace(space.key, space.kernel, space.gws, tuple(ordered)))
    return Group(group.name, tuple(spaces), group.ops)


def _choices(group: Group) -> Iterable[Choice]:
    for place, space in enumerate(group.keys):
        for params in space.candidates:
            yield (*group.default[:place], params, *group.default[place + 1 :])
