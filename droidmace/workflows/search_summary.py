"""What a search tells while it runs and when it is over."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from droidmace.results import KernelWinner, SearchPoint, SearchSummary
from droidmace.tuning.journal import JournalRun
from droidmace.tuning.search import History, Plan, RunRecord, RunStatus
from droidmace.tuning.selection import chosen

_MAX_POINTS = 1000
_MINUTE_S = 60.0


def other_ms(records: Sequence[RunRecord]) -> float:
    """What the ops without keys take; 0 where nothing was measured."""
    found = [record.other_ms for record in records if record.status is RunStatus.OK]
    return statistics.median(found) if found else 0.0


def curve(runs: Sequence[JournalRun], empty: History) -> list[SearchPoint]:
    """How far the search was after each of ``runs``; ``empty`` has its groups."""
    points = []
    for run in runs:
        empty.add(run.record)
        best_ms = empty.total_ms(chosen(empty))
        if math.isfinite(best_ms):
            points.append(SearchPoint(run.spent_s, empty.evaluations, best_ms))
    return points


def thinned(points: Sequence[SearchPoint]) -> tuple[SearchPoint, ...]:
    """At most a thousand of them, the last one always among them."""
    if len(points) <= _MAX_POINTS:
        return tuple(points)
    step = len(points) / _MAX_POINTS
    return tuple(points[math.ceil((index + 1) * step) - 1] for index in range(_MAX_POINTS))


def summarize(
    strategy: str,
    runs: Sequence[JournalRun],
    history: History,
    plan: Plan,
    phone: Plan | None,
    winners: tuple[KernelWinner, ...],
    points: Sequence[SearchPoint],
    *,
    resumed_runs: int,
    repeats: int,
    wall_s: float,
    mace_run_s: float,
) -> SearchSummary:
    """All of it as one value; totals count the ops without keys as well."""
    records = [run.record for run in runs]
    rest_ms = other_ms(records)
    statuses = [record.status for record in records]
    phone_ms = math.inf if phone is None else history.total_ms(phone)
    return SearchSummary(
        strategy=strategy,
        processes=len(records),
        evaluations=history.evaluations,
        refused=statuses.count(RunStatus.REFUSED),
        failed=statuses.count(RunStatus.FAILED),
        resumed_runs=resumed_runs,
        wall_s=wall_s,
        mace_run_s=mace_run_s,
        untuned_ms=history.total_ms({}) + rest_ms,
        mace_ms=phone_ms + rest_ms if math.isfinite(phone_ms) else None,
        best_ms=history.total_ms(plan) + rest_ms,
        curve=thinned(
            [SearchPoint(one.wall_s, one.evaluations, one.best_ms + rest_ms) for one in points]
        ),
        winners=winners,
        repeats=repeats,
    )


def progress_text(history: History, left_s: float | None) -> str:
    """Evaluations, the best total against the untuned one, and the time left."""
    parts = [f"{history.evaluations} evaluations"]
    rest_ms = other_ms(history.runs)
    best_ms = history.total_ms(chosen(history)) + rest_ms
    untuned_ms = history.total_ms({}) + rest_ms
    if math.isfinite(best_ms):
        text = f"{_ms(best_ms)} ms"
        if math.isfinite(untuned_ms) and untuned_ms > 0:
            text += f" (untuned {_ms(untuned_ms)}, {change_text(best_ms, untuned_ms)})"
        parts.append(text)
    if left_s is not None:
        parts.append(f"{duration_text(left_s)} left")
    return ", ".join(parts)


def change_text(after: float, before: float) -> str:
    """By how much ``after`` differs from ``before`` (positive), in percent."""
    return f"{100 * (after / before - 1):+.1f}%".replace("-", "\N{MINUS SIGN}")


def duration_text(seconds: float) -> str:
    """In words for a person: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < _MINUTE_S:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 100 * _MINUTE_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _ms(time_ms: float) -> str:
    return f"{time_ms:.1f}" if time_ms >= 10 else f"{time_ms:.3g}"
