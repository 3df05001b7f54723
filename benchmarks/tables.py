"""The results as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, least, and how many samples; in the samples' unit."""
    low, middle, high = np.percentile(samples, (25, 50, 75))
    return {
        "median": round(float(middle), 4),
        "q1": round(float(low), 4),
        "q3": round(float(high), 4),
        "min": round(float(min(samples)), 4),
        "count": len(samples),
    }


def latency_table(net: str, rows: Sequence[Mapping[str, Any]], baseline: str) -> Table:
    """One net's rivals, fastest first; who could not take part comes last, with the reason."""
    ran = sorted((r for r in rows if "run_ms" in r), key=lambda r: r["run_ms"]["median"])
    base = next((r["run_ms"]["median"] for r in ran if r["rival"] == baseline), None)
    table = Table(title=f"{net}, batch 1, fp32: one run, ms", title_justify="left")
    table.add_column("rival")
    table.add_column("input resident", justify="right")
    table.add_column("quartiles", justify="right")
    table.add_column("least", justify="right")
    table.add_column("from and to host", justify="right")
    table.add_column(f"x {baseline}", justify="right")
    table.add_column("error", justify="right")
    for row in ran:
        run, with_io = row["run_ms"], row["io_ms"]
        table.add_row(
            row["rival"],
            f"{run['median']:.3f}",
            f"{run['q1']:.3f} - {run['q3']:.3f}",
            f"{run['min']:.3f}",
            f"{with_io['median']:.3f}",
            f"{run['median'] / base:.2f}" if base else "",
            f"{row['error']:.0e}",
        )
    missing = [f"{row['rival']}: {row['failed']}" for row in rows if "run_ms" not in row]
    if missing:
        table.caption = escape("\n".join(missing))
        table.caption_justify = "left"
    return table


def start_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Cold and warm starts, medians."""
    table = Table(title="init + first run of a new process, ms", title_justify="left")
    for column in ("net", "driver", "memory"):
        table.add_column(column)
    for column in ("cold init", "cold run", "warm init", "warm run", "warm / cold"):
        table.add_column(column, justify="right")
    for row in rows:
        head = (row["net"], row["driver"], row["memory"])
        if "failed" in row:
            table.add_row(*head, escape(row["failed"]))
            continue
        medians = [
            float(np.median([start[key] for start in row[kind]]))
            for kind in ("cold", "warm")
            for key in ("init_ms", "warmup_ms")
        ]
        ratio = sum(medians[2:]) / sum(medians[:2])
        table.add_row(*head, *(f"{value:.0f}" for value in medians), f"{ratio:.1%}")
    return table


def show(tables: Iterable[Table]) -> None:
    """Print them as wide as they are."""
    console = Console(width=140)
    for table in tables:
        console.print(table)
