"""Replays searches on the recorded tables, many seeds each: how near the best, how soon."""

from __future__ import annotations

import concurrent.futures
import functools
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from droidmace.tuning.journal import read_journal
from droidmace.tuning.replay import WITHIN, RecordedTable, ReplayedSearch, replay
from droidmace.tuning.search import Strategy
from droidmace.tuning.strategies.catalogue import make_strategy
from searching.gains import gains

KERNEL_TUNER = ("genetic_algorithm", "greedy_ils", "dual_annealing")
"""Those of kernel_tuner 1.5 that its authors report as the best, and that need nothing more."""
STRATEGIES = ("guided", "random", "mace", "tpe", *(f"kernel_tuner {one}" for one in KERNEL_TUNER))
_CHUNK = 10
"""Seeds that a process replays at a time."""


def compare(
    paths: Sequence[Path], strategies: Sequence[str], seeds: int, share: float, processes: int
) -> Iterator[dict[str, Any]]:
    """Every strategy on every journal, a document for each; ``share``: the budget, of an exhaustive
    search's evaluations.
    """
    chunks = [range(first, min(first + _CHUNK, seeds)) for first in range(0, seeds, _CHUNK)]
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for path in paths:
            gain = pool.submit(_gains, path)
            tasks = {
                name: [pool.submit(_replay, path, name, chunk, share) for chunk in chunks]
                for name in strategies
            }
            size = _table(path).size
            found = {}
            for name, parts in tasks.items():
                searches = [search for part in parts for search in part.result()]
                found[name] = _summary(searches, size)
                print(path.name, name, found[name]["end"], file=sys.stderr, flush=True)
            yield {
                "journal": path.name,
                "identity": dict(read_journal(path).identity),
                "exhaustive_evaluations": size,
                "gains": gain.result(),
                "strategies": found,
            }


def _summary(searches: Sequence[ReplayedSearch], size: int) -> dict[str, Any]:
    """Over the seeds: when a search came how near, as shares of ``size``, and where it ended."""
    ends = [one.total_ms / one.best_ms for one in searches]
    within = {}
    for share in WITHIN:
        reached = [one.evaluations_within(share) for one in searches]
        shares = [math.inf if one is None else one / size for one in reached]
        within[f"{share:.0%}"] = {
            "median": _finite(_quantile(shares, 0.5)),
            "p90": _finite(_quantile(shares, 0.9)),
            "reached": sum(map(math.isfinite, shares)) / len(shares),
            "ended": sum(one <= 1.0 + share for one in ends) / len(ends),
        }
    return {
        "within": within,
        "end": {
            "median": round(statistics.median(ends), 5),
            "p90": round(_quantile(ends, 0.9), 5),
        },
        "ends": [round(one, 5) for one in ends],
    }


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


@functools.lru_cache(2)
def _table(path: Path) -> RecordedTable:
    return RecordedTable.of(read_journal(path))


def _gains(path: Path) -> dict[str, Any]:
    return gains(read_journal(path))


def _replay(path: Path, strategy: str, seeds: range, share: float) -> list[ReplayedSearch]:
    table = _table(path)
    budget = round(table.size * share)
    with _maker(strategy, budget) as make:
        report = replay(table, strategy, make, budget, seed=seeds.start, repeats=len(seeds))
    return list(report.searches)


class _maker:  # noqa: N801 - used as a function
    """Makes strategies by name and seed, and closes those that need it."""

    def __init__(self, name: str, budget: int) -> None:
        self._name = name
        self._budget = budget
        self._made: list[Any] = []

    def __enter__(self) -> Callable[[int], Strategy]:
        return self._make

    def __exit__(self, *_: object) -> None:
        for one in self._made:
            one.close()

    def _make(self, seed: int) -> Strategy:
        rival = self._name.removeprefix("kernel_tuner ")
        if rival == self._name:
            return make_strategy(self._name, seed)
        from searching.kernel_tuner_strategy import (  # noqa: PLC0415 - it may not be installed
            KernelTunerStrategy,
        )

        self._made.append(KernelTunerStrategy(rival, seed, self._budget))
        made: Strategy = self._made[-1]
        return made


def rows(document: dict[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """A table for each journal: title and cells, the first row its heading."""
    for table in document["tables"]:
        heading = ["strategy", *(f"within {share:.0%}" for share in WITHIN), "at the budget"]
        cells = [heading]
        for name, one in table["strategies"].items():
            cells.append(
                [
                    name,
                    *(
                        f"{_percent(one['within'][f'{share:.0%}']['median'])}"
                        f" / {_percent(one['within'][f'{share:.0%}']['p90'])}"
                        for share in WITHIN
                    ),
                    f"{one['end']['median'] - 1.0:+.1%} / {one['end']['p90'] - 1.0:+.1%}",
                ]
            )
        yield f"{table['journal']}: {table['exhaustive_evaluations']} evaluations", cells


def gain_rows(document: dict[str, Any]) -> tuple[str, list[list[str]]]:
    """What there is to gain: title and cells."""
    cells = [["journal", "default", "MACE's list", "best", "found", "from, to", "there", "at most"]]
    for table in document["tables"]:
        gain = table["gains"]
        total = gain["total_ms"]
        low, high = gain["gain_over_mace_list_range"]
        cells.append(
            [
                table["journal"].removesuffix(".jsonl.gz"),
                *(f"{total[name]:.4g}" for name in ("default", "mace_list", "best")),
                f"{gain['gain_over_mace_list']:+.1%}",
                f"{low:+.1%}, {high:+.1%}",
                f"{gain['gain_estimate']:+.1%}",
                f"{gain['gain_bound']:+.1%}",
            ]
        )
    return "Total kernel time, ms, and what all sizes gain over MACE's list", cells


def _percent(share: float | None) -> str:
    return "never" if share is None else f"{share:.1%}"
