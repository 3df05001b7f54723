"""How sure a counted share is, and whether two classifiers differ on the same samples."""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95
"""Of every interval, unless another is asked for."""

_NEGLIGIBLE = 1e-18


def wilson(count: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of the share ``count / of``; (0, 1) of nothing.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927), without continuity correction. Unlike the
    textbook's ``p ± z·s`` it stays within 0 and 1 and has a width at shares of 0 and 1.
    """
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of} is not a share")
    if of == 0:
        return 0.0, 1.0
    z = _quantile(confidence)
    share = count / of
    spread = z * z / of
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    # At the ends one limit is 0 or 1 by definition; rounding must not move it inside.
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == of else min(1.0, centre + half)
    return low, high


def mcnemar(only_one: int, only_other: int) -> float:
    """McNemar's exact test, two-sided: the p-value of two classifiers being equally good.

    ``only_one`` and ``only_other`` count the samples that just one of them has right. If they are
    equally good, each such sample is a fair coin: twice the binomial tail, at most 1; 1 without any
    such sample. (Q. McNemar, Psychometrika 12, 1947; the exact form is the sign test.)
    """
    if only_one < 0 or only_other < 0:
        raise ValueError("counts are not negative")
    total, fewer = only_one + only_other, min(only_one, only_other)
    if 2 * fewer >= total:
        return 1.0
    # The tail from its largest term downwards: each next one is that times k / (n - k + 1).
    log_largest = (
        math.lgamma(total + 1)
        - math.lgamma(fewer + 1)
        - math.lgamma(total - fewer + 1)
        - total * math.log(2)
    )
    tail = term = 1.0
    for k in range(fewer, 0, -1):
        term *= k / (total - k + 1)
        tail += term
        if term < tail * _NEGLIGIBLE:
            break
    return min(1.0, 2 * math.exp(log_largest) * tail)


def paired_difference(
    only_one: int, only_other: int, of: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval of the difference between two shares right on the same ``of`` samples.

    Bonett and Price's adjusted Wald interval ("Adjusted Wald confidence interval for a difference
    of binomial proportions based on paired data", Journal of Educational and Behavioral Statistics
    37, 2012): one sample is added to each kind that only one has right, so that the interval has
    a width even where the two never differ. (-1, 1) of nothing.
    """
    if min(only_one, only_other) < 0 or only_one + only_other > of:
        raise ValueError(f"{only_one} and {only_other} are not parts of {of} samples")
    if of == 0:
        return -1.0, 1.0
    one, other = (only_one + 1) / (of + 2), (only_other + 1) / (of + 2)
    difference = one - other
    half = _quantile(confidence) * math.sqrt((one + other - difference**2) / (of + 2))
    return max(-1.0, difference - half), min(1.0, difference + half)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)
