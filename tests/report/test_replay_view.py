"""A replay, as it is told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from droidmace.report.replay_view import replay_view
from droidmace.results import Spread


@dataclass(frozen=True)
class Report:
    totals_ms: Spread
    reached: dict[float, Sequence[int | None]] = field(default_factory=dict)
    strategy: str = "guided"
    groups: int = 12
    size: int = 4000
    budget: int = 200
    untuned_ms: float = 160.0
    best_ms: float = 112.0

    def evaluations_within(self, share: float) -> Sequence[int | None]:
        return self.reached[share]


def shown(report: Report, *within: float) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(replay_view(report, within))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_totals_and_how_soon_they_came_near() -> None:
    reached: dict[float, Sequence[int | None]] = {
        0.01: [None] * 3,
        0.02: [50, None, 70],
        0.05: [10, 20, 30],
    }
    text = shown(Report(Spread.of([113.0, 114.0, 120.0]), reached), *reached)
    assert "guided: 3 searches of 200 of 4000 evaluations on 12 groups" in text
    assert "untuned 160.000 ms found 114.000 ms −28.7% 113.000 to 120.000" in text  # noqa: RUF001
    assert "best 112.000 ms −30.0%" in text  # noqa: RUF001
    assert "within 1% of the best not reached" in text
    assert "within 2% of the best after 60 evaluations; 1 of 3 did not get there" in text
    assert text.endswith("within 5% of the best after 20 evaluations")


def test_one_search_has_no_range() -> None:
    text = shown(Report(Spread.of([114.0])))
    assert "1 search of 200" in text
    assert "to 114" not in text
