"""Intervals and tests of counts, against published figures and exact computations."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.validation.intervals import mcnemar, paired_difference, wilson


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in
        # Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(count: int, of: int, low: float, high: float) -> None:
    found = wilson(count, of)
    assert found == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 50_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilson_ends_are_where_the_score_test_turns(share: tuple[int, int]) -> None:
    count, of = share
    low, high = wilson(count, of)
    assert 0 <= low <= count / of <= high <= 1
    assert low < high
    # By definition: at each end the share is 1.96 standard errors of that end away.
    for end in {low, high} - {0.0, 1.0}:
        distance = abs(count / of - end) / math.sqrt(end * (1 - end) / of)
        assert distance == pytest.approx(1.959964, rel=1e-5)


def test_wilson_of_nothing_all_and_none() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 1)[0] == 0.0
    assert wilson(1, 1)[1] == 1.0
    low, high = wilson(7, 7, 0.99)
    assert wilson(0, 7, 0.99) == (0.0, pytest.approx(1 - low))
    assert high == 1.0
    assert wilson(5, 10, 0.99)[0] < wilson(5, 10, 0.9)[0]


@pytest.mark.parametrize(("count", "of"), [(-1, 3), (4, 3), (1, 0)])
def test_no_share(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        wilson(count, of)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_no_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        wilson(1, 2, confidence)


def exact_mcnemar(one: int, other: int) -> Fraction:
    """By counting coin tosses."""
    total = one + other
    tail = sum(math.comb(total, k) for k in range(min(one, other) + 1))
    return min(Fraction(1), Fraction(2 * tail, 2**total))


def test_mcnemar_as_published() -> None:
    # M. W. Fagerland and others, "The McNemar test for binary matched-pairs data", BMC Medical
    # Research Methodology 13 (2013): airway hyper-responsiveness, exact conditional test.
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_tail(one: int, other: int) -> None:
    assert mcnemar(one, other) == pytest.approx(float(exact_mcnemar(one, other)), rel=1e-10)
    assert mcnemar(one, other) == mcnemar(other, one)


def test_mcnemar_of_many_and_of_none() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5000) == 0.0
    assert mcnemar(1400, 1600) == pytest.approx(float(exact_mcnemar(1400, 1600)), rel=1e-9)
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 0)


def test_difference_covers_the_true_one_as_often_as_it_says() -> None:
    """All outcomes of 30 pairs, weighed: no simulation."""
    of, one, other = 30, 0.15, 0.05
    covered = 0.0
    for a in range(of + 1):
        for b in range(of + 1 - a):
            ways = math.comb(of, a) * math.comb(of - a, b)
            weight = ways * one**a * other**b * (1 - one - other) ** (of - a - b)
            low, high = paired_difference(a, b, of)
            covered += weight * (low <= one - other <= high)
    assert 0.94 < covered < 0.985


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 1000))
def test_difference_holds_the_found_one_and_turns_with_it(one: int, other: int, same: int) -> None:
    of = one + other + same
    low, high = paired_difference(one, other, of)
    assert -1 <= low < high <= 1
    # One sample more of each kind draws the middle towards 0, never past it.
    if of:
        assert low <= (one - other) / (of + 2) <= high
    assert paired_difference(other, one, of) == (pytest.approx(-high), pytest.approx(-low))


def test_difference_of_nothing_and_of_nonsense() -> None:
    assert paired_difference(0, 0, 0) == (-1.0, 1.0)
    low, high = paired_difference(0, 0, 10_000)
    assert low == -high
    assert 0 < high < 0.001
    with pytest.raises(ValueError, match="not parts of 3"):
        paired_difference(2, 2, 3)
