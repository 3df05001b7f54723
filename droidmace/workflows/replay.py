"""``tune --replay``: any strategy on recorded measurements, without a phone."""

from __future__ import annotations

import functools
from pathlib import Path

from droidmace.errors import InputError
from droidmace.tuning.journal import read_journal
from droidmace.tuning.replay import WITHIN, RecordedTable, ReplayReport, replay
from droidmace.tuning.strategies.catalogue import STRATEGIES, make_strategy
from droidmace.workflows.tuned_bundle import JOURNAL_NAME

__all__ = ["STRATEGIES", "WITHIN", "replay_journal"]

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
