"""A confidence interval for a median that may be looked at after every sample.

Whoever measures until a difference is "significant" finds one where there is none: an ordinary 95 %
interval, looked at after each of 24 blocks, excludes the truth far more often than once in 20
times. The interval here is a *confidence sequence*: the chance that it ever excludes the true
median, at whatever moment one stops, is at most 5 %.

How it works: were ``m`` the median, each sample would lie above it with chance 1/2, like a fair
coin. A gambler who bets on the coins being unfair, with a stake spread over all biases by a
symmetric beta distribution, owns ``2^n B(a + above, a + below) / B(a, a)`` after n of them. If the
coins are fair that is a martingale which starts at 1, and by Ville's inequality (Étude critique de
la notion de collectif, 1939) the chance that it ever reaches 20 is at most 1/20. The interval holds
every ``m`` against which the gambler owns less than that. The mixture is Robbins' (Annals of
Mathematical Statistics 41, 1970); the use for quantiles follows Howard and Ramdas (Bernoulli 28,
2022, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification"). Nothing is assumed of the samples' distribution, so outliers can stay in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from functools import cache

from droidmace.tuning.statistics import CONFIDENCE, PairedRatio

SHAPE = 0.25
"""Parameter of the beta mixture: the largest quarter with which six samples that all agree decide
(as soon as with any test at 5 %). Larger ones gain little later, smaller ones lose much when one
sample disagrees."""


class Finding(StrEnum):
    """What an interval says about a gain that would be worth having."""

    GAIN = "gain"
    NO_GAIN = "no gain"
    OPEN = "open"


def sequential_ratio(ratios: Sequence[float]) -> PairedRatio:
    """Median of the ratios, and the interval that holds the true one but for a chance of 5 %.

    With fewer than six ratios nothing is excluded: the interval is 0 to infinity.
    """
    if not ratios or min(ratios) <= 0:
        raise ValueError("positive ratios are needed, at least one")
    ordered = sorted(ratios)
    count = len(ordered)
    rank = _rank(count)
    return PairedRatio(
        pairs=count,
        median=statistics.median(ordered),
        low=ordered[rank - 1] if rank else 0.0,
        high=ordered[count - rank] if rank else math.inf,
        confidence=CONFIDENCE,
    )


def finding(ratio: PairedRatio, min_gain: float) -> Finding:
    """Whether a gain of ``min_gain`` (a share of 1) or more is proven, disproven, or open."""
    limit = 1.0 - min_gain
    if ratio.high <= limit:
        return Finding.GAIN
    if ratio.low > limit:
        return Finding.NO_GAIN
    return Finding.OPEN


@cache
def _rank(count: int) -> int:
    """The interval goes from the rank-th smallest to the rank-th largest sample; 0: unbounded.

    A median below the k-th smallest sample has at most k - 1 samples below it, which must be
    refuted for every k up to the rank.
    """
    rank = 0
    while 2 * (rank + 1) <= count and _log_wealth(count, rank) >= -math.log(1.0 - CONFIDENCE):
        rank += 1
    return rank


def _log_wealth(count: int, below: int) -> float:
    """Log of what the gambler owns against a median with ``below`` of ``count`` samples below."""
    above = count - below
    return count * math.log(2) + _log_beta(SHAPE + above, SHAPE + below) - _log_beta(SHAPE, SHAPE)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
