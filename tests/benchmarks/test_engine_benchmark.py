"""The engine's benchmark runs, checks answers, and keeps every sample."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks/engine.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("benchmark") / "results.json"
    done = benchmark(
        *("--nets", "fashion_mnist", "--drivers", "intel", "--rounds", 2, "--no-starts"),
        *("--rivals", "droidmace intel buffer,onnxruntime,PyTorch", "--quick", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime 1 thread" in done.stdout
    return json.loads(out.read_text("utf-8"))


def test_each_rival_has_checked_answers_and_all_samples(document: dict[str, object]) -> None:
    rows = {row["rival"]: row for row in document["latency"]}
    assert set(rows) == {
        "droidmace intel buffer",
        "droidmace intel buffer tuned",
        "onnxruntime 1 thread",
        "onnxruntime 2 threads",
    }
    for row in rows.values():
        assert "failed" not in row, row
        assert 0 <= row["error"] <= 1e-4
        for kind, summary in (("resident", "run_ms"), ("io", "io_ms")):
            turns = row[f"{kind}_samples_ms"]
            assert len(turns) == 2
            samples = [sample for turn in turns for sample in turn]
            assert row[summary]["count"] == len(samples) >= 6
            assert row[summary]["median"] == pytest.approx(statistics.median(samples), abs=1e-3)
            assert row[summary]["q1"] <= row[summary]["median"] <= row[summary]["q3"]
    assert rows["droidmace intel buffer tuned"]["options"]["tuning_s"] > 0


def test_the_machine_is_described(document: dict[str, object]) -> None:
    machine = document["machine"]
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["packages"]["onnxruntime"]
    assert machine["date"].startswith("20")


def test_who_is_missing_is_shown_with_the_reason(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = benchmark(
        *("--nets", "fashion_mnist", "--drivers", "intel", "--rounds", 1, "--no-starts"),
        *("--rivals", "tinygrad", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text("utf-8"))["latency"]
    try:
        import tinygrad  # noqa: F401
    except ImportError:
        assert "No module named 'tinygrad'" in row["failed"]
        assert "tinygrad intel: No module named" in done.stdout
    else:
        assert row["rival"] == "tinygrad intel"


def test_what_is_not_there_cannot_be_asked_for() -> None:
    done = benchmark("--quick", "--drivers", "vulkan")
    assert done.returncode == 1
    assert "no OpenCL driver vulkan" in done.stderr
    done = benchmark("--quick", "--nets", "resnet99")
    assert done.returncode == 2
    assert "no net resnet99" in done.stderr
