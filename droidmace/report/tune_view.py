"""Tables of tuning results."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from droidmace.report import lines as below
from droidmace.report.curve import figure
from droidmace.report.search_view import blocks_text, search_view
from droidmace.results import Accuracy, RunTimes, Spread, TuneFailure, TuneResult, Verdict
from droidmace.wording import printable

_COLOURS = {
    Verdict.SHIP: "bold green",
    Verdict.PARAMS_ONLY: "green",
    Verdict.PROGRAM_ONLY: "green",
    Verdict.NOTHING: "yellow",
    Verdict.REJECT: "bold red",
}


def _ms(values: Sequence[float]) -> str:
    """Median, and below it the extremes."""
    spread = Spread.of(values)
    if spread.count == 1:
        return figure(spread.median)
    extremes = f"{figure(spread.minimum)} - {figure(spread.maximum)}"
    return f"{figure(spread.median)}\n[dim]{extremes}[/]"


def _median(values: Sequence[float]) -> str:
    return figure(Spread.of(values).median)


def _change(ratio: tuple[float, float, float, float]) -> str:
    """Median ratio, and below it its interval."""
    median, low, high, _ = ratio
    if high == float("inf"):
        return f"{median:.3f}"
    return f"{median:.3f}\n[dim]{low:.3f} - {high:.3f}[/]"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.2%}"


def _first_result(runs: Sequence[RunTimes]) -> list[float]:
    return [run.first_result_ms for run in runs]


def result_view(result: TuneResult) -> RenderableType:
    """One phone's result: the figures, the verdict with its reasons, where the bundle is."""
    device = result.device
    table = Table(
        title=f"{escape(result.model)} on {escape(device.model or device.serial)} "
        f"({escape(device.gpu or 'GPU unknown')})",
        title_justify="left",
        title_style="bold",
    )
    for heading in ("", "before", "after", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    cold, warm = result.cold, result.warm
    table.add_row(
        "init, cold | warm (ms)", _ms([r.init_ms for r in cold]), _ms([r.init_ms for r in warm])
    )
    table.add_row(
        "first warm-up, cold | warm (ms)",
        _ms([r.warmup_ms for r in cold]),
        _ms([r.warmup_ms for r in warm]),
    )
    table.add_row(
        "[bold]init + warm-up, cold | warm (ms)[/]",
        _ms(_first_result(cold)),
        _ms(_first_result(warm)),
        _change(result.startup_ratio),
        end_section=True,
    )
    table.add_row(
        "[bold]latency, untuned | tuned (ms)[/]",
        _ms(result.untuned_run_ms),
        _ms(result.tuned_run_ms),
        _change(result.latency_ratio),
        end_section=True,
    )
    _accuracy_rows(table, result.accuracy)
    lines: list[RenderableType] = [table]
    if result.search is not None:
        lines.append(search_view(result.search))
    lines += below.lines(blocks_text(result.latency_blocks))
    lines += below.lines(result.reasons)
    lines += below.warnings(result.warnings)
    lines.append(Text.assemble("verdict: ", (result.verdict.value, _COLOURS[result.verdict])))
    lines.append(
        Text(
            f"pushed: {result.pushed_bytes:,} bytes, of which model: "
            f"{result.pushed_model_bytes:,} bytes"
        )
    )
    if result.bundle:
        lines.append(Text(f"bundle: {result.bundle}"))
    return Group(*lines)


def _accuracy_rows(table: Table, accuracy: Accuracy) -> None:
    if accuracy.samples == 0:
        table.add_row("Top-1", "no labelled images in the deployment file", "", "")
        return
    table.add_row(
        f"[bold]Top-1, reference | tuned[/]\n[dim]{accuracy.samples} images[/]",
        _percent(accuracy.reference),
        _percent(accuracy.tuned),
        "" if accuracy.agreement is None else f"{accuracy.agreement:.2%}\n[dim]agree[/]",
    )


def summary_view(outcomes: Sequence[TuneResult | TuneFailure]) -> RenderableType:
    """All phones of one call, one row each, and below where their bundles are."""
    table = Table(
        title="All phones, times in ms", title_justify="left", title_style="bold", show_lines=True
    )
    table.add_column("serial", no_wrap=True)
    table.add_column("model\nGPU", overflow="fold")
    table.add_column("verdict", overflow="fold", min_width=12)
    for heading in ("cold\nwarm", "untuned\ntuned", "Top-1"):
        table.add_column(heading, justify="right")
    bundles: list[RenderableType] = []
    for outcome in outcomes:
        if isinstance(outcome, TuneFailure):
            where = f" during {outcome.phase}" if outcome.phase else ""
            table.add_row(escape(outcome.serial), "", f"[bold red]failed{escape(where)}[/]")
            continue
        cold, warm = _first_result(outcome.cold), _first_result(outcome.warm)
        top1 = outcome.accuracy.tuned
        table.add_row(
            escape(outcome.device.serial),
            escape(f"{outcome.device.model}\n{outcome.device.gpu}"),
            f"[{_COLOURS[outcome.verdict]}]{outcome.verdict.value}[/]",
            f"{_median(cold)}\n{_median(warm)}",
            f"{_median(outcome.untuned_run_ms)}\n{_median(outcome.tuned_run_ms)}",
            "-" if top1 is None else _percent(top1),
        )
        bundles.append(Text(f"{outcome.device.serial}  bundle: {outcome.bundle}"))
        bundles += [
            Text.assemble(f"{outcome.device.serial}  ", ("warning: ", "yellow"), warning)
            for warning in outcome.warnings
        ]
    return Group(table, *bundles)


def failure_view(failure: TuneFailure) -> RenderableType:
    """One phone's error: what, where, its own last lines, the fix."""
    where = f" {failure.where}:" if failure.where not in (None, failure.serial) else ""
    lines = [
        Text.assemble((f"{failure.serial}:", "bold red"), printable(f"{where} {failure.message}"))
    ]
    lines += [Text(f"  │ {printable(line)}") for line in (failure.details or "").splitlines()[-10:]]
    if failure.hint:
        lines.append(Text(f"  fix: {printable(failure.hint)}"))
    return Group(*lines)
