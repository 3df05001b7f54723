"""Which choice of each group has won, by noisy samples.

The smallest of many single samples is mostly a lucky one. So a choice is judged by what its samples
leave to expect (a Bayesian mean): few samples count for little against what the group's choices
take as a rule, many speak for themselves. All of it in logarithms, in which noise is about the same
for short and long kernels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from droidmace.tuning.search import Choice, GroupHistory, History

PRIOR_NOISE = 0.08
"""Noise of a sample's logarithm as long as nothing was measured twice: rather too much, so that
what looks best is looked at again and shows how noisy the device is."""
_PRIOR_SAMPLES = 6.0
_LEAST_SPREAD = 0.02
"""Choices differ at least by so much (standard deviation of their logarithms)."""


def noise_of(histories: Iterable[GroupHistory]) -> float:
    """Standard deviation of a sample's logarithm, pooled over all choices with several."""
    squares, freedom = PRIOR_NOISE**2 * _PRIOR_SAMPLES, _PRIOR_SAMPLES
    for history in histories:
        for samples in history.samples.values():
            if len(samples) > 1:
                logs = [_log(sample) for sample in samples]
                squares += statistics.variance(logs) * (len(logs) - 1)
                freedom += len(logs) - 1
    return math.sqrt(squares / freedom)


def typical_ms(samples: Sequence[float]) -> float:
    """The centre of a choice's samples: their geometric mean, without the extremes of many."""
    ordered = sorted(samples)
    cut = len(ordered) // 5
    return math.exp(statistics.fmean(_log(one) for one in ordered[cut : len(ordered) - cut]))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a choice stands: expected logarithm of its time (ms), and how sure that is."""

    expected: float
    deviation: float
    samples: int


def standings(history: GroupHistory, noise: float) -> dict[Choice, Standing]:
    """What is to be expected of every measured choice of a group."""
    found = {
        choice: (math.log(typical_ms(samples)), len(samples))
        for choice, samples in history.samples.items()
        if samples
    }
    if not found:
        return {}
    usual, spread = _usual(list(found.values()), noise)
    result = {}
    for choice, (seen, count) in found.items():
        doubt = noise**2 / count
        share = spread**2 / (spread**2 + doubt)
        result[choice] = Standing(usual + share * (seen - usual), math.sqrt(share * doubt), count)
    return result


def chosen(history: History) -> dict[str, Choice]:
    """The winner of every group so far; the default of a group without samples."""
    noise = noise_of(history.groups.values())
    return {name: winner(group, noise) for name, group in history.groups.items()}


def winner(history: GroupHistory, noise: float) -> Choice:
    """The choice that is expected to be the fastest; of equals the first that was measured."""
    stand = standings(history, noise)
    return min(stand, key=lambda choice: stand[choice].expected, default=history.group.default)


def contenders(history: GroupHistory, noise: float, most: int) -> list[Choice]:
    """Choices that more samples could still make the winner, the likeliest first."""
    stand = standings(history, noise)
    if not stand:
        return []
    best = min(stand.values(), key=lambda one: one.expected)

    def hopeful(one: Standing) -> bool:
        blur = math.hypot(one.deviation, best.deviation)
        return one.expected - best.expected <= 2.0 * blur

    found = [choice for choice, one in stand.items() if hopeful(one)]
    return sorted(found, key=lambda choice: stand[choice].expected)[:most]


def _usual(found: Sequence[tuple[float, int]], noise: float) -> tuple[float, float]:
    """What the good half of a group's choices takes, and how much its choices differ."""
    seen = sorted(value for value, _ in found)
    usual = seen[len(seen) // 2]
    quarter = seen[len(seen) // 4]
    doubt = statistics.fmean(noise**2 / count for _, count in found)
    # of a normal distribution, a quarter lies more than 0.674 deviations below the middle
    spread = ((usual - quarter) / 0.674) ** 2 - doubt
    return usual, math.sqrt(max(spread, _LEAST_SPREAD**2))


def _log(sample_ms: float) -> float:
    return math.log(max(sample_ms, 1e-9))
