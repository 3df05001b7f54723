"""Phones of one model agree on what all of them measured, and on nothing else."""

from __future__ import annotations

from pathlib import Path

from droidmace.tuning.journal import GroupFacts, Journal, KeyFacts
from droidmace.tuning.search import Choice, RunRecord, RunStatus
from droidmace.workflows.vote import Ballot, count_votes

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
