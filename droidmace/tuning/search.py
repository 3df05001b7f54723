"""What a host-guided search knows and decides, as values; and the interface of its strategies.

The tuned-parameter file is an open door: one process of an unmodified ``mace_run`` reads one
choice for *every* kernel from it, and its ``--benchmark`` table tells what each op then cost. So
one process measures one candidate of every group at once.

A *key* is a tuning key of MACE's. Keys that only ever show in the time of the same ops make a
*group*: its time is the sum of those ops' times, and only the group's choice as a whole can be
judged. One *evaluation* is one choice of one group, measured in one process.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

Params = tuple[int, ...]
"""A tuned value: local work-group sizes (work-items), then the block."""
Choice = tuple[Params | None, ...]
"""One value for each key of a group; None: MACE's own default."""
Plan = Mapping[str, Choice]
"""What one process tries: group name to choice. Groups that are left out run with their default."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """What may be chosen for one tuning key.

    ``gws`` in work-items, empty where the key does not tell it; ``candidates`` without repeats, in
    a fixed order, all of them believed to be legal.
    """

    key: str
    kernel: str
    gws: tuple[int, ...]
    candidates: tuple[Params, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Keys whose times cannot be told apart, and the ops (their names) that run them."""

    name: str
    keys: tuple[KeySpace, ...]
    ops: tuple[str, ...]

    @property
    def default(self) -> Choice:
        """MACE's own sizes for all of its keys."""
        return (None,) * len(self.keys)

    @property
    def size(self) -> int:
        """How many choices there are: of one key at a time, since the others stand still."""
        return sum(len(space.candidates) for space in self.keys)


class RunStatus(StrEnum):
    """How a process of the search ended."""

    OK = "ok"
    REFUSED = "refused"
    """The driver refused the choice of ``RunRecord.guilty``; the other groups told nothing."""
    FAILED = "failed"
    """It ended without its tables for another reason."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One process of a search: what it tried, and what the groups' ops cost per inference.

    ``group_ms`` has the groups that were measured; ``rounds`` inferences were averaged.
    ``other_ms`` is the time of the ops that have no key. ``wall_s``: the process's own wall time.
    """

    plan: Plan
    status: RunStatus
    rounds: int
    group_ms: Mapping[str, float] = field(default_factory=dict)
    other_ms: float = 0.0
    wall_s: float = 0.0
    guilty: str | None = None
    reason: str = ""


@dataclass(slots=True)
class GroupHistory:
    """All that is known of one group: samples (ms) by choice, and what was refused."""

    group: Group
    samples: dict[Choice, list[float]] = field(default_factory=dict)
    refused: set[Choice] = field(default_factory=set)

    def estimate_ms(self, choice: Choice) -> float:
        """Median of the samples; infinity where there are none."""
        found = self.samples.get(choice)
        return statistics.median(found) if found else math.inf

    @property
    def best(self) -> Choice:
        """The choice of the smallest estimate; the default without any sample."""
        return min(self.samples, key=self.estimate_ms, default=self.group.default)


class History:
    """What a search has seen so far; the only thing that strategies know of the phone."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups: dict[str, GroupHistory] = {one.name: GroupHistory(one) for one in groups}
        self.runs: list[RunRecord] = []

    def add(self, run: RunRecord) -> None:
        """Take a process's record; groups that are not known are passed over."""
        self.runs.append(run)
        if run.guilty in self.groups and run.status is RunStatus.REFUSED:
            assert run.guilty is not None
            group = self.groups[run.guilty]
            group.refused.add(run.plan.get(run.guilty, group.group.default))
        for name, time_ms in run.group_ms.items():
            if name in self.groups:
                history = self.groups[name]
                choice = run.plan.get(name, history.group.default)
                history.samples.setdefault(choice, []).append(time_ms)

    @property
    def evaluations(self) -> int:
        """Choices that were measured or refused, counted once per process."""
        return sum(len(run.group_ms) + (run.status is RunStatus.REFUSED) for run in self.runs)

    @property
    def best(self) -> dict[str, Choice]:
        """The best choice of every group by what is known now."""
        return {name: history.best for name, history in self.groups.items()}

    def total_ms(self, plan: Plan) -> float:
        """Estimated time of all groups under ``plan``; infinity where a part is not known."""
        return sum(
            history.estimate_ms(plan.get(name, history.group.default))
            for name, history in self.groups.items()
        )


class Strategy(Protocol):
    """Decides what to try next. Deterministic: the same seed and history give the same plans.

    A strategy may be shown runs that it did not ask for: those of a search that was broken off.
    """

    def propose(self, history: History, count: int) -> list[Plan]:
        """At most ``count`` processes to run next, each plan naming every group.

        Plans may repeat choices, to know them better. An empty list: nothing is left to learn.
        """
        ...
