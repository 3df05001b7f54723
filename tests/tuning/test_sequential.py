"""An interval that may be looked at after every sample keeps its word all the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.tuning.sequential import Finding, finding, sequential_ratio
from droidmace.tuning.statistics import PairedRatio, paired_ratio

RATIOS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=40)


def test_six_that_agree_decide_and_five_do_not() -> None:
    assert sequential_ratio([0.7] * 5).high == math.inf
    six = sequential_ratio([0.7, 0.71, 0.72, 0.73, 0.74, 0.75])
    assert (six.low, six.high) == (0.7, 0.75)


def ever_wrong(seed: int, interval: object) -> bool:
    """Whether the interval excludes the true median (1) at any of 60 looks."""
    ratios = list(np.exp(np.random.default_rng(seed).standard_t(2, 60) * 0.05))
    looks = (interval(ratios[:count]) for count in range(1, 61))  # type: ignore[operator]
    return any(not look.low <= 1.0 <= look.high for look in looks)


def test_the_truth_is_excluded_at_any_look_in_at_most_one_of_twenty() -> None:
    wrong = sum(ever_wrong(seed, sequential_ratio) for seed in range(400))
    assert wrong <= 400 * 0.05


def test_an_ordinary_interval_would_not_stand_that() -> None:
    def fixed(ratios: list[float]) -> PairedRatio:
        found = paired_ratio([1.0] * len(ratios), ratios)
        sure = found.confidence >= 0.95
        return found if sure else PairedRatio(found.pairs, found.median, 0.0, math.inf, 0.95)

    assert sum(ever_wrong(seed, fixed) for seed in range(400)) > 400 * 0.1


@given(RATIOS)
def test_the_interval_holds_the_median_of_the_samples(ratios: list[float]) -> None:
    found = sequential_ratio(ratios)
    assert found.low <= found.median <= found.high
    assert found.pairs == len(ratios)


@given(RATIOS)
def test_it_claims_no_more_than_an_interval_for_one_look(ratios: list[float]) -> None:
    found, once = sequential_ratio(ratios), paired_ratio([1.0] * len(ratios), ratios)
    if math.isfinite(found.high):
        assert found.low <= once.low * (1 + 1e-12)
        assert found.high >= once.high * (1 - 1e-12)


@given(RATIOS, st.floats(0.1, 10.0))
def test_it_scales_with_its_samples(ratios: list[float], factor: float) -> None:
    one, other = sequential_ratio(ratios), sequential_ratio([r * factor for r in ratios])
    assert other.low == pytest.approx(one.low * factor)
    assert other.high == pytest.approx(one.high * factor)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.9, 0.98, Finding.GAIN),
        (0.9, 0.99, Finding.GAIN),
        (0.9, 0.995, Finding.OPEN),
        (0.992, 1.1, Finding.NO_GAIN),
        (0.0, math.inf, Finding.OPEN),
    ],
)
def test_a_gain_counts_if_its_whole_interval_does(low: float, high: float, found: Finding) -> None:
    assert finding(PairedRatio(9, (low + high) / 2, low, high, 0.95), 0.01) is found


@pytest.mark.parametrize("ratios", [[], [1.0, 0.0], [-1.0]])
def test_what_is_no_ratio_is_refused(ratios: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        sequential_ratio(ratios)
