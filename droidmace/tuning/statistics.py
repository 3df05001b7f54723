"""Ratios of paired samples, with a confidence interval.

Phones drift: they warm up, and other work comes and goes. So two variants are measured in
interleaved pairs, and what is judged is the ratio within each pair, not two separate means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BOOTSTRAP_RESAMPLES = 10_000
CONFIDENCE = 0.95
_SEED = 20_210_302
"""Fixed, so that the same samples always give the same verdict."""


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """Median of ``after / before`` over pairs, with its bootstrap interval (percentiles).

    With a single pair nothing is known about the spread: the interval is then 0 to infinity.
    """

    pairs: int
    median: float
    low: float
    high: float


def paired_ratio(before: Sequence[float], after: Sequence[float]) -> PairedRatio:
    """Compare samples taken in pairs; both sequences hold positive times of equal count.

    Percentile bootstrap on the median (Efron and Tibshirani, 1993, chapter 13).
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} samples do not make pairs")
    if min(*before, *after) <= 0:
        raise ValueError("times must be positive")
    ratios = np.asarray(after, dtype=np.float64) / np.asarray(before, dtype=np.float64)
    median = float(np.median(ratios))
    if len(ratios) == 1:
        return PairedRatio(pairs=1, median=median, low=0.0, high=float("inf"))
    generator = np.random.default_rng(_SEED)
    picks = generator.integers(0, len(ratios), size=(BOOTSTRAP_RESAMPLES, len(ratios)))
    medians = np.median(ratios[picks], axis=1)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, [tail, 1.0 - tail])
    return PairedRatio(pairs=len(ratios), median=median, low=float(low), high=float(high))
