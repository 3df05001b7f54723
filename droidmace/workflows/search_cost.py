"""What the phone's own tuner would cost, from what the ops take untuned.

It tries each candidate once to warm up and then up to ten times, until 200 ms are spent, or after
two runs 100 ms (``mace/utils/tuner.h``).
"""

from __future__ import annotations

from droidmace.results import RunTimes
from droidmace.tuning.search import History, KeySpace
from droidmace.tuning.space import mace_part

_MAX_RUNS = 10
_ENOUGH_MS = 100.0
_TOO_MUCH_MS = 200.0
_TUNER_RUNS = 330
_SEARCH_PROCESSES = 6


def phone_tuner_cost_s(history: History, process_s: float) -> float:
    """Seconds; ``history`` has measured the defaults, ``process_s`` is what a process takes.

    Every candidate is taken for as quick as MACE's default, which few are: it costs no less.
    """
    total_ms = 0.0
    for group in history.groups.values():
        default_ms = group.estimate_ms(group.group.default)
        samples = group.samples.get(group.group.default)
        if not samples:
            continue
        ops = max(len(group.group.ops), 1)
        each_ms = default_ms / ops / max(len(group.group.keys), 1)
        # Two ops of one shape tune their key twice.
        total_ms += ops * sum(_key_ms(space, each_ms) for space in group.group.keys)
    return process_s + total_ms / 1000.0


def _key_ms(space: KeySpace, run_ms: float) -> float:
    spent_ms = 0.0
    for run in range(1, _MAX_RUNS + 1):
        spent_ms += run_ms
        if spent_ms > _TOO_MUCH_MS or (run > 1 and spent_ms > _ENOUGH_MS):
            break
    return len(mace_part(space)) * (run_ms + spent_ms)


def is_tuned_at_once(cold: RunTimes | None) -> bool:
    """Whether the phone's tuner would be done before a search has had its few processes.

    ``cold``: a process that compiled everything. The tuner runs every kernel some 330 times (30
    candidates, 11 runs each). A search needs about six processes; a warm one starts in about an
    eighth of a cold one's time, and runs as long as it starts.
    """
    if cold is None or cold.run_avg_ms is None:
        return False
    return _TUNER_RUNS * cold.run_avg_ms < _SEARCH_PROCESSES * 2 * cold.first_result_ms / 8
