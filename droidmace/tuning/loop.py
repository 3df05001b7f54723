"""The loop of a search: propose, measure, learn; then make sure of the winners.

Pure: what measures is handed in, and so is the clock. The same loop serves phones, recorded
measurements and benchmarks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from droidmace.tuning.search import Choice, History, Plan, RunRecord, RunStatus, Strategy
from droidmace.tuning.selection import chosen, contenders, noise_of

Evaluate = Callable[[Sequence[Plan]], Iterable[RunRecord]]
"""Measures the plans, one record for each process, as they end."""
Observe = Callable[[RunRecord, History], None]
"""Told of each record once it is part of the history: the place to journal and to show it."""


@runtime_checkable
class Chooser(Protocol):
    """A strategy that can tell more of the measured choices than their samples alone do."""

    def expected_best(self, history: History) -> dict[str, Choice]:
        """The measured choice of every group that is expected to be the fastest."""
        ...


def best_plan(strategy: Strategy, history: History) -> dict[str, Choice]:
    """What a search with ``strategy`` would choose now."""
    if isinstance(strategy, Chooser):
        return strategy.expected_best(history)
    return chosen(history)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may cost, an interrupted one's part before included; None: no limit.

    ``spent_s``: seconds that it has cost already.
    """

    seconds: float | None = None
    evaluations: int | None = None
    spent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How the loop goes about it.

    ``batch``: processes proposed at a time. ``explore``: so many processes only look around; of
    what the budget pays for beyond, ``confirm_share`` makes sure. ``confirm_samples``: how often a
    contender is measured until it is known well; ``contenders``: how many of each group are.
    ``failures``: after so many processes in a row that failed, the search ends with what it has.
    """

    batch: int = 4
    explore: int = 8
    confirm_share: float = 0.25
    confirm_samples: int = 5
    contenders: int = 3
    failures: int = 8


@dataclass(frozen=True, slots=True)
class LoopEnd:
    """How a search ended; what it measured is in its history."""

    plan: dict[str, Choice]
    wall_s: float
    """With what it had cost before."""
    exhausted: bool
    """The strategy had nothing left to try."""
    confirmed: bool
    """Every winner's rivals were measured as often as the settings ask for."""


@dataclass(slots=True)
class _Run:
    """The state of one loop."""

    evaluate: Evaluate
    history: History
    budget: Budget
    clock: Callable[[], float]
    observe: Observe | None
    started_s: float = field(init=False)
    failures: int = 0

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    @property
    def spent_s(self) -> float:
        return self.budget.spent_s + self.clock() - self.started_s

    def left(self) -> float:
        """Processes of every group that the budget still pays for."""
        seconds, evaluations = self.budget.seconds, self.budget.evaluations
        size = max(len(self.history.groups), 1)
        processes = math.inf
        if evaluations is not None:
            processes = (evaluations - self.history.evaluations) / size
        if seconds is not None:
            left_s = seconds - self.spent_s
            each_s = self.spent_s / max(len(self.history.runs), 1)
            processes = min(processes, left_s / each_s if each_s else left_s * math.inf)
        # a process that is half paid for is run
        return processes if math.isinf(processes) else math.floor(processes + 0.5)

    def left_to_explore(self, how: LoopSettings) -> float:
        """Those of them that are not kept for making sure."""
        left = self.left()
        if math.isinf(left):
            return left
        whole = len(self.history.runs) + left
        return left - math.floor(max(whole - how.explore, 0.0) * how.confirm_share + 0.5)

    def measure(self, plans: Sequence[Plan]) -> None:
        for record in self.evaluate(plans):
            self.history.add(record)
            self.failures = self.failures + 1 if record.status is RunStatus.FAILED else 0
            if self.observe is not None:
                self.observe(record, self.history)


def run_search(
    strategy: Strategy,
    evaluate: Evaluate,
    budget: Budget,
    history: History,
    *,
    on_record: Observe | None = None,
    settings: LoopSettings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LoopEnd:
    """Search until the strategy has nothing left or the budget is spent, then make sure.

    ``history`` may hold an interrupted search's records already; it is added to. What ``evaluate``
    and ``on_record`` raise goes through: the records so far are in ``history``. The loop stops at
    whole processes, so it may overdraw its budget by half a one.
    """
    how = settings or LoopSettings()
    run = _Run(evaluate, history, budget, clock, on_record)
    exhausted = False
    while (left := run.left_to_explore(how)) >= 1 and run.failures < how.failures:
        # small steps as long as each one teaches a lot
        step = min(how.batch, 1 + len(history.runs) // how.batch, left)
        plans = strategy.propose(history, int(step))
        if not plans:
            exhausted = True
            break
        run.measure(plans)
    confirmed = False
    while (left := run.left()) >= 1 and run.failures < how.failures:
        plans = confirmation(history, how)[: int(min(how.batch, left))]
        if not plans:
            confirmed = True
            break
        run.measure(plans)
    return LoopEnd(best_plan(strategy, history), run.spent_s, exhausted, confirmed)


def confirmation(history: History, how: LoopSettings) -> list[Plan]:
    """Plans that measure every group's contenders until they are known well; none: they are.

    Contenders take turns, so that a phone that slows down slows down all of them.
    """
    best = chosen(history)
    noise = noise_of(history.groups.values())
    queues: dict[str, list[Choice]] = {}
    for name, group in history.groups.items():
        rivals = contenders(group, noise, how.contenders)
        if len(rivals) < 2:
            continue
        missing = {choice: how.confirm_samples - len(group.samples[choice]) for choice in rivals}
        queue = [
            choice
            for turn in range(how.confirm_samples)
            for choice in rivals
            if missing[choice] > turn
        ]
        if queue:
            queues[name] = queue
    longest = max(map(len, queues.values()), default=0)
    plans: list[Plan] = []
    for turn in range(longest):
        plan = dict(best)
        for name, queue in queues.items():
            plan[name] = queue[turn % len(queue)]
        plans.append(plan)
    return plans
