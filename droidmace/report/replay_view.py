"""How strategies did on recorded measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Protocol

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from droidmace.report.curve import change
from droidmace.results import Spread
from droidmace.wording import printable


class ReplayLike(Protocol):
    """Searches with one strategy on one journal; times in ms."""

    @property
    def strategy(self) -> str:
        """Its name."""
        ...

    @property
    def groups(self) -> int:
        """Groups of kernels that are measured as one."""
        ...

    @property
    def size(self) -> int:
        """Evaluations of an exhaustive search."""
        ...

    @property
    def budget(self) -> int:
        """Evaluations that each search had."""
        ...

    @property
    def untuned_ms(self) -> float:
        """The recorded total without tuning."""
        ...

    @property
    def best_ms(self) -> float:
        """The smallest recorded total."""
        ...

    @property
    def totals_ms(self) -> Spread:
        """What the searches ended with."""
        ...

    def evaluations_within(self, share: float) -> Sequence[int | None]:
        """Of every search: evaluations until within ``share`` of the best; None: never."""
        ...


def replay_view(report: ReplayLike, within: Sequence[float]) -> RenderableType:
    """Totals against untuned, and how soon the searches came near the recorded best.

    ``within``: how near, as shares of the best.
    """
    found = report.totals_ms
    totals = Table.grid(padding=(0, 2))
    totals.add_column()
    totals.add_column(justify="right")
    totals.add_column(justify="right")
    totals.add_column()
    rows = [("untuned", report.untuned_ms), ("found", found.median), ("best", report.best_ms)]
    for name, total_ms in rows:
        gain = "" if name == "untuned" else change(total_ms, report.untuned_ms)
        aside = f"{found.minimum:.3f} to {found.maximum:.3f}" if name == "found" else ""
        totals.add_row(name, f"{total_ms:.3f} ms", gain, aside if found.count > 1 else "")
    near = Table.grid(padding=(0, 2))
    for share in within:
        near.add_row(f"within {share:.0%} of the best", _after(report.evaluations_within(share)))
    searches = "1 search" if found.count == 1 else f"{found.count} searches"
    return Group(
        Text.assemble(
            (printable(report.strategy), "bold"),
            f": {searches} of {report.budget} of {report.size} evaluations"
            f" on {report.groups} groups of kernels",
        ),
        totals,
        near,
    )


def _after(evaluations: Sequence[int | None]) -> str:
    reached = [one for one in evaluations if one is not None]
    if not reached:
        return "not reached"
    text = f"after {statistics.median(reached):.0f} evaluations"
    missed = len(evaluations) - len(reached)
    return f"{text}; {missed} of {len(evaluations)} did not get there" if missed else text
