"""What a bisection found, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from droidmace.report import lines as below
from droidmace.report.text import shortened
from droidmace.results.bisect import BisectResult, Cause, OpComparison, TensorError
from droidmace.wording import printable

SHOWN_OPS = 8
_NAME_WIDTH = 32
_NAMES_WIDTH = 120


def bisect_view(result: BisectResult) -> RenderableType:
    """Outputs, the ops with the largest errors, suspects, runs, and the sentence last."""
    device = result.device
    title = Text.assemble(
        (printable(result.model), "bold"),
        f" ({result.data_type}, {result.op_count} ops) on {printable(device.model)}",
        f" ({printable(device.gpu)})" if device.gpu else "",
        f", {printable(result.sample)}",
    )
    lines: list[RenderableType] = [title]
    for output in result.outputs:
        word = "differs from" if output.differs else "agrees with"
        lines.append(
            below.line(
                f"output {printable(output.name)} {word} the CPU's: cosine "
                f"{output.error.cosine:.6f}, {_error(output.error)}"
            )
        )
    if result.ops:
        wrong = sum(op.wrong for op in result.ops)
        fell_back = sum(op.on_cpu for op in result.ops)
        not_judged = f"; {fell_back} not judged: MACE runs them on the CPU" if fell_back else ""
        lines.append(
            below.line(f"{len(result.ops)} ops by themselves, {wrong} of them wrong{not_judged}")
        )
        lines.append(Padding(_ops(result.ops), below.INDENT))
    for suspect in result.suspects:
        if suspect.error is None:
            found = f"not tried: {printable(suspect.why_not)}"
        else:
            found = f"{'right' if suspect.right else 'wrong'}, {_error(suspect.error)}"
        lines.append(below.line(f"{suspect.name}: {found}"))
    runs = ", ".join(f"{run.what} ({run.runtime})" for run in result.runs)
    lines.append(below.line(f"{len(result.runs)} of at most {result.run_limit} runs: {runs}"))
    lines += below.warnings(result.warnings)
    if result.reproducer is not None:
        lines.append(below.line(f"reproducer: {printable(result.reproducer)}"))
    if result.on_cpu:
        names = shortened(printable(", ".join(result.on_cpu)), _NAMES_WIDTH)
        lines.append(below.line(f"MACE runs on the CPU, in the net as it is: {names}"))
    style = "bold red" if result.found else "bold green"
    if result.cause is Cause.UNJUDGED:
        style = "bold yellow"
    lines.append(Text.assemble((f"{result.cause.value}: ", style), printable(result.sentence)))
    return Group(*lines)


def _ops(ops: Sequence[OpComparison]) -> Table:
    """The first wrong ones, and those with the largest errors, in running order."""
    ranked = sorted(ops, key=lambda op: (not op.wrong, op.index if op.wrong else -_size(op.error)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("op", justify="right")
    table.add_column("name", overflow="fold")
    table.add_column("what", overflow="fold")
    for name in ("output", "SQNR dB", "peak", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for op in sorted(ranked[:SHOWN_OPS], key=lambda op: op.index):
        table.add_row(
            str(op.index + 1),
            shortened(printable(op.name), _NAME_WIDTH),
            printable(op.what) + (" on the CPU" if op.on_cpu else ""),
            "x".join(map(str, op.shape)),
            _db(op.error),
            f"{op.error.peak:.2g}",
            str(op.error.lost),
            style="red" if op.wrong else None,
        )
    if len(ops) > SHOWN_OPS:
        table.caption = f"of {len(ops)} ops those with the largest errors"
        table.caption_justify = "left"
    return table


def _size(error: TensorError) -> float:
    return max(error.relative, error.peak)


def _db(error: TensorError) -> str:
    return "∞" if math.isinf(error.sqnr_db) else f"{error.sqnr_db:.1f}"


def _error(error: TensorError) -> str:
    lost = f", {error.lost} of {error.elements} elements no finite numbers" if error.lost else ""
    return f"off by {error.relative:.2g} (SQNR {_db(error)} dB){lost}"
