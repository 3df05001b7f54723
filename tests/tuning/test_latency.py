"""Blocks against a phone whose speed, noise and moods are known."""

from __future__ import annotations

import random
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

    ``pace`` says by what the n-th process is slower than the first, ``after_tuned`` by what one is
    slower that follows a tuned one.
    """

    factor: float
    seed: int = 0
    noise: float = 0.015
    pace: Callable[[int], float] = lambda _: 1.0
    after_tuned: float = 1.0
    ran: list[bool] = field(default_factory=list)
    cooled: int = 0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def run_ms(self, is_tuned: bool) -> float:
        heated = self.after_tuned if self.ran and self.ran[-1] else 1.0
        self.ran.append(is_tuned)
        time_ms = heated * 10.0 * (self.factor if is_tuned else 1.0) * self.pace(len(self.ran))
        time_ms *= float(np.exp(self._random.normal(0.0, self.noise)))
        if self._random.random() < 0.04:
            time_ms *= float(self._random.uniform(1.1, 1.5))
        return time_ms

    def compare(self, rules: BlockRules | None = None) -> LatencyEvidence:
        return compare_latency(self.run_ms, rules or BlockRules(), lot=random.Random(self.seed))


class TakingTurns(random.Random):
    """Untuned outside, tuned outside, and so on."""

    tuned = True

    def random(self) -> float:
        self.tuned = not self.tuned
        return 0.1 if self.tuned else 0.9


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


def test_each_block_is_four_processes_whose_order_is_drawn() -> None:
    orders = set()
    for seed in range(20):
        phone = PlantedPhone(factor=0.5, noise=0.0, seed=seed)
        evidence = phone.compare()
        expected: list[bool] = []
        for block in evidence.blocks:
            outside = block.tuned_outside
            if expected[-1:] != [outside]:
                expected.append(outside)
            expected += [outside, not outside, not outside, outside]
        assert phone.ran == expected
        orders.add(tuple(block.tuned_outside for block in evidence.blocks[:3]))
    assert len(orders) > 4


def test_each_side_follows_each_side_equally_often() -> None:
    phone = PlantedPhone(factor=0.9, noise=0.0, after_tuned=1.5)
    phone._random = np.random.default_rng(3)
    ratios = [block.ratio for block in phone.compare(BlockRules(max_drift=10.0)).blocks[:3]]
    assert ratios == pytest.approx([0.9] * 3)


def test_a_process_that_suffers_from_the_one_before_makes_no_gain_and_hides_none() -> None:
    """With blocks that take turns, and nothing before them, every one of these would ship."""
    assert share(Finding.GAIN, factor=1.0, noise=0.01, after_tuned=1.05) <= 0.05
    assert share(Finding.GAIN, factor=0.97, noise=0.01, after_tuned=0.96) >= 0.95


def test_other_work_that_keeps_step_with_the_blocks_makes_no_gain() -> None:
    for phase in (0, 3):
        assert (
            share(
                Finding.GAIN,
                factor=1.0,
                noise=0.01,
                pace=lambda count, phase=phase: 1.2 if count % 8 == phase else 1.0,
            )
            <= 0.05
        )


def test_a_clear_gain_ends_after_six_blocks_and_a_hopeless_one_early() -> None:
    assert PlantedPhone(factor=0.5, noise=0.001).compare().ratio.pairs == 6
    assert FUTILE_BLOCKS <= PlantedPhone(factor=1.0).compare().ratio.pairs < 40


def test_a_block_whose_outer_processes_differ_does_not_count() -> None:
    jump = PlantedPhone(factor=0.5, noise=0.0, pace=lambda count: 1.2 if 4 <= count <= 21 else 1.0)
    jump._random = np.random.default_rng(3)
    evidence = jump.compare(BlockRules(max_slowdown=0.5))
    first = evidence.blocks[0]
    assert "differ by +20.0%" in first.thrown_out
    kept = [block for block in evidence.blocks if not block.thrown_out]
    assert len(evidence.samples_ms(tuned=True)) == 2 * len(kept) == 2 * evidence.ratio.pairs
    assert any("thrown out" in note for note in evidence.notes)


@pytest.mark.parametrize("cools", [True, False])
def test_a_phone_that_throttles_may_cool_down_or_is_taken_as_it_is(cools: bool) -> None:
    state = {"hot": 1.0, "blocks": 0, "asked": 0}

    def run_ms(is_tuned: bool) -> float:
        return 10.0 * state["hot"] * (0.8 if is_tuned else 1.0)

    def end_of_block() -> tuple[None, None]:
        state["blocks"] += 1
        if state["blocks"] == 2:
            state["hot"] = 1.6
        return None, None

    def cool_down() -> bool:
        state["asked"] += 1
        state["hot"] = 1.0 if cools else state["hot"]
        return cools

    evidence = compare_latency(run_ms, BlockRules(), cool_down=cool_down, conditions=end_of_block)
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
        # Each block has five processes, and the first is not part of it: the second of the fifth
        # block (untuned outside), or of the sixth.
        return 30.0 if ran == (23 if hit else 28) else 10.0

    evidence = compare_latency(run_ms, BlockRules(max_blocks=8), lot=TakingTurns())
    assert not any(block.thrown_out for block in evidence.blocks)
    outlier = evidence.blocks[4 if hit else 5]
    assert max(outlier.tuned_ms if hit else outlier.untuned_ms) == 30.0
