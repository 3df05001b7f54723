"""``tune --replay``: any strategy on recorded measurements, without a phone."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from droidmace.errors import InputError
from droidmace.tuning.journal import read_journal
from droidmace.tuning.replay import WITHIN, RecordedTable, ReplayReport, replay
from droidmace.tuning.strategies.catalogue import STRATEGIES, make_strategy
from droidmace.workflows.tuned_bundle import JOURNAL_NAME

__all__ = ["STRATEGIES", "replay_journal", "replay_lines"]

DEFAULT_SHARE = 0.05
"""Of an exhaustive search's evaluations: what a replay without a budget may spend."""


def replay_journal(
    path: Path,
    strategy: str = "guided",
    *,
    evaluations: int | None = None,
    seed: int = 0,
    repeats: int = 1,
) -> ReplayReport:
    """Search the journal, or that of the bundle, at ``path``: ``repeats`` times, from ``seed`` on.

    ``evaluations``: of each search; 5 % of what the journal holds where it is None. Raises
    ``InputError`` for a strategy that there is not or a journal without measurements,
    ``FormatError`` for a damaged one, ``MissingExtraError`` for a strategy that needs a package.
    """
    make_strategy(strategy)  # a wrong name is told before a large file is read
    if path.is_dir():
        path = path / JOURNAL_NAME
    if repeats < 1:
        raise InputError(f"{repeats} repeats", hint="give 1 or more")
    try:
        table = RecordedTable.of(read_journal(path))
    except InputError as error:
        error.where = error.where or str(path)
        raise
    budget = evaluations or max(round(DEFAULT_SHARE * table.size), 2 * len(table.groups))
    return replay(
        table,
        strategy,
        functools.partial(make_strategy, strategy),
        budget,
        seed=seed,
        repeats=repeats,
    )


def replay_lines(report: ReplayReport) -> Iterator[str]:
    """The report for people, line by line."""
    total = report.totals_ms
    yield (
        f"{report.strategy}: {len(report.searches)} x {report.budget} of {report.size} evaluations"
        f" on {report.groups} groups of kernels"
    )
    yield f"untuned        {report.untuned_ms:10.3f} ms"
    yield (
        f"found          {total.median:10.3f} ms ({total.median / report.untuned_ms - 1.0:+.1%};"
        f" {total.minimum:.3f} to {total.maximum:.3f})"
    )
    gain = report.best_ms / report.untuned_ms - 1.0
    yield f"recorded best  {report.best_ms:10.3f} ms ({gain:+.1%})"
    for share in WITHIN:
        yield f"within {share:3.0%} of the best after {_after(report.evaluations_within(share))}"


def _after(evaluations: Sequence[int | None]) -> str:
    reached = [one for one in evaluations if one is not None]
    if not reached:
        return "more than these evaluations"
    text = f"{statistics.median(reached):.0f} evaluations"
    missed = len(evaluations) - len(reached)
    return f"{text}; not reached by {missed} of {len(evaluations)}" if missed else text
