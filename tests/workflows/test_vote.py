"""Phones of one model agree on what all of them measured, and on nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from droidmace.results import KernelWinner, SearchSummary
from droidmace.tuning.journal import GroupFacts, Journal, KeyFacts
from droidmace.tuning.search import Choice, Group, History, KeySpace, RunRecord, RunStatus
from droidmace.workflows.search import SearchOutcome
from droidmace.workflows.vote import Ballot, Elected, count_votes

SMALL, LARGE = (2, 2, 1, 0), (4, 4, 1, 0)
FIRST, SECOND = "conv2d_1x1_opencl_kernel_1_8_8_8", "winograd_transform_kernel_1_8_8_8"
Sample = tuple[int, Choice, float]
"""Repeat, choice, time (ms)."""


def ballot(path: Path, keys: tuple[str, ...], samples: list[Sample]) -> Ballot:
    with Journal.create(path, {"model": "abc"}) as journal:
        facts = tuple(KeyFacts(key, gws=(2, 8, 8)) for key in keys)
        journal.set_groups([GroupFacts("conv", facts, ("conv",))])
        for repeat, choice, time_ms in samples:
            plan = {"conv": choice}
            journal.append(RunRecord(plan, RunStatus.OK, 3, {"conv": time_ms}), repeat=repeat)
    return Ballot(path, ())


def test_later_repeats_count_as_much_as_the_first(tmp_path: Path) -> None:
    # The default is measured in the first repeat alone; SMALL only by the others.
    samples: list[Sample] = [(0, (None,), 10.0)] * 2 + [(0, (LARGE,), 9.9)] * 5
    samples += [(repeat, (params,), time_ms) for repeat in (1, 2) for params, time_ms in
                [(SMALL, 5.0), (LARGE, 9.9)] * 4]  # fmt: skip
    ballots = [ballot(tmp_path / f"{name}.jsonl", (FIRST,), samples) for name in "ab"]
    elected = count_votes(ballots)
    assert elected is not None
    assert elected.params == {FIRST: SMALL}
    assert elected.phones == 2


def test_kernels_that_phones_know_differently_are_not_voted_on(tmp_path: Path) -> None:
    both = ballot(
        tmp_path / "a.jsonl", (FIRST, SECOND), [(0, (None, None), 10.0), (0, (SMALL, LARGE), 5.0)]
    )
    one = ballot(tmp_path / "b.jsonl", (FIRST,), [(0, (None,), 10.0), (0, (LARGE,), 6.0)])
    turned = ballot(
        tmp_path / "c.jsonl", (SECOND, FIRST), [(0, (None, None), 10.0), (0, (LARGE, LARGE), 9.0)]
    )
    for other in (one, turned):
        assert count_votes([both, other]) is None
        assert count_votes([other, both]) is None


def test_a_phone_alone_has_nobody_to_agree_with(tmp_path: Path) -> None:
    alone = ballot(tmp_path / "a.jsonl", (FIRST,), [(0, (None,), 10.0)])
    assert count_votes([alone]) is None


@pytest.mark.parametrize(
    ("choice", "best_ms"),
    # By its own measurements; by what the others gained (0.8); as it was, where nobody knows.
    [(LARGE, 7.0), ((8, 8, 1, 0), 8.0 + 1.0), (None, 10.0 + 1.0)],
)
def test_totals_are_those_of_what_the_phones_agreed_on(
    choice: tuple[int, ...] | None, best_ms: float
) -> None:
    space = KeySpace(FIRST, "conv2d_1x1", (2, 8, 8), (SMALL, LARGE, (8, 8, 1, 0)))
    measured = History([Group("conv", (space,), ("conv",))])
    for params, time_ms in ((None, 10.0), (SMALL, 5.0), (LARGE, 6.0)):
        plan = {"conv": (params,)}
        measured.add(RunRecord(plan, RunStatus.OK, 3, {"conv": time_ms}, other_ms=1.0))
    own = KernelWinner(FIRST, SMALL, "search", 10.0, 5.0)
    summary = SearchSummary(
        "deep", 3, 3, 0, 0, 0, 1.0, 0.9, untuned_ms=11.0, mace_ms=None, best_ms=6.0,
        curve=(), winners=(own,),
    )  # fmt: skip
    found = SearchOutcome({FIRST: SMALL}, {FIRST: SMALL}, summary, 0.0, "", measured=measured)
    row = KernelWinner(FIRST, choice, "search", 20.0, 16.0)
    outcome = Elected({FIRST: choice}, (row,), 2).applied_to(found)
    assert outcome.summary is not None
    assert outcome.summary.best_ms == pytest.approx(best_ms)
    assert outcome.entries == ({} if choice is None else {FIRST: choice})
    assert outcome.summary.winners == (row,)


def test_totals_stay_where_nobody_measured_the_common_choice() -> None:
    space = KeySpace(FIRST, "conv2d_1x1", (2, 8, 8), (SMALL, LARGE))
    measured = History([Group("conv", (space,), ("conv",))])
    measured.add(RunRecord({"conv": (None,)}, RunStatus.OK, 3, {"conv": 10.0}))
    summary = SearchSummary("deep", 1, 1, 0, 0, 0, 1.0, 0.9, 10.0, None, 10.0, (), ())
    found = SearchOutcome({}, {}, summary, 0.0, "", measured=measured)
    row = KernelWinner(FIRST, LARGE, "search", math.inf, math.inf)
    outcome = Elected({FIRST: LARGE}, (row,), 2).applied_to(found)
    assert outcome.summary is not None
    assert outcome.summary.best_ms == 10.0
