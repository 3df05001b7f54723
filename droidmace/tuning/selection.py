"""Which choice of each group has won, by noisy samples.

The smallest of many single samples is mostly a lucky one. So a choice is judged by the time that
it stays below rather than by its median alone: median times exp(noise / sqrt(samples)), where the
noise (the standard deviation of a sample's logarithm) comes from choices measured more than once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from droidmace.tuning.search import Choice, GroupHistory, History

PRIOR_NOISE = 0.02
"""Noise of a sample's logarithm as long as nothing was measured twice."""
_PRIOR_SAMPLES = 6.0


def noise_of(histories: Iterable[GroupHistory]) -> float:
    """Standard deviation of a sample's logarithm, pooled over all choices with several."""
    squares, freedom = PRIOR_NOISE**2 * _PRIOR_SAMPLES, _PRIOR_SAMPLES
    for history in histories:
        for samples in history.samples.values():
            if len(samples) > 1:
                logs = [math.log(max(sample, 1e-9)) for sample in samples]
                squares += statistics.variance(logs) * (len(logs) - 1)
                freedom += len(logs) - 1
    return math.sqrt(squares / freedom)


def cautious_ms(samples: list[float], noise: float) -> float:
    """A time that the choice is likely to stay below."""
    return statistics.median(samples) * math.exp(noise / math.sqrt(len(samples)))


def chosen(history: History) -> dict[str, Choice]:
    """The winner of every group so far; the default of a group without samples."""
    if not history.groups:
        return {}
    shared = noise_of(history.groups.values())
    return {name: winner(group, shared) for name, group in history.groups.items()}


def winner(history: GroupHistory, noise: float) -> Choice:
    """The choice with the smallest cautious time; of equals the first that was measured."""
    return min(
        (choice for choice in history.samples if history.samples[choice]),
        key=lambda choice: cautious_ms(history.samples[choice], noise),
        default=history.group.default,
    )


def contenders(history: GroupHistory, noise: float, most: int) -> list[Choice]:
    """Choices that more samples could still make the winner, the likeliest first."""
    best = winner(history, noise)
    if best not in history.samples:
        return []
    limit = cautious_ms(history.samples[best], noise)

    def hopeful_ms(choice: Choice) -> float:
        samples = history.samples[choice]
        return statistics.median(samples) * math.exp(-2.0 * noise / math.sqrt(len(samples)))

    found = [choice for choice in history.samples if hopeful_ms(choice) <= limit]
    return sorted(found, key=lambda choice: cautious_ms(history.samples[choice], noise))[:most]
