"""Ratios of samples that were not taken in pairs: two sessions, another day, another program.

Where both variants are at hand, interleaved blocks (:mod:`droidmace.tuning.latency`) tell more:
here nothing takes out what changed between the sessions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from droidmace.tuning.statistics import CONFIDENCE

MAX_SAMPLES = 1000
"""Of either side: all pairs of both are looked at."""

_EXACT_PAIRS = 2500
"""Up to so many pairs the distribution is counted; beyond, the normal one is close enough."""


@dataclass(frozen=True, slots=True)
class UnpairedRatio:
    """By what factor ``after`` samples are larger than ``before`` samples, and how sure that is.

    ``low`` and ``high`` bound the true factor with ``confidence``, which is 0.95 or a little more;
    with fewer than four samples on each side they are 0 and infinity, with confidence 0.
    """

    before: int
    after: int
    median: float
    low: float
    high: float
    confidence: float


def unpaired_ratio(before: Sequence[float], after: Sequence[float]) -> UnpairedRatio:
    """Compare two independent samples of positive figures.

    The estimate is Hodges and Lehmann's (Annals of Mathematical Statistics 34, 1963) on a
    logarithmic scale: the median of all ratios of one from each side. The interval is the one that
    belongs to Mann and Whitney's test (Annals of Mathematical Statistics 18, 1947): it goes from
    the k-th smallest to the k-th largest of these ratios. Nothing is assumed of the distribution
    but that both sides have the same up to a factor; ties make the interval wider than need be.
    Raises ``ValueError`` for figures that are not positive, or too few or too many.
    """
    if not 1 <= len(before) <= MAX_SAMPLES or not 1 <= len(after) <= MAX_SAMPLES:
        raise ValueError(f"{len(before)} and {len(after)} samples cannot be compared")
    if not all(0 < value < math.inf for value in (*before, *after)):
        raise ValueError("figures must be positive and finite")
    ratios = sorted(b / a for a in before for b in after)
    rank, confidence = _rank(*sorted((len(before), len(after))))
    return UnpairedRatio(
        before=len(before),
        after=len(after),
        median=statistics.median(ratios),
        low=ratios[rank - 1] if rank else 0.0,
        high=ratios[-rank] if rank else math.inf,
        confidence=confidence,
    )


@cache
def _rank(smaller: int, larger: int) -> tuple[int, float]:
    """The largest rank that leaves no more than 5 % outside, and the confidence that it gives.

    0 and 0.0 if even the extremes leave out more.
    """
    pairs = smaller * larger
    if pairs > _EXACT_PAIRS:
        return _normal_rank(smaller, larger)
    total = math.comb(smaller + larger, smaller)
    rank = outside = 0
    for count in _counts(smaller, larger):
        if 2 * (outside + count) > (1.0 - CONFIDENCE) * total:
            break
        outside += count
        rank += 1
    return rank, 1.0 - 2 * outside / total if rank else 0.0


def _counts(smaller: int, larger: int) -> list[int]:
    """In how many orders of both samples so many pairs are inverted: 0, 1, 2, … of them.

    The coefficients of Gauss's binomial: the product of (1 - q^(larger + i)) / (1 - q^i).
    """
    length = smaller * larger // 2 + 1  # the other half mirrors it
    counts = [1] + [0] * (length - 1)
    for i in range(1, smaller + 1):
        for at in range(length - 1, larger + i - 1, -1):
            counts[at] -= counts[at - larger - i]
        for at in range(i, length):
            counts[at] += counts[at - i]
    return counts


def _normal_rank(smaller: int, larger: int) -> tuple[int, float]:
    mean = smaller * larger / 2
    deviation = math.sqrt(smaller * larger * (smaller + larger + 1) / 12)
    normal = statistics.NormalDist(mean, deviation)
    # Rank k leaves out what has k - 1 inverted pairs or fewer; half a step for continuity.
    rank = math.floor(normal.inv_cdf((1.0 - CONFIDENCE) / 2) + 0.5)
    return rank, 1.0 - 2 * normal.cdf(rank - 0.5)
