"""What people and programs see of a bisection."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from droidmace.report.bisect_view import SHOWN_OPS, bisect_view
from droidmace.results import DeviceInfo
from droidmace.results.bisect import (
    BisectResult,
    BisectRun,
    Cause,
    OpComparison,
    OutputComparison,
    Suspect,
    TensorError,
)

ERROR = TensorError(
    elements=64,
    relative=0.1,
    peak=0.25,
    lost=0,
    cosine=0.995,
    worst_index=(0, 1, 2, 3),
    worst_cpu=1.0,
    worst_gpu=1.25,
    cpu_peak=4.0,
)
RIGHT = replace(ERROR, relative=1e-7, peak=1e-6)


def op(index: int, *, wrong: bool = False) -> OpComparison:
    return OpComparison(
        index=index,
        name=f"op{index}",
        what="Conv2D 3x3",
        output=f"t{index}",
        shape=(1, 4, 4, 4),
        error=ERROR if wrong else RIGHT,
        wrong=wrong,
    )


@pytest.fixture
def result() -> BisectResult:
    ops = tuple(op(index, wrong=index == 12) for index in range(30))
    return BisectResult(
        device=DeviceInfo("S1", "device", model="Phone", gpu="Adreno"),
        model="net",
        data_type="fp16",
        sample="sample 3",
        op_count=30,
        cause=Cause.KERNEL,
        sentence="Conv2D op12 is wrong.",
        culprit=ops[12],
        outputs=(OutputComparison("scores", ERROR, differs=True),),
        ops=ops,
        suspects=(
            Suspect("fp32", right=True, error=RIGHT),
            Suspect("in buffers", right=False, error=None, why_not="no run is left of 7"),
        ),
        runs=(BisectRun("cpu", "every tensor"), BisectRun("gpu", "the net as it is")),
        run_limit=7,
        reproducer="/out/x",
        warnings=("a note",),
    )


def test_ops_on_the_cpu_are_told(result: BisectResult) -> None:
    ops = (replace(result.ops[0], on_cpu=True), *result.ops[1:])
    text = shown(replace(result, ops=ops[:8], on_cpu=("op0", "op\x1b[31m")))
    assert "1 not judged: MACE runs them on the CPU" in text
    assert "Conv2D 3x3 on the CPU" in text
    assert "on the CPU, in the net as it is: op0, op" in text
    assert "\x1b" not in text


def test_nothing_judged_is_nothing_found(result: BisectResult) -> None:
    unjudged = replace(result, cause=Cause.UNJUDGED, culprit=None, ops=())
    assert not unjudged.found
    assert "not judged: " in shown(unjudged)
    assert unjudged.as_document()["cause"] == "not judged"


def shown(result: BisectResult) -> str:
    console = Console(file=StringIO(), width=160)
    console.print(bisect_view(result))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_everything_that_matters_is_shown(result: BisectResult) -> None:
    text = shown(result)
    for part in (
        "net (fp16, 30 ops) on Phone (Adreno), sample 3",
        "output scores differs from the CPU's: cosine 0.995000",
        "30 ops by themselves, 1 of them wrong",
        "fp32: right",
        "in buffers: not tried: no run is left of 7",
        "2 of at most 7 runs: every tensor (cpu), the net as it is (gpu)",
        "warning: a note",
        "reproducer: /out/x",
        "kernel: Conv2D op12 is wrong.",
    ):
        assert part in text
    assert text.rstrip().endswith("Conv2D op12 is wrong.")


def test_of_many_ops_the_wrong_ones_are_shown(result: BisectResult) -> None:
    rows = [line for line in shown(result).splitlines() if " op" in line and "Conv2D 3x3" in line]
    assert len(rows) == SHOWN_OPS
    assert any("op12" in row for row in rows)
    numbers = [int(row.split()[0]) for row in rows]
    assert numbers == sorted(numbers)


def test_names_cannot_drive_the_terminal(result: BisectResult) -> None:
    evil = replace(result, model="\x1b[2Jnet", sentence="[red]\x07", warnings=("\x1b]0;x",))
    text = shown(evil)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text


def find_odd(value: object) -> Sequence[float]:
    if isinstance(value, dict):
        return [odd for one in value.values() for odd in find_odd(one)]
    if isinstance(value, list):
        return [odd for one in value for odd in find_odd(one)]
    return [value] if isinstance(value, float) and not math.isfinite(value) else []


def test_the_document_is_json_without_odd_numbers(result: BisectResult) -> None:
    lost = replace(ERROR, relative=0.0, worst_gpu=math.nan, worst_cpu=math.inf)
    odd = replace(result, culprit=replace(op(0), error=lost))
    document = odd.as_document()
    assert not find_odd(document)
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["cause"] == "kernel"
    assert again["culprit"]["error"]["sqnr_db"] is None
    assert again["culprit"]["error"]["worst_gpu"] == "nan"
    assert again["runs"][0] == {"runtime": "cpu", "what": "every tensor"}
    assert again["schema"] == "droidmace bisect 1"
