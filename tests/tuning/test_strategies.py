from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
from landscapes import Landscape, convolution, group, net

from droidmace.errors import InputError
from droidmace.tuning.journal import KeyFacts
from droidmace.tuning.loop import Budget, run_search
from droidmace.tuning.search import Group, History, Plan, RunRecord, RunStatus, Strategy
from droidmace.tuning.space import mace_part
from droidmace.tuning.strategies.catalogue import STRATEGIES, make_strategy
from droidmace.tuning.strategies.guided import Guided
from droidmace.tuning.strategies.plain import Exhaustive, MaceList, RandomSearch

LEARNING = ("guided", "random", "tpe")


def run(strategy: Strategy, phone: Landscape, processes: int, batch: int = 3) -> History:
    """Just propose and measure, without a loop around it."""
    history = History(phone.groups)
    while len(history.runs) < processes:
        plans = strategy.propose(history, min(batch, processes - len(history.runs)))
        if not plans:
            break
        for record in phone(plans):
            history.add(record)
    return history


def regret(history: History, phone: Landscape) -> float:
    """How much slower than the best there is."""
    return phone.total_ms(history.best) / sum(map(phone.best_ms, phone.groups)) - 1.0


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_plan_names_every_group_and_holds_legal_choices(name: str) -> None:
    phone = Landscape(net(5), noise=0.02)
    history = run(make_strategy(name, 1), phone, 10)
    assert len(history.runs) == 10
    assert dict(phone.plans[0]) == {one.name: one.default for one in phone.groups}
    for plan in phone.plans:
        for one in phone.groups:
            (params,) = plan[one.name]
            assert params is None or params in one.keys[0].candidates


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_and_history_give_the_same_plans(name: str) -> None:
    phone = Landscape(net(4), noise=0.02)
    history = run(make_strategy(name, 7), phone, 7)
    shown = History(phone.groups)
    for record in history.runs:
        shown.add(record)
    # one that saw the search grow, and one that a resumed search makes anew
    grown = make_strategy(name, 7)
    for record in (first := History(phone.groups)) and history.runs:
        grown.propose(first, 2)
        first.add(record)
    wanted = make_strategy(name, 7).propose(shown, 4)
    assert wanted
    assert grown.propose(first, 4) == wanted


@pytest.mark.parametrize("name", LEARNING)
def test_seeds_differ(name: str) -> None:
    def plans(seed: int) -> list[Plan]:
        return run(make_strategy(name, seed), phone := Landscape(net(3)), 5) and phone.plans

    assert plans(1) == plans(1)
    assert plans(1) != plans(2)


@pytest.mark.parametrize("name", [one for one in STRATEGIES if one != "guided"])
def test_a_batch_tries_no_unknown_choice_twice(name: str) -> None:
    phone = Landscape(net(3))
    plans = make_strategy(name).propose(run(make_strategy(name), phone, 1), 12)
    for one in phone.groups:
        tried = [plan[one.name] for plan in plans if plan[one.name] != one.default]
        assert 2 < len(set(tried)) == len(tried)


def test_a_guided_batch_repeats_only_what_was_measured() -> None:
    phone = Landscape(net(3), noise=0.1)
    history = run(Guided(3), phone, 9)
    for one in phone.groups:
        choices = [plan[one.name] for plan in Guided(3).propose(history, 12)]
        unknown = [c for c in choices if c not in history.groups[one.name].samples]
        assert len(set(unknown)) == len(unknown)


def test_the_random_strategy_tries_everything_once() -> None:
    phone = Landscape((group("a", KeyFacts("reduce_hw_opencl_kernel_3_2_2")),))
    history = run(RandomSearch(5), phone, 1000)
    (one,) = phone.groups
    assert set(history.groups["a"].samples) == {(None,), *((c,) for c in one.keys[0].candidates)}
    assert all(len(samples) == 1 for samples in history.groups["a"].samples.values())
    assert RandomSearch(5).propose(history, 4) == []


def test_exhaustive_begins_with_the_default_and_maces_own() -> None:
    phone = Landscape(net(1))
    (one,) = phone.groups
    own = mace_part(one.keys[0])
    run(Exhaustive(), phone, len(own) + 5)
    seen = [plan[one.name][0] for plan in phone.plans]
    assert seen[: len(own) + 1] == [None, *own]
    assert len(set(seen)) == len(own) + 5
    assert len(run(MaceList(), Landscape(net(1)), 1000).runs) == len(own) + 1


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_guided_is_better_than_random(noise: float) -> None:
    def medians(make: Callable[[int], Strategy]) -> list[float]:
        early, late = [], []
        for seed in range(5):
            phone = Landscape(net(), noise=noise, seed=seed)
            history = run(make(seed), phone, 18)
            first = History(phone.groups)
            for record in history.runs[:8]:
                first.add(record)
            early.append(regret(first, phone))
            late.append(regret(history, phone))
        return [statistics.median(early), statistics.median(late)]

    guided, random = medians(Guided), medians(RandomSearch)
    assert guided[0] < random[0]
    assert guided[1] < min(random[1], 0.06)


def test_what_one_kernel_teaches_helps_the_others() -> None:
    def median(groups: tuple[Group, ...]) -> float:
        regrets = []
        for seed in range(5):
            phone = Landscape(groups, noise=0.02, seed=seed)
            history = run(Guided(seed), phone, 8)
            regrets.append(phone.total_ms(history.best) / sum(map(phone.best_ms, groups)))
        return statistics.median(regrets)

    many = net(16)
    assert median(many) < statistics.fmean(median((one,)) for one in many[:4])


@pytest.mark.parametrize("name", ["guided", "random", "tpe", "exhaustive"])
def test_refused_choices_are_learnt_from(name: str) -> None:
    phone = Landscape(net(4), largest=64)
    history = run(make_strategy(name), phone, 25)
    refused = [record for record in history.runs if record.guilty]
    assert 0 < len(refused) < 22
    for one in phone.groups:
        known = history.groups[one.name]
        assert not known.refused & set(known.samples)
        sizes = [choice[0] for choice in known.refused]
        assert len(sizes) == len(set(sizes))  # never the same twice


def test_what_one_kernel_was_refused_guided_does_not_try_with_the_others() -> None:
    phone = Landscape(net(12), largest=64)
    history = run(Guided(), phone, 30)
    assert sum(record.guilty is not None for record in history.runs) < 16
    assert regret(history, phone) < 0.5


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_plan_that_failed_is_not_tried_again(name: str) -> None:
    phone = Landscape(net(3))
    history = run(make_strategy(name), phone, 2)
    failed = make_strategy(name).propose(history, 1)[0]
    history.add(RunRecord(failed, RunStatus.FAILED, 0, reason="Segmentation fault"))
    plan = make_strategy(name).propose(history, 1)[0]
    for one in phone.groups:
        assert plan[one.name] != failed[one.name] or plan[one.name] == history.best[one.name]
    assert plan != failed


def test_the_keys_of_a_group_vary_one_at_a_time_around_its_best() -> None:
    two = group("two", convolution(28, 28, 64), convolution(14, 14, 32))
    phone = Landscape((two,))
    history = run(Guided(2), phone, 40, batch=1)
    incumbents: set[tuple[object, ...]] = {two.default}
    for plan in phone.plans:
        choice = plan["two"]
        assert any(sum(a != b for a, b in zip(choice, one, strict=True)) <= 1 for one in incumbents)
        incumbents.add(choice)
    assert None not in history.best["two"]
    assert regret(history, phone) < 0.15


def test_guided_ends_when_nothing_is_left_to_learn() -> None:
    phone = Landscape((group("a", KeyFacts("reduce_hw_opencl_kernel_4_2_4")),), noise=0.005)
    history = run(Guided(0), phone, 2000)
    assert len(history.runs) < 2000
    assert Guided(0).propose(history, 1) == []
    assert regret(history, phone) < 0.02


def test_a_prior_helps_the_first_steps() -> None:
    teacher = Guided(0)
    prior = teacher.learnt(run(teacher, Landscape(net(16), noise=0.01), 40))
    plain, taught = [], []
    for seed in range(5):
        groups = tuple(group(f"n{i}", convolution(20 + i, 20 + i, 40 + 8 * i)) for i in range(8))
        phone = Landscape(groups, noise=0.02, seed=seed)
        plain.append(regret(run(Guided(seed), phone, 4), phone))
        taught.append(regret(run(Guided(seed, prior=prior), phone, 4), phone))
    assert statistics.median(taught) < statistics.median(plain)


def test_the_budget_of_the_loop_is_one_for_all_strategies() -> None:
    for name in STRATEGIES:
        phone = Landscape(net(3), noise=0.01)
        history = History(phone.groups)
        outcome = run_search(make_strategy(name), phone, Budget(evaluations=30), history)
        assert history.evaluations <= 31
        assert history.total_ms(outcome.plan) <= history.total_ms({})


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(InputError, match="no search strategy 'best'"):
        make_strategy("best")
