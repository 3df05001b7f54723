"""The tables as a terminal of 80 columns shows them."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console, RenderableType

from droidmace.report.tune_view import failure_view, result_view, summary_view
from droidmace.results import (
    Accuracy,
    DeviceInfo,
    LatencyBlock,
    RunTimes,
    SearchSummary,
    TuneFailure,
    TuneResult,
    Verdict,
)

RESULT = TuneResult(
    device=DeviceInfo("127.0.0.1:40569", "device", model="MI 9", gpu="Adreno(TM) 640"),
    model="net",
    verdict=Verdict.PROGRAM_ONLY,
    reasons=("because [of] it",),
    cold=(RunTimes(1000.0, 238.0, None),),
    warm=(RunTimes(50.0, 26.2, None),),
    untuned_run_ms=(0.5, 0.7, 0.6),
    tuned_run_ms=(0.2, 0.4, 0.3),
    latency_ratio=(0.5, 0.4, 0.6, 0.75),
    startup_ratio=(0.062, 0.0, float("inf"), 0.0),
    latency_blocks=(LatencyBlock((0.5, 0.7), (0.2, 0.4)),),
    accuracy=Accuracy(0, None, None, None, None),
    programs=12,
    programs_from_cache=12,
    tuned_entries=16,
    kernels_proved=15,
    tuning_s=1.0,
    wall_s=9.0,
    pushed_bytes=0,
    pushed_model_bytes=0,
    mace_version="v1",
    platform_info="a, b, c, v1",
    rounds=5,
    bundle="/a/rather/long/path/to/the/folder/of/bundles/net.MI9.msmnile.127.0.0.1_40569",
)
SEARCH = SearchSummary("fast", 3, 9, 0, 0, 0, 2.0, 1.5, 3.0, None, 2.0, (), ())
FAILURE = TuneFailure(
    "R58M[/x]", "proof", "op [bold] at [/nowhere]", where="net.pb", hint="see [a]", details="[/b]"
)


def shown(view: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(view, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_fits() -> None:
    text = shown(summary_view([RESULT, FAILURE]))
    table = [line for line in text.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
    assert max(map(len, table)) <= 80
    row = next(line for line in table if "127.0.0.1:40569" in line)
    assert "program-only" in row
    assert "1238" in row
    assert "0.6" in row
    assert f"127.0.0.1:40569  bundle: {RESULT.bundle}" in text
    assert "failed during" in " ".join(text.split())


def test_a_failure_is_shown_as_it_was_said() -> None:
    text = shown(failure_view(FAILURE))
    assert "R58M[/x]: net.pb: op [bold] at [/nowhere]" in text
    assert "│ [/b]" in text
    assert "fix: see [a]" in text


def test_one_result_says_where_its_bundle_is() -> None:
    text = shown(result_view(RESULT))
    assert str(RESULT.bundle) in text
    assert "because [of] it" in text
    assert "verdict: program-only" in text
    assert "1 of 1 blocks" in text
    assert "search (" not in text


def test_a_search_is_part_of_the_result() -> None:
    searched = dataclasses.replace(RESULT, search=SEARCH)
    text = shown(result_view(searched))
    assert "9 evaluations in 3 processes" in text
    assert "found 2 ms" in text
