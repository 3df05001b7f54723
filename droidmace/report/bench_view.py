"""Tables of a bench session, and of one against another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from droidmace.report import lines as below
from droidmace.report.curve import figure
from droidmace.report.text import shortened
from droidmace.results import OpTime
from droidmace.results.bench import (
    SINGLE,
    BenchComparison,
    BenchProcess,
    BenchResult,
    Change,
    Distribution,
    Energy,
    OpProfile,
)
from droidmace.wording import counted, printable

SHOWN_OPS = 10

_BAR_WIDTH = 32
_NAME_WIDTH = 36
_LABELS = {
    "cold_init_ms": "cold start: init",
    "cold_first_run_ms": "cold start: first run",
    "cold_first_result_ms": "cold start: first result",
    "init_ms": "start: init",
    "first_run_ms": "start: first run",
    "first_result_ms": "start: first result",
    "latency_ms": "latency",
    SINGLE: "single inference",
}
_STRONG = ("cold_first_result_ms", "first_result_ms", "latency_ms")
_COLOURS = {Change.FASTER: "bold green", Change.SLOWER: "bold red", Change.OPEN: "yellow"}


def bench_view(result: BenchResult) -> RenderableType:
    """Everything that a session found out."""
    lines: list[RenderableType] = [_figures(result), *_said(result)]
    if result.profile is not None and result.profile.ops:
        lines.append(_ops(result.profile))
    lines += below.warnings(result.warnings)
    if result.comparison is not None:
        lines.append(comparison_view(result.comparison))
    return Group(*lines)


def comparison_view(comparison: BenchComparison) -> RenderableType:
    """What changed since an earlier session, and what else differs."""
    table = Table(
        title=f"against {escape(printable(comparison.against))} (ms)",
        title_justify="left",
        title_style="bold",
    )
    for heading in ("", "before", "after", "ratio", "interval", "verdict"):
        table.add_column(heading, justify="right" if heading else "left")
    for one in comparison.figures:
        interval = "one process" if one.name == SINGLE else "too few samples"
        if math.isfinite(one.high):
            interval = f"{one.low:.3f} - {one.high:.3f}"
        table.add_row(
            _label(one.name),
            figure(one.before_ms),
            figure(one.after_ms),
            f"{one.ratio:.3f}",
            interval,
            f"[{_COLOURS[one.change]}]{one.change.value}[/]",
        )
    said = [
        f"a change counts beyond {comparison.tolerance:.1%}; intervals hold the true ratio with 95 "
        "% or a little more, each by itself, if the phone was in the same state in both sessions"
    ]
    lines: list[RenderableType] = [table]
    lines += [Padding(Text(text, style="dim"), below.INDENT) for text in said]
    lines += below.marked("differs", "yellow", comparison.differences)
    return Group(*lines)


def _figures(result: BenchResult) -> RenderableType:
    device = result.device
    table = Table(
        title=f"{escape(result.model)} on {escape(device.model or device.serial)} "
        f"({escape(device.gpu or 'GPU unknown')}), ms",
        title_justify="left",
        title_style="bold",
    )
    for heading in ("", "p50", "min", "p90", "p99", "max", "spread", "samples"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, samples in result.figures.items():
        one = Distribution.of(samples)
        table.add_row(
            _label(name),
            figure(one.p50),
            figure(one.minimum),
            _optional(one.p90),
            _optional(one.p99),
            figure(one.maximum),
            f"{one.spread:.1%}" if one.count > 1 else "-",
            str(one.count),
        )
    return table


def _said(result: BenchResult) -> list[RenderableType]:
    """The lines below the table."""
    rounds = result.settings.get("rounds", 0)
    lines = [
        "a sample of the latency is one fresh process: its average over "
        + counted(rounds, "inference"),
        _programs(result),
    ]
    latency = Distribution.of(result.latencies_ms)
    if len(latency.histogram) > 1:
        lines.append("latency, processes by their average (ms):")
    rendered = below.lines(lines)
    if len(latency.histogram) > 1:
        rendered.append(Padding(_histogram(latency), (0, 0, 0, 4)))
    more = [_meanwhile(result.processes)]
    if result.peak_kib is not None:
        more.append(
            f"memory: {result.peak_kib / 1024:.1f} MiB resident at its peak, as far as ten looks "
            "a second see it; what the GPU's driver keeps elsewhere is not in it"
        )
    if result.energy is not None:
        more += _energy(result.energy)
    if result.profile is not None and result.profile.macs is not None:
        more.append(_macs(result.profile))
    return rendered + below.lines(line for line in more if line)


def _programs(result: BenchResult) -> str:
    """What it runs on, and where its OpenCL programs came from."""
    text = f"runtimes: {printable(result.identity.get('runtimes', '')) or 'not told'}"
    if result.programs_from_cache or result.programs_from_source:
        text += (
            f"; programs at the start: {result.programs_from_cache} from the compiled program, "
            f"{result.programs_from_source} from source"
        )
    if result.kernels_with_parameters:
        text += f"; {counted(result.kernels_with_parameters, 'kernel')} with tuned parameters"
    return text


def _histogram(latency: Distribution) -> Text:
    most = max(count for _, _, count in latency.histogram)
    rows = []
    for low, high, count in latency.histogram:
        bar = "█" * max(round(_BAR_WIDTH * count / most), 1 if count else 0)
        rows.append(f"{figure(low):>8} - {figure(high):>8}  {bar} {count or ''}".rstrip())
    return Text("\n".join(rows))


def _meanwhile(processes: Sequence[BenchProcess]) -> str:
    parts = []
    for name, unit, values in (
        ("chip", "°C", [one.hottest_c for one in processes if one.hottest_c is not None]),
        # 0 is a GPU that slept again.
        ("GPU", "MHz", [one.gpu_mhz for one in processes if one.gpu_mhz]),
    ):
        if values:
            low, high = min(values), max(values)
            text = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} - {high:.0f}"
            parts.append(f"{name} {text} {unit}")
    return f"meanwhile: {', '.join(parts)}" if parts else ""


def _energy(energy: Energy) -> list[str]:
    if energy.joules is None or energy.idle_w is None or energy.load_w is None:
        return [f"energy: not measured: {printable(energy.why_not)}"]
    return [
        f"energy: {energy.joules * 1e3:.3g} mJ per inference beyond the idle phone "
        f"({energy.load_w:.2f} W under load, {energy.idle_w:.2f} W idle)",
        f"taken as: {printable(energy.taken_as)}",
    ]


def _macs(profile: OpProfile) -> str:
    text = f"MACs: {profile.macs:,} per inference"
    if profile.macs and profile.avg_ms:
        text += f", {profile.macs / profile.avg_ms / 1e6:.3g} G/s over the ops' time"
    return text


def _ops(profile: OpProfile) -> RenderableType:
    """The ops that take longest, and the types of all."""
    total = sum(op.avg_ms for op in profile.ops)
    table = Table(
        title=f"ops in a process with --benchmark: {figure(total)} ms, "
        + counted(len(profile.ops), "op"),
        title_justify="left",
        title_style="bold",
    )
    for heading in ("op", "type", "output", "ms", "share", "GMAC/s"):
        table.add_column(
            heading, justify="right" if heading in ("ms", "share", "GMAC/s") else "left"
        )
    ranked = sorted(profile.ops, key=lambda op: op.avg_ms, reverse=True)
    for op in ranked[:SHOWN_OPS]:
        table.add_row(
            escape(shortened(printable(op.name), _NAME_WIDTH)),
            escape(printable(op.op_type)),
            _shape(op),
            figure(op.avg_ms),
            f"{op.avg_ms / total:.1%}" if total else "-",
            figure(op.gmacps) if op.gmacps else "-",
        )
    lines: list[RenderableType] = [table]
    if len(ranked) > SHOWN_OPS:
        rest = sum(op.avg_ms for op in ranked[SHOWN_OPS:])
        more = counted(len(ranked) - SHOWN_OPS, "op")
        text = f"{more} more: {figure(rest)} ms; all of them with --json"
        lines.append(Padding(Text(text, style="dim"), below.INDENT))
    if profile.by_type:
        lines.append(
            Padding(
                Text(
                    "by type: "
                    + ", ".join(
                        f"{printable(one.op_type)} x{one.count} {figure(one.avg_ms)} ms"
                        + (f" ({one.macs:,} MACs)" if one.macs else "")
                        for one in profile.by_type
                    )
                ),
                below.INDENT,
            )
        )
    return Group(*lines)


def _label(name: str) -> str:
    label = _LABELS.get(name, name)
    return f"[bold]{label}[/]" if name in _STRONG else label


def _shape(op: OpTime) -> str:
    return "x".join(map(str, op.output_shape))


def _optional(value: float | None) -> str:
    return "-" if value is None else figure(value)
