"""A strategy that thinks ahead asks for the same as one that does not, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from droidmace.errors import InputError
from droidmace.tuning.loop import Budget, LoopSettings, run_search
from droidmace.tuning.search import Group, History, KeySpace, Plan, RunRecord, RunStatus, Strategy
from droidmace.tuning.strategies.plain import Exhaustive
from droidmace.workflows.search_ahead import Ahead, with_a_guess

GROUPS = tuple(
    Group(name, (KeySpace(name, name, (), tuple((size, 1, 0) for size in range(1, 14))),), (name,))
    for name in ("a", "b")
)


class Counting:
    """Counts how often it is asked, and what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._inner = Exhaustive()

    def propose(self, history: History, count: int) -> list[Plan]:
        self.asked.append(len(history.runs))
        return self._inner.propose(history, count)


def search(inner: Strategy, batch: int) -> list[Plan]:
    strategy = Ahead(inner)
    history = History(GROUPS)
    ran: list[Plan] = []

    def evaluate(plans: Sequence[Plan]):
        strategy.started(history, plans)
        for plan in plans:
            ran.append(plan)
            yield RunRecord(plan, RunStatus.OK, 1, dict.fromkeys(plan, 1.0 + len(ran) / 100))

    run_search(
        strategy,
        evaluate,
        Budget(),
        history,
        on_record=lambda _, so_far: strategy.ended(so_far),
        settings=LoopSettings(batch=batch),
    )
    return ran


def test_everything_is_asked_for_once() -> None:
    ran = search(Counting(), 4)
    tried = [plan["a"] for plan in ran[:14]]
    assert len(set(tried)) == 14


def test_it_thinks_before_the_last_process_of_a_batch_ends() -> None:
    inner = Counting()
    ran = search(inner, 3)
    # Once for each batch, with a guess in the place of its last process.
    assert inner.asked[0] == 0
    assert len(inner.asked) < len(ran)
    assert max(inner.asked) <= len(ran)


def test_guess_is_not_in_the_real_history() -> None:
    history = History(GROUPS)
    default = {name: history.groups[name].group.default for name in "ab"}
    plan: Plan = {"a": ((3, 1, 0),), "b": ((4, 1, 0),)}
    history.add(RunRecord(default, RunStatus.OK, 1, {"a": 2.0}))
    assert with_a_guess(history, plan) is None
    history.add(RunRecord(default, RunStatus.OK, 1, {"b": 3.0}))
    told = with_a_guess(history, plan)
    assert told is not None
    assert told.groups["a"].samples[((3, 1, 0),)] == [2.0]
    assert told.groups["b"].samples[((4, 1, 0),)] == [3.0]
    assert len(history.runs) == 2


def test_next_batch_is_sent_before_it_is_asked_for() -> None:
    sent: list[Sequence[Plan]] = []
    history = History(GROUPS)
    default = {name: history.groups[name].group.default for name in "ab"}
    with Ahead(Exhaustive(), sent.append, {"a": 2.0, "b": 3.0}) as strategy:
        # Nothing is known of the defaults yet but what was guessed.
        strategy.started(history, [default])
        history.add(RunRecord(default, RunStatus.OK, 1, {"a": 2.5, "b": 3.5}))
        strategy.ended(history)
        plans = strategy.propose(history, 1)
    assert len(sent) == 1
    assert sent[0][:1] == plans
    assert plans[0] != default


def test_what_makes_sure_of_the_winners_is_followed_by_no_thought() -> None:
    inner = Counting()
    history = History(GROUPS)
    with Ahead(inner) as strategy:
        first = strategy.propose(history, 1)
        again: Plan = dict.fromkeys("ab", ((5, 1, 0),))
        history.add(RunRecord(first[0], RunStatus.OK, 1, {"a": 1.0, "b": 1.0}))
        strategy.started(history, [again])
    assert inner.asked == [0]


def test_end_of_the_search_waits_for_its_last_thought() -> None:
    history = History(GROUPS)
    default = {name: history.groups[name].group.default for name in "ab"}
    begun, go_on = threading.Event(), threading.Event()
    sent: list[Sequence[Plan]] = []

    def send(plans: Sequence[Plan]) -> None:
        begun.set()
        go_on.wait(20)
        sent.append(plans)

    with Ahead(Exhaustive(), send, {"a": 1.0, "b": 1.0}) as strategy:
        strategy.started(history, [default])
        assert begun.wait(20)
        go_on.set()
    assert len(sent) == 1


class Broken:
    def propose(self, history: History, count: int) -> list[Plan]:
        if len(history.runs) > 3:
            raise InputError("no more")
        return Exhaustive().propose(history, count)


def test_what_goes_wrong_in_its_thoughts_is_told() -> None:
    with pytest.raises(InputError, match="no more"):
        search(Broken(), 2)
