"""Blocks against a phone whose speed, noise and moods are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from droidmace.tuning.latency import FUTILE_BLOCKS, BlockRules, LatencyEvidence, compare_latency
from droidmace.tuning.sequential import Finding

SEEDS = 200


@dataclass
class PlantedPhone:
    """``factor``: tuned / untuned. Each process is off by ``noise``, now and then by far more.

    ``pace`` says by what the n-th process is slower than the first.
    """

    factor: float
    seed: int = 0
    noise: float = 0.015
    pace: Callable[[int], float] = lambda _: 1.0
    ran: list[bool] = field(default_factory=list)
    cooled: int = 0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def run_ms(self, is_tuned: bool) -> float:
        self.ran.append(is_tuned)
        time_ms = 10.0 * (self.factor if is_tuned else 1.0) * self.pace(len(self.ran))
        time_ms *= float(np.exp(self._random.normal(0.0, self.noise)))
        if self._random.random() < 0.04:
            time_ms *= float(self._random.uniform(1.1, 1.5))
        return time_ms

    def compare(self, rules: BlockRules | None = None) -> LatencyEvidence:
        return compare_latency(self.run_ms, rules or BlockRules())


def share(found: Finding, **planted: object) -> float:
    """In what share of the seeds a planted phone leads to ``found``."""
    phones = [PlantedPhone(seed=seed, **planted) for seed in range(SEEDS)]  # type: ignore[arg-type]
    return sum(phone.compare().finding is found for phone in phones) / SEEDS


def slower_later(count: int) -> float:
    return 1.0 if count < 14 else 1.4


def test_a_gain_of_30_percent_is_always_found() -> None:
    assert share(Finding.GAIN, factor=0.7) == 1.0


def test_a_gain_of_3_percent_is_found() -> None:
    assert share(Finding.GAIN, factor=0.97) >= 0.98


@pytest.mark.parametrize("factor", [1.0, 1.05, 0.995])
def test_what_is_not_faster_does_not_ship(factor: float) -> None:
    assert share(Finding.GAIN, factor=factor) <= 0.05


def test_throttling_makes_no_gain_and_hides_none() -> None:
    assert share(Finding.GAIN, factor=1.0, pace=slower_later) <= 0.05
    assert share(Finding.GAIN, factor=0.7, pace=slower_later) == 1.0


def test_even_drift_cancels_within_a_block() -> None:
    phone = PlantedPhone(factor=0.9, noise=0.0, pace=lambda count: 1.0 + 0.01 * count)
    phone._random = np.random.default_rng(3)
    blocks = [block for block in phone.compare().blocks if max(block.tuned_ms) < 15]
    assert blocks
    for block in blocks[:3]:
        assert block.ratio == pytest.approx(0.9, abs=0.01)


def test_each_block_is_four_processes_and_the_order_changes() -> None:
    phone = PlantedPhone(factor=0.5, noise=0.0)
    evidence = phone.compare()
    assert phone.ran[:8] == [False, True, True, False, True, False, False, True]
    assert len(phone.ran) == 4 * len(evidence.blocks)
    assert [block.tuned_outside for block in evidence.blocks[:2]] == [False, True]


def test_a_clear_gain_ends_after_six_blocks_and_a_hopeless_one_early() -> None:
    assert PlantedPhone(factor=0.5, noise=0.001).compare().ratio.pairs == 6
    assert FUTILE_BLOCKS <= PlantedPhone(factor=1.0).compare().ratio.pairs < 40


def test_a_block_whose_outer_processes_differ_does_not_count() -> None:
    jump = PlantedPhone(factor=0.5, noise=0.0, pace=lambda count: 1.2 if 3 <= count <= 20 else 1.0)
    jump._random = np.random.default_rng(11)
    evidence = jump.compare(BlockRules(max_slowdown=0.5))
    first = evidence.blocks[0]
    assert "differ by +20.0%" in first.thrown_out
    kept = [block for block in evidence.blocks if not block.thrown_out]
    assert len(evidence.samples_ms(tuned=True)) == 2 * len(kept) == 2 * evidence.ratio.pairs
    assert any("thrown out" in note for note in evidence.notes)


@pytest.mark.parametrize("cools", [True, False])
def test_a_phone_that_throttles_may_cool_down_or_is_taken_as_it_is(cools: bool) -> None:
    state = {"hot": 1.0, "runs": 0, "asked": 0}

    def run_ms(is_tuned: bool) -> float:
        state["runs"] += 1
        if state["runs"] == 9:
            state["hot"] = 1.6
        return 10.0 * state["hot"] * (0.8 if is_tuned else 1.0)

    def cool_down() -> bool:
        state["asked"] += 1
        state["hot"] = 1.0 if cools else state["hot"]
        return cools

    evidence = compare_latency(run_ms, BlockRules(), cool_down=cool_down)
    assert evidence.finding is Finding.GAIN
    assert evidence.ratio.median == pytest.approx(0.8)
    thrown = [block for block in evidence.blocks if block.thrown_out]
    assert len(thrown) == 1
    assert "1.60 of its time" in thrown[0].thrown_out
    assert state["asked"] == 1
    assert any("measured on at that speed" in note for note in evidence.notes) is not cools


def test_a_phone_that_is_never_steady_ends_all_the_same() -> None:
    wild = PlantedPhone(factor=1.0, noise=0.5)
    evidence = wild.compare(BlockRules(max_blocks=8))
    assert evidence.ratio.pairs == 8
    assert sum(bool(block.thrown_out) for block in evidence.blocks) == 4
    assert evidence.finding is not Finding.GAIN


def test_the_block_says_how_the_phone_was() -> None:
    phone = PlantedPhone(factor=0.5, noise=0.0)
    evidence = compare_latency(phone.run_ms, BlockRules(), conditions=lambda: (51.5, 585.0))
    assert evidence.blocks[0].hottest_c == 51.5
    assert evidence.blocks[0].as_document()["gpu_mhz"] == 585.0


@pytest.mark.parametrize("hit", [False, True])
def test_an_outlier_inside_a_block_counts_whichever_side_it_hits(hit: bool) -> None:
    ran = 0

    def run_ms(is_tuned: bool) -> float:
        nonlocal ran
        ran += 1
        # The second process of the fifth block (untuned outside), or of the sixth.
        return 30.0 if ran == (18 if hit else 22) else 10.0

    evidence = compare_latency(run_ms, BlockRules(max_blocks=8))
    assert not any(block.thrown_out for block in evidence.blocks)
    outlier = evidence.blocks[4 if hit else 5]
    assert max(outlier.tuned_ms if hit else outlier.untuned_ms) == 30.0
