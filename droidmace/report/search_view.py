"""What a host-guided search did and found, for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from droidmace.report import lines as below
from droidmace.report.curve import change, duration, figure, sparkline
from droidmace.report.text import shortened
from droidmace.results import KernelWinner, LatencyBlock, SearchSummary
from droidmace.wording import counted, printable

SHOWN_WINNERS = 10
_KEY_WIDTH = 20
_WIDE = 72
_OF_EVERY_KEY = re.compile("_(opencl|ocl)_kernel")


def search_view(summary: SearchSummary) -> RenderableType:
    """Effort, totals, the way there, and what was chosen for the kernels that take longest."""
    lines: list[RenderableType] = [Text(f"search ({summary.strategy})", style="bold")]
    said = [_effort(summary), _totals(summary)]
    if way := sparkline(summary):
        said.append(f"best so far: {way}")
    lines += below.lines(said)
    if summary.winners:
        ranked = sorted(summary.winners, key=lambda winner: winner.best_ms, reverse=True)
        lines.append(Padding(_Winners(ranked[:SHOWN_WINNERS]), below.INDENT))
        if len(ranked) > SHOWN_WINNERS:
            rest = f"{len(ranked) - SHOWN_WINNERS} kernels that take less: in results.json"
            lines.append(Padding(Text(rest, style="dim"), below.INDENT))
    return Group(*lines)


def blocks_text(blocks: Sequence[LatencyBlock]) -> list[str]:
    """How latency was measured: how many blocks count, why others do not, heat and clock.

    On a phone that is not steady there are many of those; each one's reason is in the document.
    """
    if not blocks:
        return []
    reasons = [(n, block.thrown_out) for n, block in enumerate(blocks, 1) if block.thrown_out]
    text = f"latency: {len(blocks) - len(reasons)} of {len(blocks)} blocks of four processes count"
    if len(reasons) == 1:
        number, reason = reasons[0]
        text += f"; block {number} thrown out: {printable(reason)}"
    elif reasons:
        text += f"; why {len(reasons)} were thrown out is in results.json"
    lines = [text]
    seen = [
        f"{name} {_range(values)} {unit}"
        for name, values, unit in (
            ("chip", [block.hottest_c for block in blocks if block.hottest_c is not None], "°C"),
            ("GPU", [block.gpu_mhz for block in blocks if block.gpu_mhz is not None], "MHz"),
        )
        if values
    ]
    return [*lines, f"meanwhile: {', '.join(seen)}"] if seen else lines


def _range(values: Sequence[float]) -> str:
    low, high = figure(min(values)), figure(max(values))
    return low if low == high else f"{low} to {high}"


def _effort(summary: SearchSummary) -> str:
    asides = [
        f"{count} {what}"
        for count, what in (
            (summary.refused, "refused"),
            (summary.failed, "failed"),
            (summary.resumed_runs, "from the journal"),
        )
        if count
    ]
    text = (
        f"{counted(summary.evaluations, 'evaluation')} in "
        f"{counted(summary.processes, 'process', 'processes')}"
    )
    if asides:
        text += f" ({', '.join(asides)})"
    if summary.repeats > 1:
        text += f", {summary.repeats} searches"
    text += f", {duration(summary.wall_s)}"
    if summary.wall_s > 0:
        text += f", {min(summary.mace_run_s / summary.wall_s, 1.0):.0%} of it mace_run"
    return text


def _totals(summary: SearchSummary) -> str:
    totals = [f"untuned {figure(summary.untuned_ms)} ms"]
    for name, total_ms in (("phone's tuner", summary.mace_ms), ("found", summary.best_ms)):
        if total_ms is not None:
            gain = change(total_ms, summary.untuned_ms)
            totals.append(f"{name} {figure(total_ms)} ms" + (f" ({gain})" if gain else ""))
    return f"kernels: {', '.join(totals)}"


class _Winners:
    """A row for each winner; a narrow terminal leaves out what can be worked out."""

    def __init__(self, winners: Sequence[KernelWinner]) -> None:
        self._winners = winners

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        voted = any(winner.stability is not None for winner in self._winners)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("kernel")  # the one that gives way
        for heading in ("default", "best ms", "gain") if wide else ("best ms", "gain"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("size", no_wrap=True)
        if wide:
            table.add_column("from", no_wrap=True)
        if voted:
            table.add_column("votes", justify="right", no_wrap=True)
        for winner in self._winners:
            gain = change(winner.best_ms, winner.default_ms)
            cells: list[RenderableType] = [_Shortened(_OF_EVERY_KEY.sub("", printable(winner.key)))]
            if wide:
                cells.append(Text(_short(winner.default_ms)))
            cells += [
                Text(_short(winner.best_ms)),
                Text("" if winner.params is None else gain),
                Text("-" if winner.params is None else ",".join(map(str, winner.params))),
            ]
            if wide:
                cells.append(Text(printable(winner.origin)))
            if voted:
                cells.append(Text(_votes(winner)))
            table.add_row(*cells)
        yield table


def _short(time_ms: float) -> str:
    """One kernel's time: what a few measurements are good for."""
    return f"{time_ms:.3g}" if time_ms < 1000 else f"{time_ms:.0f}"


def _votes(winner: KernelWinner) -> str:
    if winner.stability is None:
        return "-"
    return f"{round(winner.stability * winner.votes)}/{winner.votes}"


class _Shortened:
    """A key on one line, shorter where room is short: what differs stands at both ends."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text, width = self._text, options.max_width
        yield Text(shortened(text, width), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = len(self._text)
        return Measurement(min(longest, _KEY_WIDTH), longest).with_maximum(options.max_width)
