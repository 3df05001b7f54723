"""Ratios of paired samples, and shares of counted ones, with confidence intervals.

Phones drift: they warm up, and other work comes and goes. So two variants are measured in
interleaved pairs, and what is judged is the ratio within each pair, not two separate means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """Median of ``after / before`` over pairs, and how sure that is.

    ``low`` and ``high`` bound the true median with ``confidence``: 0.95 or a little more, and less
    than that if there are too few pairs for it, whose smallest and largest ratio they then are. A
    single pair says nothing of the spread: 0 to infinity, with confidence 0.
    """

    pairs: int
    median: float
    low: float
    high: float
    confidence: float


def paired_ratio(before: Sequence[float], after: Sequence[float]) -> PairedRatio:
    """Compare samples taken in pairs; both sequences hold positive times of equal count.

    The interval is the sign test's: between the k-th smallest and the k-th largest ratio lies the
    true median but for the chance that fewer than k of n fair coins fall on one side (Conover,
    Practical Nonparametric Statistics, 1999, section 3.2). It holds for any distribution and any
    number of pairs, where a bootstrap of a handful claims more than it knows.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} samples do not make pairs")
    if min(*before, *after) <= 0:
        raise ValueError("times must be positive")
    ratios = sorted(b / a for a, b in zip(before, after, strict=True))
    pairs = len(ratios)
    median = statistics.median(ratios)
    if pairs == 1:
        return PairedRatio(pairs, median, low=0.0, high=math.inf, confidence=0.0)
    rank = 1
    while _coverage(pairs, rank + 1) >= CONFIDENCE:
        rank += 1
    return PairedRatio(
        pairs, median, ratios[rank - 1], ratios[pairs - rank], _coverage(pairs, rank)
    )


def bootstrap_median(samples: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Where the median lies when samples are drawn anew from these: the middle 95 % of the draws.

    Efron's percentile interval (Annals of Statistics 7, 1979). It describes the samples well, and
    is narrower than what is known if there are few or if they were looked at while they came: so it
    is told, and nothing is decided by it. The same seed gives the same interval.
    """
    if not samples:
        raise ValueError("a bootstrap needs at least one sample")
    drawn = np.random.default_rng(seed).choice(np.asarray(samples), (_RESAMPLES, len(samples)))
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(drawn, axis=1), (tail, 1.0 - tail))
    return float(low), float(high)


def _coverage(pairs: int, rank: int) -> float:
    """Chance that the true median lies between the rank-th smallest and the rank-th largest."""
    outside = 2 * sum(math.comb(pairs, index) for index in range(rank))
    return 1.0 - math.ldexp(outside, -pairs)


def share_at_most(share: float, samples: int, confidence: float = CONFIDENCE) -> float:
    """The largest true share that a share of 1 seen in so many samples does not refute.

    The upper end of Clopper and Pearson's exact one-sided interval (Biometrika 26, 1934): with it,
    so few hits or fewer come up with chance ``1 - confidence``. Found by halving.
    """
    if samples < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} in {samples} samples")
    hits = round(share * samples)
    if hits == samples:
        return 1.0
    low, high = share, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _chance_of_at_most(hits, samples, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _chance_of_at_most(hits: int, samples: int, share: float) -> float:
    """Of a binomial distribution; the misses are summed, which are few."""
    if share >= 1.0:
        return 0.0
    misses_log = math.log1p(-share)
    hits_log = math.log(share) if share > 0 else -math.inf
    chance_of_fewer_misses = math.fsum(
        math.exp(
            math.lgamma(samples + 1)
            - math.lgamma(misses + 1)
            - math.lgamma(samples - misses + 1)
            + misses * misses_log
            + (samples - misses) * hits_log
        )
        for misses in range(samples - hits)
    )
    return max(0.0, 1.0 - chance_of_fewer_misses)
