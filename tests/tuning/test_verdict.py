"""The verdict follows from the evidence, and from nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.results import Verdict
from droidmace.tuning.sequential import sequential_ratio
from droidmace.tuning.statistics import (
    PairedRatio,
    bootstrap_median,
    paired_ratio,
    share_at_most,
)
from droidmace.tuning.verdict import Evidence, Labels, judge

FASTER = PairedRatio(pairs=5, median=0.8, low=0.75, high=0.85, confidence=0.9375)
UNCLEAR = PairedRatio(pairs=5, median=0.95, low=0.85, high=1.05, confidence=0.9375)
SLOWER = PairedRatio(pairs=5, median=1.2, low=1.1, high=1.3, confidence=0.9375)

ALL_GOOD = Evidence(
    program_survives=True, startup=FASTER, latency=FASTER, labels=Labels(100, 1.0), finite=True
)


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (ALL_GOOD, Verdict.SHIP),
        (replace(ALL_GOOD, program_survives=False), Verdict.PARAMS_ONLY),
        (replace(ALL_GOOD, startup=UNCLEAR), Verdict.PARAMS_ONLY),
        (replace(ALL_GOOD, latency=UNCLEAR), Verdict.PROGRAM_ONLY),
        (replace(ALL_GOOD, latency=SLOWER), Verdict.PROGRAM_ONLY),
        (replace(ALL_GOOD, latency=SLOWER, startup=SLOWER), Verdict.NOTHING),
        (replace(ALL_GOOD, finite=False), Verdict.REJECT),
        (replace(ALL_GOOD, similarity=0.9), Verdict.REJECT),
    ],
)
def test_verdicts(evidence: Evidence, verdict: Verdict) -> None:
    assert judge(evidence).verdict is verdict


def test_every_verdict_says_why() -> None:
    crash = replace(ALL_GOOD, program_survives=False, why_program_fails="it crashed (139)")
    judgement = judge(crash)
    assert any("it crashed (139)" in reason for reason in judgement.reasons)
    assert any("0.800" in reason for reason in judgement.reasons)


def test_a_single_pair_proves_no_latency_gain() -> None:
    one = sequential_ratio([0.5])
    assert one.median == 0.5
    assert judge(replace(ALL_GOOD, latency=one)).verdict is Verdict.PROGRAM_ONLY


def labels(samples: int, unchanged: float, reference: float | None = None) -> Labels:
    return Labels(samples, unchanged, reference, 1.0 if reference is not None else None)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        # One odd label of 20 may be a draw between two classes; three of 100 are not.
        (labels(20, 0.95), Verdict.SHIP),
        (labels(100, 0.95), Verdict.REJECT),
        (labels(1000, 0.98), Verdict.REJECT),
        (labels(1000, 0.986), Verdict.SHIP),
        (labels(2, 0.0), Verdict.REJECT),
        (labels(1000, 1.0, 0.5), Verdict.REJECT),
        (labels(1000, 1.0, 0.999), Verdict.SHIP),
        (None, Verdict.SHIP),
    ],
)
def test_labels_reject_when_the_samples_prove_it(found: Labels | None, verdict: Verdict) -> None:
    assert judge(replace(ALL_GOOD, labels=found)).verdict is verdict


def test_a_model_that_was_wrong_before_is_not_blamed_on_tuning() -> None:
    judgement = judge(replace(ALL_GOOD, labels=Labels(1000, 1.0, 0.5, 0.5)))
    assert judgement.verdict is Verdict.REJECT
    assert "not at tuning" in judgement.reasons[0]


@pytest.mark.parametrize("untuned_finite", [True, False])
def test_nan_that_was_there_before_is_not_blamed_on_tuning(untuned_finite: bool) -> None:
    judgement = judge(replace(ALL_GOOD, finite=False, untuned_finite=untuned_finite))
    assert judgement.verdict is Verdict.REJECT
    assert ("not at tuning" in judgement.reasons[0]) is not untuned_finite


def test_a_bootstrap_covers_the_median_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_median(list(random.lognormal(0.0, 0.3, 30)))
        hits += low <= 1.0 <= high
    assert 0.88 * 200 <= hits <= 0.99 * 200


def test_a_bootstrap_is_the_same_every_time() -> None:
    ratios = [0.9, 0.95, 0.91, 0.97, 0.93]
    assert bootstrap_median(ratios) == bootstrap_median(ratios)
    assert bootstrap_median([0.9]) == (0.9, 0.9)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_median([])


@given(st.integers(1, 400), st.data())
def test_the_bound_of_a_share_is_the_exact_one(samples: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, samples - 1))
    bound = share_at_most(hits / samples, samples)
    chance = sum(
        math.comb(samples, k) * bound**k * (1 - bound) ** (samples - k) for k in range(hits + 1)
    )
    assert chance == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(
    ("pairs", "confidence", "low", "high"),
    # Tables of the sign test (Conover 1999, A3): at 8 pairs all lie within, at 9 one on each side
    # may lie outside.
    [
        (2, 0.5, 1, 2),
        (5, 0.9375, 1, 5),
        (6, 0.96875, 1, 6),
        (8, 0.9921875, 1, 8),
        (9, 0.9609375, 2, 8),
    ],
)
def test_the_interval_claims_no_more_than_it_knows(
    pairs: int, confidence: float, low: int, high: int
) -> None:
    ratio = paired_ratio([1.0] * pairs, [float(n) for n in range(pairs, 0, -1)])
    assert (ratio.confidence, ratio.low, ratio.high) == (confidence, low, high)


def test_a_clear_gain_has_an_interval_below_one() -> None:
    ratio = paired_ratio([10.0, 10.1, 9.9, 10.2, 10.0], [8.0, 8.1, 8.0, 8.2, 7.9])
    assert 0.78 < ratio.low <= ratio.median <= ratio.high < 0.82


def test_drift_that_hits_both_of_a_pair_cancels_out() -> None:
    before = [10.0, 20.0, 40.0, 80.0]
    assert paired_ratio(before, [0.9 * time for time in before]).high == pytest.approx(0.9)


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 1e6)), min_size=2, max_size=20))
def test_the_interval_holds_the_median_and_stays_within_the_ratios(
    pairs: list[tuple[float, float]],
) -> None:
    before, after = zip(*pairs, strict=True)
    ratio = paired_ratio(before, after)
    ratios = [b / a for a, b in pairs]
    assert min(ratios) <= ratio.low <= ratio.median * (1 + 1e-12)
    assert ratio.median <= ratio.high * (1 + 1e-12)
    assert ratio.high <= max(ratios) * (1 + 1e-12)


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0])])
def test_what_is_not_a_pair_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs|positive"):
        paired_ratio(before, after)
