from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import pytest
from landscapes import Landscape, net

from droidmace.tuning.loop import Budget, LoopSettings, confirmation, run_search
from droidmace.tuning.search import History, Plan, RunRecord, RunStatus
from droidmace.tuning.selection import chosen, contenders, noise_of, standings, typical_ms
from droidmace.tuning.strategies.guided import Guided
from droidmace.tuning.strategies.plain import MaceList, RandomSearch


def test_the_evaluations_of_a_budget_are_kept_to_within_half_a_process() -> None:
    phone = Landscape(net(5), noise=0.02)
    history = History(phone.groups)
    outcome = run_search(RandomSearch(), phone, Budget(evaluations=103), history)
    assert len(history.runs) == len(phone.plans) == 21
    assert history.evaluations == 105
    assert not outcome.exhausted


def test_the_seconds_of_a_budget_count_what_was_spent_before() -> None:
    phone = Landscape(net(2), noise=0.02)
    now = itertools.count()

    def measure(plans: Sequence[Plan]) -> Iterator[RunRecord]:
        for plan in plans:
            for _ in range(10):
                next(now)
            yield from phone([plan])

    def run(budget: Budget) -> int:
        history = History(phone.groups)
        clock = lambda: float(next(now))  # noqa: E731
        run_search(RandomSearch(), measure, budget, history, clock=clock)
        return len(history.runs)

    whole = run(Budget(seconds=600))
    assert 20 < whole < 60
    assert run(Budget(seconds=600, spent_s=500)) < whole / 3
    assert run(Budget(seconds=600, spent_s=600)) == 0


def test_without_a_budget_it_goes_on_until_nothing_is_left() -> None:
    phone = Landscape(net(2), noise=0.001)
    outcome = run_search(MaceList(), phone, Budget(), History(phone.groups))
    assert outcome.exhausted
    assert outcome.confirmed
    assert MaceList().propose(History([]), 3) == []


def test_contenders_are_measured_until_they_are_known_well() -> None:
    phone = Landscape(net(4), noise=0.05, seed=3)
    history = History(phone.groups)
    settings = LoopSettings(confirm_share=0.5)
    outcome = run_search(RandomSearch(), phone, Budget(evaluations=400), history, settings=settings)
    assert outcome.confirmed
    assert confirmation(history, settings) == []
    for name, choice in outcome.plan.items():
        assert len(history.groups[name].samples[choice]) >= settings.confirm_samples


def test_a_search_that_was_broken_off_goes_on_as_if_it_had_not_been() -> None:
    whole = Landscape(net(4), noise=0.02, seed=9)
    record_of: list[RunRecord] = []
    run_search(
        Guided(4),
        whole,
        Budget(evaluations=80),
        History(whole.groups),
        on_record=lambda record, _: record_of.append(record),
        settings=LoopSettings(batch=1),
    )

    class UnpluggedError(Exception):
        pass

    for cut in (1, 7, 18):
        phone = Landscape(whole.groups, noise=0.02, seed=9)
        journal: list[RunRecord] = []

        def observe(
            record: RunRecord, _: History, journal: list[RunRecord] = journal, cut: int = cut
        ) -> None:
            journal.append(record)
            if len(journal) == cut:
                raise UnpluggedError

        settings = LoopSettings(batch=1)
        with pytest.raises(UnpluggedError):
            run_search(
                Guided(4),
                phone,
                Budget(evaluations=80),
                History(phone.groups),
                on_record=observe,
                settings=settings,
            )
        resumed = History(phone.groups)
        for record in journal:
            resumed.add(record)
        run_search(Guided(4), phone, Budget(evaluations=80), resumed, settings=settings)
        assert resumed.runs == record_of


def test_a_phone_that_only_fails_ends_the_search() -> None:
    groups = net(2)

    def broken(plans: Sequence[Plan]) -> Iterator[RunRecord]:
        for plan in plans:
            yield RunRecord(plan, RunStatus.FAILED, 0, reason="crashed")

    history = History(groups)
    outcome = run_search(RandomSearch(), broken, Budget(evaluations=1000), history)
    assert 0 < len(history.runs) < 20
    assert outcome.plan == {one.name: one.default for one in groups}
    assert math.isinf(history.total_ms(outcome.plan))


def test_what_each_process_brought_is_observed() -> None:
    phone = Landscape(net(3), noise=0.0)
    totals: list[float] = []
    evaluations: list[int] = []

    def observe(_: RunRecord, so_far: History) -> None:
        totals.append(so_far.total_ms(chosen(so_far)))
        evaluations.append(so_far.evaluations)

    history = History(phone.groups)
    outcome = run_search(RandomSearch(), phone, Budget(evaluations=90), history, on_record=observe)
    assert 25 <= len(history.runs) <= 30
    assert evaluations == list(range(3, 3 * len(history.runs) + 1, 3))
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == pytest.approx(history.total_ms({}))
    assert totals[-1] == pytest.approx(phone.total_ms(outcome.plan))


def test_a_lucky_sample_does_not_win_over_a_known_choice() -> None:
    phone = Landscape(net(1))
    (one,) = phone.groups
    history = History(phone.groups)
    lucky, steady = ((one.keys[0].candidates[1],), (one.keys[0].candidates[2],))
    samples = history.groups[one.name].samples
    samples[one.default] = [1.2, 1.0, 1.1, 1.15, 1.05]
    samples[steady] = [0.9, 1.0, 0.8, 0.95, 0.85]
    samples[lucky] = [0.895]
    for place, usual in enumerate((0.98, 1.03, 1.05, 1.1)):
        samples[(one.keys[0].candidates[3 + place],)] = [usual]
    noise = noise_of(history.groups.values())
    assert 0.05 < noise < 0.15
    assert history.best[one.name] == lucky
    assert chosen(history)[one.name] == steady
    assert contenders(history.groups[one.name], noise, 5)[:2] == [steady, lucky]
    stand = standings(history.groups[one.name], noise)
    assert stand[lucky].deviation > stand[steady].deviation
    assert math.exp(stand[lucky].expected) > 0.895


def test_a_choice_is_typically_what_most_of_its_samples_say() -> None:
    assert typical_ms([2.0]) == pytest.approx(2.0)
    assert typical_ms([1.0, 4.0]) == pytest.approx(2.0)
    assert typical_ms([1.0, 1.0, 1.0, 1.0, 100.0]) == pytest.approx(1.0)
