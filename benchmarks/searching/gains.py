"""What there is to gain: the best of all local sizes against MACE's own list and its default.

The smallest of a thousand noisy times is a lucky one, so nothing is judged by the samples it was
chosen by: choices are made by one half of each candidate's samples, at random, and judged by the
other half, again and again with other halves.

That is what a search can get. What there *is* may be more, where half the samples do not tell the
best from the lucky. So luck is simulated too: were the candidates as fast as they are estimated to
be, and measured again with the noise that was seen, how far below the truly best would the luckiest
fall? What was seen less that luck is the estimate of the best; with the seen centres as the truth
for the simulation, which differ more than the true ones and leave less to luck, it is a bound.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from droidmace.tuning.journal import JournalContent
from droidmace.tuning.search import Choice, GroupHistory, History
from droidmace.tuning.selection import noise_of, standings, typical_ms, winner
from droidmace.tuning.space import build_groups, mace_part

SPLITS = 20
REPLICATES = 100
_RUNS, _ENOUGH_MS, _TOO_MUCH_MS = 10, 100.0, 200.0
"""When MACE's tuner has measured a candidate enough (``mace/utils/tuner.h``)."""

Floats = npt.NDArray[np.float64]


def gains(content: JournalContent) -> dict[str, Any]:
    """Totals (ms) over all keys, means over the splits; and shares of what MACE's list takes.

    ``gain_if_luck_counted``: by the samples that chose, which no search can count on;
    ``gain_estimate`` and ``gain_bound``: the same without the luck that is to be expected.
    """
    history = History(build_groups(content.groups))
    for record in content.records():
        history.add(record)
    groups = {
        name: group
        for name, group in history.groups.items()
        if group.group.default in group.samples
    }
    splits = [_split(groups, random.Random(seed)) for seed in range(SPLITS)]
    totals = {name: statistics.fmean(one[name] for one in splits) for name in splits[0]}
    optimistic_ms = sum(min(map(typical_ms, one.samples.values())) for one in groups.values())
    optimistic_list_ms = sum(
        min(typical_ms(one.samples[choice]) for choice in _mace_choices(one))
        for one in groups.values()
    )
    shares = [1.0 - one["best"] / one["mace_list"] for one in splits]
    return {
        "keys": len(groups),
        "candidates": sum(len(one.samples) for one in groups.values()),
        "samples": sum(len(times) for one in groups.values() for times in one.samples.values()),
        "sample_noise": round(noise_of(groups.values()), 4),
        "total_ms": {name: round(value, 5) for name, value in totals.items()},
        "optimistic_ms": round(optimistic_ms, 5),
        "gain_over_mace_list": round(statistics.fmean(shares), 4),
        "gain_over_mace_list_range": [round(min(shares), 4), round(max(shares), 4)],
        "gain_over_mace_tuner": round(1.0 - totals["best"] / totals["mace_tuner"], 4),
        "gain_over_default": round(1.0 - totals["best"] / totals["default"], 4),
        "gain_if_luck_counted": round(1.0 - optimistic_ms / optimistic_list_ms, 4),
        "gain_estimate": _without_luck(groups, shrunk=True),
        "gain_bound": _without_luck(groups, shrunk=False),
    }


def _without_luck(groups: Mapping[str, GroupHistory], *, shrunk: bool) -> float:
    """The gain over MACE's list, both freed of the luck that is to be expected."""
    generator = np.random.default_rng(0)
    noise = noise_of(groups.values())
    best_ms = list_ms = 0.0
    for group in groups.values():
        choices = [choice for choice, times in group.samples.items() if times]
        counts = [len(group.samples[choice]) for choice in choices]
        seen = np.array([math.log(typical_ms(group.samples[choice])) for choice in choices])
        truth = seen
        if shrunk:
            stand = standings(group, noise)
            truth = np.array([stand[choice].expected for choice in choices])
        again = truth + _noise_of_centres(group, counts, generator)
        own = [choices.index(choice) for choice in _mace_choices(group)]
        everything = list(range(len(choices)))
        best_ms += _typical_minimum_ms(seen, truth, again, everything)
        list_ms += _typical_minimum_ms(seen, truth, again, own)
    return round(1.0 - best_ms / list_ms, 4)


def _typical_minimum_ms(seen: Floats, truth: Floats, again: Floats, places: list[int]) -> float:
    luck = float(np.mean(np.min(again[:, places], axis=1))) - float(np.min(truth[places]))
    return math.exp(float(np.min(seen[places])) - luck)


def _noise_of_centres(
    group: GroupHistory, counts: Sequence[int], generator: np.random.Generator
) -> Floats:
    """How far off the centres of so many samples are: replicates by choices, logarithms."""
    residuals: list[float] = []
    for times in group.samples.values():
        if len(times) > 2:
            logs = np.log(times)
            spread = math.sqrt(len(times) / (len(times) - 1))
            residuals += ((logs - logs.mean()) * spread).tolist()
    found = np.empty((REPLICATES, len(counts)))
    for place, count in enumerate(counts):
        drawn = np.sort(generator.choice(residuals, (REPLICATES, count)), axis=1)
        cut = count // 5
        found[:, place] = drawn[:, cut : count - cut].mean(axis=1)
    return found


def _split(groups: Mapping[str, GroupHistory], generator: random.Random) -> dict[str, float]:
    """Totals of choices made by one half of the samples, as the other half tells them."""
    totals = dict.fromkeys(("default", "mace_list", "mace_tuner", "best_raw", "best"), 0.0)
    halves = {name: _halves(group, generator) for name, group in groups.items()}
    seen = {name: GroupHistory(groups[name].group, dict(half[0])) for name, half in halves.items()}
    noise = noise_of(seen.values())
    for name, group in groups.items():
        judged, history = halves[name][1], seen[name]
        own = _mace_choices(group)
        listed = GroupHistory(group.group, {choice: history.samples[choice] for choice in own})
        chosen = {
            "default": group.group.default,
            "mace_list": winner(listed, noise),
            "mace_tuner": min(own, key=lambda one: _tuner_mean_ms(history.samples[one], generator)),
            "best_raw": min(history.samples, key=lambda one: typical_ms(history.samples[one])),
            "best": winner(history, noise),
        }
        for what, choice in chosen.items():
            totals[what] += typical_ms(judged[choice])
    return totals


def _halves(
    group: GroupHistory, generator: random.Random
) -> tuple[dict[Choice, list[float]], dict[Choice, list[float]]]:
    first, second = {}, {}
    for choice, times in group.samples.items():
        order = generator.sample(times, len(times))
        half = max(len(order) // 2, 1)
        first[choice], second[choice] = order[:half], order[half:] or order
    return first, second


def _mace_choices(group: GroupHistory) -> list[Choice]:
    """What MACE's own tuner would try of the group's one key, as far as it was recorded."""
    (space,) = group.group.keys
    tried: list[Choice] = [(params,) for params in mace_part(space)]
    own = [choice for choice in tried if choice in group.samples]
    return own or [group.group.default]


def _tuner_mean_ms(samples: Sequence[float], generator: random.Random) -> float:
    """The mean that MACE's tuner would have seen."""
    total_ms = 0.0
    for run in range(1, _RUNS + 1):
        total_ms += generator.choice(samples)
        if total_ms > _TOO_MUCH_MS or (run > 1 and total_ms > _ENOUGH_MS):
            return total_ms / run
    return total_ms / _RUNS if samples else math.inf
