"""The interval for samples that are no pairs: against counting, against tables, by simulation."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.tuning import unpaired
from droidmace.tuning.unpaired import UnpairedRatio, unpaired_ratio

TIMES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30)


def coverage_by_counting(before: int, after: int, rank: int) -> float:
    """Go through all orders of both samples: how often does the k-th ratio exceed 1, or so."""
    orders = list(itertools.combinations(range(before + after), after))
    outside = 0
    for places in orders:
        others = [place for place in range(before + after) if place not in places]
        inverted = sum(place < other for place in places for other in others)
        outside += inverted < rank or before * after - inverted < rank
    return 1.0 - outside / len(orders)


@pytest.mark.parametrize(("before", "after"), [(4, 4), (3, 6), (5, 5), (2, 8), (6, 4), (1, 9)])
def test_the_interval_is_the_widest_that_leaves_out_five_percent(before, after):
    found = unpaired_ratio([1.0] * before, [1.0] * after)
    rank, confidence = unpaired._rank(*sorted((before, after)))
    assert confidence == pytest.approx(coverage_by_counting(before, after, rank) if rank else 0.0)
    assert coverage_by_counting(before, after, rank + 1) < 0.95
    assert found.confidence == confidence


@pytest.mark.parametrize(
    ("before", "after", "rank"),
    # Two-sided critical values at 5 % plus one: Mann and Whitney's table in any textbook.
    [(3, 3, 0), (4, 4, 1), (5, 5, 3), (8, 8, 14), (10, 10, 24), (15, 20, 91), (20, 20, 128)],
)
def test_ranks_are_those_of_the_tables(before, after, rank):
    assert unpaired._rank(before, after)[0] == rank


def test_the_normal_distribution_takes_over_where_it_is_close():
    exact = unpaired._rank(50, 50)
    normal = unpaired._normal_rank(50, 50)
    assert abs(exact[0] - normal[0]) <= 1
    assert exact[1] == pytest.approx(normal[1], abs=0.002)


def test_too_few_samples_bound_nothing():
    found = unpaired_ratio([1.0, 1.1, 1.2], [2.0, 2.1, 2.2])
    assert (found.low, found.high, found.confidence) == (0.0, math.inf, 0.0)
    assert found.median == pytest.approx(2.1 / 1.1)


def test_a_factor_is_found():
    generator = random.Random(1)
    before = [generator.lognormvariate(0, 0.05) for _ in range(30)]
    after = [1.3 * generator.lognormvariate(0, 0.05) for _ in range(30)]
    found = unpaired_ratio(before, after)
    assert found.low < 1.3 < found.high
    assert found.high / found.low < 1.1
    assert found.confidence >= 0.95


def test_the_true_factor_is_inside_as_often_as_it_says():
    generator = random.Random(2)
    trials, missed = 2000, 0
    for _ in range(trials):
        # One process in ten is disturbed.
        before, after = (
            [
                generator.lognormvariate(0, 0.03) * (3 if generator.random() < 0.1 else 1)
                for _ in range(7)
            ]
            for _ in range(2)
        )
        found = unpaired_ratio(before, after)
        missed += not found.low <= 1.0 <= found.high
    # The exact chance is 0.0379 (5 % and less); four standard deviations above that.
    assert missed <= 0.0379 * trials + 4 * math.sqrt(trials * 0.0379)
    assert missed > 0.01 * trials


@given(TIMES, TIMES)
def test_swapping_sides_inverts_the_ratio(before, after):
    there, back = unpaired_ratio(before, after), unpaired_ratio(after, before)
    assert there.low <= there.median <= there.high
    assert there.confidence == back.confidence
    if there.low:
        assert there.low == pytest.approx(1 / back.high)
        assert there.high == pytest.approx(1 / back.low)


@given(TIMES, TIMES, st.floats(0.1, 10))
def test_a_common_factor_goes_through(before, after, factor):
    plain = unpaired_ratio(before, after)
    scaled = unpaired_ratio(before, [factor * value for value in after])
    assert scaled.median == pytest.approx(factor * plain.median)
    assert scaled.high == pytest.approx(factor * plain.high)


@pytest.mark.parametrize(
    "bad", [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0], [math.inf]), ([1.0], [math.nan])]
)
def test_what_cannot_be_compared_is_refused(bad):
    with pytest.raises(ValueError, match=r"samples|positive"):
        unpaired_ratio(*bad)


def test_as_many_samples_as_there_may_be():
    found = unpaired_ratio([1.0] * unpaired.MAX_SAMPLES, [2.0] * unpaired.MAX_SAMPLES)
    assert isinstance(found, UnpairedRatio)
    assert (found.low, found.high) == (2.0, 2.0)
    assert found.confidence == pytest.approx(0.95, abs=0.001)
