"""The search for tuned parameters on one phone, whoever looks for them.

Called by ``tune`` once model, binary and inputs are on the phone::

    with Journal.open(journal_path, identity) as journal:
        outcome = run_search_on_phone(target, request.search, journal, phase.progress)

``outcome.entries`` is the parameter file to ship; the compiled program for it is built by a cold
process afterwards. The journal makes the same call go on where it was broken off.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from droidmace.config import SearchConfig, SearchKind
from droidmace.errors import MaceRunError, MaceRunOutputError
from droidmace.formats.obfuscation import readable_symbol
from droidmace.results import MaceRunResult, SearchPoint, SearchSummary
from droidmace.tuning.consensus import Vote, consensus
from droidmace.tuning.journal import Journal, KeyFacts
from droidmace.tuning.loop import Budget, LoopSettings, best_plan, run_search
from droidmace.tuning.search import (
    Group,
    History,
    KeySpace,
    Params,
    Plan,
    RunRecord,
    RunStatus,
)
from droidmace.tuning.selection import chosen
from droidmace.tuning.space import key_space
from droidmace.tuning.strategies.catalogue import make_strategy
from droidmace.workflows.measure import Progress
from droidmace.workflows.phone_tuner import CUT_SHORT, TUNED
from droidmace.workflows.search_ahead import Ahead
from droidmace.workflows.search_bench import PhoneBench, SearchTarget
from droidmace.workflows.search_cost import phone_tuner_cost_s
from droidmace.workflows.search_groups import KEYS_FOUND, KEYS_FOUND_RUNNING, GroupFinder
from droidmace.workflows.search_keys import survey
from droidmace.workflows.search_limits import next_probe, with_limits
from droidmace.workflows.search_summary import curve, progress_text, summarize

__all__ = ["SearchOutcome", "SearchTarget", "run_search_on_phone"]

_DEEP_S = 600.0
_FAST_PROCESSES = 4
"""However quick MACE's own tuner would be: fewer processes tell nothing."""
_SAFE_KWG_SIZE = 256
"""What nearly every kernel takes on nearly every GPU."""
_ANCHOR_SAMPLES = 2
_ANCHOR_TRIES = 3
"""A phone that is short of memory kills a process now and then."""
_BATCH_S = 4.0
"""How long a batch of processes should take at least: each costs a command on the phone."""
_MAX_BATCH = 12
_LEAST_PROCESS_S = 0.02
"""Phones tell the time by hundredths of a second."""
_MAX_ROUNDS = 50
_STRATEGIES = {
    SearchKind.FAST: "guided",
    SearchKind.DEEP: "guided",
    SearchKind.EXHAUSTIVE: "exhaustive",
}


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What was chosen.

    ``entries``: key as it stands in a parameter file to its value. ``readable``: the same by the
    keys that a log shows. ``summary`` is None where the phone's own tuner alone chose, and so is
    ``measured``: all that the search saw.
    ``tuning_s``: what that tuner took, 0 where it was not needed. ``mace_version`` is empty where
    no process told it. ``notes``: sentences for the user.
    """

    entries: Mapping[str, Params]
    readable: Mapping[str, Params]
    summary: SearchSummary | None
    tuning_s: float
    mace_version: str
    notes: tuple[str, ...] = ()
    measured: History | None = None


def run_search_on_phone(
    target: SearchTarget,
    search: SearchConfig,
    journal: Journal,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> SearchOutcome:
    """Find parameters; every measurement is in ``journal`` before the next one is looked at.

    ``search.budget_s`` and ``search.evaluations`` are for all repeats together, and count what the
    journal holds already; finding the keys, the phone's own tuner included, is not part of them.
    Raises ``MaceRunError``s where the phone cannot be measured at all, and ``DeviceError``s.
    """
    return _Search(target, search, journal, progress, clock).run()


@dataclass(slots=True)
class _Search:
    """The state of one search; the methods are its steps, in order."""

    target: SearchTarget
    search: SearchConfig
    journal: Journal
    progress: Progress
    clock: Callable[[], float]
    finder: GroupFinder = field(init=False)
    began_s: float = 0.0
    spent_before_s: float = 0.0
    process_s: float = 0.0
    """What a process takes, more or less."""
    spaces: dict[tuple[KeyFacts, Params | None], KeySpace] = field(default_factory=dict)
    """Candidates of the keys that were asked for before: listing them all takes a while."""

    def __post_init__(self) -> None:
        self.finder = GroupFinder(
            self.target, self.search.kind, self.journal, self.progress, self.clock
        )

    def run(self) -> SearchOutcome:
        if self.search.kind is SearchKind.MACE:
            self.finder.tune_on_phone()
            return self._outcome(self.finder.fixed(), None)
        resumed = len(self.journal.content.runs)
        known = self.finder.find()
        self.spent_before_s = self.journal.content.spent_s
        self.began_s = self.clock()
        bench = self._bench(known)
        points: list[SearchPoint] = []
        votes = []
        for repeat in range(self.search.repeats):
            vote, more = self._repeat(bench, repeat)
            votes.append(vote)
            points += more
        return self._result(bench, votes, points, resumed)

    # ---- how they are measured

    def _groups(self) -> tuple[Group, ...]:
        content = self.journal.content
        limited = with_limits(content.groups, content.winners, content.records())

        def space(facts: KeyFacts) -> KeySpace:
            if self.search.kind is SearchKind.FAST and facts.kwg_size is None:
                # There is no time to find out what is refused.
                facts = replace(facts, kwg_size=_SAFE_KWG_SIZE)
            winner = content.winners.get(facts.key)
            if (facts, winner) not in self.spaces:
                known = () if winner is None else (winner,)
                self.spaces[facts, winner] = key_space(facts, known=known)
            return self.spaces[facts, winner]

        return tuple(
            Group(one.name, tuple(space(key) for key in one.keys), one.ops) for one in limited
        )

    def _bench(self, typical: MaceRunResult | None) -> PhoneBench:
        done = [run.record for run in self.journal.content.runs]
        walls = [record.wall_s for record in done if record.status is RunStatus.OK]
        if done and walls:
            rounds, wall_s = done[-1].rounds, statistics.median(walls)
        else:
            times = (typical or survey(self.target)).times
            if times is None or not times.run_avg_ms:
                raise MaceRunOutputError(
                    "mace_run printed no average latency", where=self.target.device.serial
                )
            # As long for figures as for the start that they cost.
            rounds = math.ceil(times.first_result_ms / times.run_avg_ms)
            rounds = min(max(rounds, 2), _MAX_ROUNDS)
            wall_s = 2 * (times.first_result_ms + rounds * times.run_avg_ms) / 1000.0
        self.process_s = max(wall_s, _LEAST_PROCESS_S)
        return PhoneBench(
            self.target,
            self._groups(),
            self.finder.fixed(),
            rounds=rounds,
            # A candidate may be slower by far.
            timeout_s=min(self.target.timeout_s, max(60.0, 100.0 * wall_s)),
        )

    def _spent_s(self) -> float:
        return self.spent_before_s + self.clock() - self.began_s

    # ---- the search itself

    def _repeat(self, bench: PhoneBench, repeat: int) -> tuple[Vote, list[SearchPoint]]:
        """One of the independent searches, as far as it has not been done already."""
        thinker = make_strategy(_STRATEGIES[self.search.kind], repeat)
        with Ahead(thinker, bench.send_ahead, self.finder.guess_ms) as strategy:
            if repeat == 0:
                self._measure_anchors(bench, strategy)
            history, points = self._look(bench, strategy, repeat)
        return Vote(history, best_plan(thinker, history)), points

    def _look(
        self, bench: PhoneBench, strategy: Ahead, repeat: int
    ) -> tuple[History, list[SearchPoint]]:
        """The loop, until the budget is spent: what it saw, and how far it was when."""
        content = self.journal.content
        anchors = content.anchors
        history = History(self._groups())
        own = [run for run in content.runs if run.repeat == repeat]
        if repeat > 0:
            for record in content.records(0):
                if record.plan in anchors:
                    history.add(record)
        points = curve(own, history)
        own_s = content.own_s(repeat)
        before_s = self._spent_s() - own_s
        budget = self._budget(history, own_s)
        batch = min(max(math.ceil(_BATCH_S / self.process_s), LoopSettings().batch), _MAX_BATCH)
        running: list[Generator[RunRecord, None, None]] = []

        def evaluate(plans: Sequence[Plan]) -> Generator[RunRecord, None, None]:
            running[:] = [self._kept(bench.measure(plans), repeat)]
            strategy.started(history, plans)
            return running[0]

        def observe(record: RunRecord, so_far: History) -> None:
            spent_s = content.runs[-1].spent_s
            points.append(SearchPoint(spent_s, so_far.evaluations, so_far.total_ms(chosen(so_far))))
            self._show(so_far, budget, spent_s - before_s, repeat)
            strategy.ended(so_far)

        began_s = self.clock()
        try:
            run_search(
                strategy,
                evaluate,
                Budget(budget.seconds, budget.evaluations, own_s),
                history,
                on_record=observe,
                settings=LoopSettings(batch=batch),
                clock=lambda: self.clock() - began_s,
            )
        finally:
            # Whatever ends the loop, nothing goes on on the phone.
            for one in running:
                one.close()
        return history, points

    def _measure_anchors(self, bench: PhoneBench, strategy: Ahead) -> None:
        content = self.journal.content
        anchors = content.anchors
        samples = 1 if self.search.kind is SearchKind.FAST else _ANCHOR_SAMPLES
        wanted = [plan for _ in range(samples) for plan in anchors]
        for record in content.records(0):
            if record.plan in wanted:
                wanted.remove(record.plan)
        self._measure(bench, wanted, strategy)
        tries = 0
        while not any(one.plan == anchors[0] and one.group_ms for one in content.records(0)):
            if tries < _ANCHOR_TRIES:
                tries += 1
                self._measure(bench, anchors[:1])
                continue
            raise MaceRunError(
                f"MACE's own sizes cannot be measured: {content.runs[-1].record.reason}",
                where=self.target.device.serial,
                hint="all else is compared with them: run the command again, it tries once more",
            )
        if self.search.kind is SearchKind.FAST:
            return
        while probe := next_probe(content.groups, content.winners, content.records()):
            self.progress("how large a work-group may be", len(content.runs), 0)
            self._measure(bench, [probe])

    def _measure(
        self, bench: PhoneBench, plans: Sequence[Plan], strategy: Ahead | None = None
    ) -> None:
        with contextlib.closing(self._kept(bench.measure(plans), 0)) as records:
            # What a fast search tries does not depend on these: it may be thought of meanwhile.
            if strategy is not None and self.search.kind is SearchKind.FAST:
                strategy.started(History(self._groups()), plans)
            for _ in records:
                pass

    def _kept(
        self, records: Generator[RunRecord, None, None], repeat: int
    ) -> Generator[RunRecord, None, None]:
        """Each record is in the journal before anything else is done with it.

        The phone has begun the next process by then.
        """
        with contextlib.closing(records):
            for record in records:
                self.journal.append(record, repeat=repeat, spent_s=self._spent_s())
                yield record

    def _budget(self, history: History, own_s: float) -> Budget:
        """What one repeat may cost."""
        repeats = self.search.repeats
        seconds, evaluations = self.search.budget_s, self.search.evaluations
        if seconds is None and evaluations is None:
            if self.search.kind is SearchKind.DEEP:
                seconds = _DEEP_S * repeats
            elif self.search.kind is SearchKind.FAST:
                spent_s = self.journal.content.steps.get(KEYS_FOUND, 0.0)
                left_s = phone_tuner_cost_s(history, self.process_s) - spent_s
                seconds = repeats * max(left_s, _FAST_PROCESSES * self.process_s)
        return Budget(
            None if seconds is None else seconds / repeats,
            None if evaluations is None else math.ceil(evaluations / repeats),
            own_s,
        )

    def _show(self, history: History, budget: Budget, spent_s: float, repeat: int) -> None:
        done, total = history.evaluations, budget.evaluations or 0
        lefts = []
        if budget.seconds is not None:
            lefts.append(budget.seconds - spent_s)
        if total and done:
            lefts.append(spent_s / done * (total - done))
        text = progress_text(history, max(min(lefts), 0.0) if lefts else None)
        if self.search.repeats > 1:
            text = f"search {repeat + 1} of {self.search.repeats}: {text}"
        self.progress(text, done, total)

    # ---- what came of it

    def _result(
        self,
        bench: PhoneBench,
        votes: Sequence[Vote],
        points: Sequence[SearchPoint],
        resumed: int,
    ) -> SearchOutcome:
        content = self.journal.content
        everything = History(self._groups())
        for record in content.records():
            everything.add(record)
        agreed = consensus(votes, content.winners)
        plan = agreed.plan
        anchors = content.anchors
        steps = content.steps
        summary = summarize(
            self.search.kind.value,
            content.runs,
            everything,
            plan,
            anchors[1] if len(anchors) > 1 else None,
            agreed.winners,
            points,
            resumed_runs=resumed,
            repeats=self.search.repeats,
            wall_s=self._spent_s() + steps.get(KEYS_FOUND, 0.0),
            mace_run_s=sum(record.wall_s for record in content.records())
            + steps.get(KEYS_FOUND_RUNNING, 0.0),
        )
        return replace(self._outcome(bench.entries(plan), summary), measured=everything)

    def _outcome(
        self, entries: Mapping[str, Params], summary: SearchSummary | None
    ) -> SearchOutcome:
        steps = self.journal.content.steps
        return SearchOutcome(
            entries=entries,
            readable={readable_symbol(key): params for key, params in entries.items()},
            summary=summary,
            tuning_s=steps.get(TUNED, steps.get(CUT_SHORT, 0.0)),
            mace_version=self.finder.mace_version,
            notes=tuple(self.finder.notes),
        )
