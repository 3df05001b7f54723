"""What a bench session looks like."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from droidmace.report.bench_view import bench_view, comparison_view
from droidmace.results import DeviceInfo, OpTime
from droidmace.results.bench import (
    BenchComparison,
    BenchProcess,
    BenchResult,
    Change,
    Energy,
    FigureComparison,
    OpProfile,
    OpTypeStat,
)

RESULT = BenchResult(
    device=DeviceInfo("one", "device", model="MI 9", gpu="Adreno (TM) 640"),
    model="net",
    identity={"runtimes": "CPU, GPU"},
    settings={"rounds": 50},
    processes=tuple(BenchProcess(70.0, 30.0, 10.0 + n, 45.0 + n, 585.0) for n in range(10)),
    cold=(BenchProcess(400.0, 900.0),),
    programs_from_cache=15,
)


def shown(renderable, width: int = 110) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def row(text: str, label: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"│ {label}"))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_figures_and_what_a_sample_is():
    text = shown(bench_view(RESULT))
    assert row(text, "latency") == ["latency", "14.5", "10", "18", "-", "19", "31.0%", "10"]
    assert row(text, "cold start: first result")[1:3] == ["1300", "1300"]
    assert "one fresh process: its average over 50 inferences" in text
    assert "runtimes: CPU, GPU" in text
    assert "15 from the compiled program, 0 from source" in text
    assert "chip 45 - 54 °C, GPU 585 MHz" in text
    assert "█" in text


def test_a_gpu_that_slept_again_lowers_no_clock():
    asleep = replace(RESULT.processes[0], gpu_mhz=0.0)
    text = shown(bench_view(replace(RESULT, processes=(asleep, *RESULT.processes[1:]))))
    assert "GPU 585 MHz" in text


def test_memory_energy_and_ops():
    ops = tuple(
        OpTime(f"conv{n}", "Conv2D", 0.0, 0.1, 0.1 * (n + 1), 1.0, (1, 8, 8, 4)) for n in range(12)
    )
    profile = OpProfile(
        ops, (OpTypeStat("Conv2D", 12, 7.8, 5_000_000),), macs=5_000_000, avg_ms=7.8
    )
    energy = Energy(0.05, 0.06, 1.0, 6.0, 15, 20, 10.0, taken_as="current_now in microamperes")
    text = shown(bench_view(replace(RESULT, profile=profile, peak_kib=2048, energy=energy)))
    assert "2.0 MiB resident" in text
    assert "50 mJ per inference beyond the idle phone (6.00 W under load, 1.00 W idle)" in text
    assert "current_now in microamperes" in text
    assert row(text, "conv11")[3:5] == ["1.2", "15.4%"]
    assert "2 ops more" in text
    assert "5,000,000 per inference, 0.641 G/s" in text


def test_energy_that_was_not_measured_says_why():
    text = shown(bench_view(replace(RESULT, energy=Energy(why_not="the battery is charging"))))
    assert "energy: not measured: the battery is charging" in text


@pytest.mark.parametrize("change", list(Change))
def test_a_comparison(change):
    figures = (
        FigureComparison("latency_ms", 10.0, 12.0, 8, 8, 1.2, 1.15, 1.25, 0.95, change),
        FigureComparison("cold_first_result_ms", 9, 9, 2, 2, 1.0, 0, float("inf"), 0, Change.OPEN),
        FigureComparison("single_ms", 2, 3, 90, 90, 1.5, 0, float("inf"), 0, Change.OPEN),
    )
    comparison = BenchComparison("a.json", 0.02, figures, ("another mace_run",))
    text = shown(comparison_view(comparison))
    assert row(text, "latency")[1:] == ["10", "12", "1.200", "1.150 - 1.250", change.value]
    assert row(text, "cold start: first result")[4] == "too few samples"
    assert row(text, "single inference")[4] == "one process"
    assert "differs: another mace_run" in text
    assert "beyond 2.0%" in text


def test_what_a_phone_says_cannot_paint_the_terminal():
    op = OpTime("\x1b[2Jevil[bold]", "Conv\x07", 0.0, 0.1, 0.1, 0.0)
    result = replace(RESULT, profile=OpProfile((op,)), warnings=("\x1b[31mred",))
    text = shown(bench_view(result))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "evil[bold]" in text
