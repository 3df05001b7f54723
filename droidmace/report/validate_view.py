"""What a validation found, for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from droidmace.report import lines as below
from droidmace.report.curve import duration, figure
from droidmace.report.text import shortened
from droidmace.results.classification import (
    Classification,
    ClassRow,
    Confusion,
    Difference,
    Share,
    TopScores,
)
from droidmace.results.validation import (
    GateOutcome,
    OutputSimilarity,
    Percentiles,
    ValidationResult,
)
from droidmace.wording import counted, printable

SHOWN_CLASSES = 10
SHOWN_CONFUSIONS = 10
_NAME_WIDTH = 28
_FEW = 20
"""Classes that are all shown."""


def validation_view(
    result: ValidationResult, *, every_class: bool = False, bisect: str = ""
) -> RenderableType:
    """Who took part, right answers, classes and mistakes, similarity, gates.

    Of many classes the worst are shown, all of them with ``every_class``. ``bisect`` is the command
    that bisects this model over these samples; empty if the deployment file does not name them.
    """
    device = result.device
    title = Text.assemble(
        (printable(result.model), "bold"),
        f" ({result.runtime}) on {printable(device.model or device.serial)}",
        f" ({printable(device.gpu)})" if device.gpu else "",
    )
    lines: list[RenderableType] = [title, *below.lines(_taking_part(result))]
    if result.bundle:
        lines.append(below.line(f"with the bundle {printable(result.bundle)}"))
    if result.against:
        lines.append(below.line(f"against {printable(result.against)}"))
    if result.classification is not None:
        lines += _classification(result.classification, every_class)
    if result.outputs:
        lines.append(_similarity(result.outputs))
        lines += below.lines(note for output in result.outputs for note in _notes(output))
    lines += below.marked("plugin", "bold", result.plugin.splitlines())
    lines += below.warnings(result.warnings)
    lines += [_gate(gate) for gate in result.judgements]
    if result.passed is None:
        lines.append(Text("nothing was judged: no outputs were compared, and no gate is set"))
    else:
        word = ("passed", "bold green") if result.passed else ("failed", "bold red")
        lines.append(Text.assemble("validation: ", word))
    if result.looks_wrong and result.runtime != "cpu":
        worst = min(result.outputs, key=lambda output: output.cosine.minimum).worst_sample
        lines.append(Text(f"which op is wrong: {_bisect(bisect, worst)}"))
    return Group(*lines)


def _bisect(command: str, sample: int) -> str:
    if command:
        return f"{printable(command)} --sample {sample}"
    return f"name this data set in the deployment file, then droidmace bisect --sample {sample}"


def _taking_part(result: ValidationResult) -> list[str]:
    timings = result.timings
    lines = [f"{result.took_part:,} of {result.asked:,} samples of {printable(result.dataset)}"]
    rate = timings.images_per_s
    speed = f"{duration(timings.wall_s)}, {duration(timings.run_s)} of it mace_run"
    if rate is not None:
        speed += f"; {figure(rate)} images/s in {counted(timings.chunks, 'chunk')}"
    if timings.resumed:
        speed += f"; {timings.resumed:,} samples from an earlier call"
    return [*lines, speed]


def _classification(found: Classification, every_class: bool) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if found.phone is not None:
        lines.append(_scores(found.phone, found.reference))
    if found.labelled < found.samples:
        lines.append(below.line(f"{found.samples - found.labelled:,} samples have no label"))
    if found.agreement is not None:
        lines.append(
            below.line(f"agreement with the reference, label by label: {_share(found.agreement)}")
        )
    if found.difference is not None:
        lines.append(below.line(_difference(found.difference)))
    for whose, scores in (("phone", found.phone), ("reference", found.reference)):
        if scores is not None and scores.not_finite:
            text = f"{scores.not_finite:,} answers of the {whose} are not finite: counted as wrong"
            lines.append(Padding(Text(text, style="bold red"), below.INDENT))
    if found.classes:
        lines += _classes(found.classes, every_class)
    if found.confusions:
        lines += _confusions(found.confusions)
    return lines


def _scores(phone: TopScores, reference: TopScores | None) -> Table:
    confidence = f"{phone.top1.confidence:.4g}"
    table = Table(title=f"right answers, Wilson interval at {confidence}", title_justify="left")
    table.add_column("")
    for heading in ("phone", *(("reference",) if reference else ())):
        table.add_column(heading, justify="right")
    runs = [phone, *([reference] if reference else [])]
    table.add_row("[bold]Top-1[/]", *(_share_cell(run.top1) for run in runs))
    if phone.top5 is not None:
        table.add_row("[bold]Top-5[/]", *(_share_cell(run.top5) for run in runs))
    return table


def _share(share: Share) -> str:
    return (
        f"{share.value:.2%} ({share.count:,} of {share.of:,}; {share.low:.2%} to {share.high:.2%})"
    )


def _share_cell(share: Share | None) -> str:
    if share is None:
        return ""
    return (
        f"{share.value:.2%}  [dim]{share.count:,} of {share.of:,}[/]\n"
        f"[dim]{share.low:.2%} to {share.high:.2%}[/]"
    )


def _difference(difference: Difference) -> str:
    points = [100 * value for value in (difference.value, difference.low, difference.high)]
    value, low, high = (f"{point:+.2f}".replace("-", "\N{MINUS SIGN}") for point in points)
    verdict = (
        "no difference is shown"
        if difference.p_value > 1 - difference.confidence
        else "a difference is shown"
    )
    return (
        f"Top-1, phone less reference: {value} points ({low} to {high}); only the phone is right "
        f"{difference.only_phone:,} times, only the reference {difference.only_reference:,} times; "
        f"McNemar p = {difference.p_value:.3g}: {verdict}"
    )


def _classes(rows: Sequence[ClassRow], every_class: bool) -> list[RenderableType]:
    shown = list(rows)
    left_out = 0
    if not every_class and len(rows) > _FEW:
        shown.sort(key=lambda row: (row.right / row.samples if row.samples else 2.0, row.label))
        shown, left_out = shown[:SHOWN_CLASSES], len(rows) - SHOWN_CLASSES
    with_reference = any(row.reference_right is not None for row in rows)
    table = Table(title="worst classes" if left_out else "classes", title_justify="left")
    table.add_column("class")
    headings = ["samples", "right", "predicted"]
    for heading in [*headings, *(["reference right", "agree"] if with_reference else [])]:
        table.add_column(heading, justify="right")
    for row in shown:
        named = row.name != str(row.label)
        cells = [
            f"{row.label} {_name(row.name)}" if named else str(row.label),
            f"{row.samples:,}",
            _of(row.right, row.samples),
            f"{row.predicted:,}",
        ]
        if with_reference:
            cells += [_of(row.reference_right, row.samples), _of(row.agreeing, row.samples)]
        table.add_row(*cells)
    lines: list[RenderableType] = [table]
    if left_out:
        lines.append(below.line(f"{left_out:,} classes that are better: in the JSON document"))
    return lines


def _confusions(pairs: Sequence[Confusion]) -> list[RenderableType]:
    with_reference = any(pair.reference_count is not None for pair in pairs)
    table = Table(title="most frequent mistakes", title_justify="left")
    for heading in ("is", "taken for", "times", *(("reference",) if with_reference else ())):
        table.add_column(heading, justify="right" if heading in {"times", "reference"} else "left")
    for pair in pairs[:SHOWN_CONFUSIONS]:
        cells = [_name(pair.label_name), _name(pair.predicted_name), f"{pair.count:,}"]
        if with_reference:
            cells.append(f"{pair.reference_count or 0:,}")
        table.add_row(*cells)
    lines: list[RenderableType] = [table]
    if len(pairs) > SHOWN_CONFUSIONS:
        lines.append(below.line(f"{len(pairs) - SHOWN_CONFUSIONS:,} more: in the JSON document"))
    return lines


def _similarity(outputs: Sequence[OutputSimilarity]) -> Table:
    table = Table(title="similarity per sample", title_justify="left")
    for heading in ("output", "", "smallest", "1st percentile", "median", "mean"):
        table.add_column(heading, justify="left" if heading in {"output", ""} else "right")
    for output in outputs:
        table.add_row(_name(output.name), "cosine", *_cells(output.cosine, _cosine))
        table.add_row("", "SQNR (dB)", *_cells(output.sqnr_db, _decibels), end_section=True)
    return table


def _notes(output: OutputSimilarity) -> list[str]:
    """What one output's two rows do not say."""
    name = printable(shortened(output.name, _NAME_WIDTH))
    worst = printable(output.worst_sample_name) or f"sample {output.worst_sample}"
    lines = [
        f"{name}: SQNR of all {_decibels(output.sqnr_db_overall)} dB; largest error "
        f"{figure(output.max_abs_error)} (relative {figure(output.max_rel_error)}); worst: {worst}"
    ]
    if output.tolerance is not None and output.outside is not None:
        values = output.samples * output.elements
        lines.append(
            f"{name}: {output.outside:,} of {values:,} values, in {output.outside_samples:,} "
            f"samples, are off by more than {_tolerance(*output.tolerance)}"
        )
    if output.not_finite_samples:
        lines.append(
            f"{name}: NaN or infinity {output.not_finite:,} times (reference: "
            f"{output.reference_not_finite:,}), in {output.not_finite_samples:,} samples"
        )
    return lines


def _tolerance(absolute: float, relative: float) -> str:
    if absolute == relative:
        return f"{figure(absolute)} · max(1, |reference|)"
    return f"max({figure(absolute)}, {figure(relative)} · |reference|)"


def _cells(of: Percentiles, form: Callable[[float], str]) -> list[str]:
    return [form(value) for value in (of.minimum, of.p1, of.median, of.mean)]


def _cosine(value: float) -> str:
    return f"{value:.6f}"


def _decibels(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    return f"{value:.1f}"


def _gate(gate: GateOutcome) -> RenderableType:
    mark = ("passed", "green") if gate.passed else ("failed", "bold red")
    found = "not measured" if gate.found is None else f"{gate.found:.6g}"
    text = f"{gate.name}: {found}, wanted {gate.comparison} {gate.wanted:.6g}: "
    return Padding(Text.assemble(printable(text), mark), below.INDENT)


def _of(count: int | None, of: int) -> str:
    return "" if count is None or not of else f"{count / of:.1%}"


def _name(text: str) -> str:
    return escape(printable(shortened(text, _NAME_WIDTH)))
