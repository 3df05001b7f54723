"""The search's benchmark records every size, takes drift out, and replays searches on it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from droidmace.tuning.journal import read_journal
from droidmace.tuning.space import build_groups

ROOT = Path(__file__).parents[2]
KERNEL_TUNER = ["kernel_tuner genetic_algorithm"] if find_spec("kernel_tuner") else []
"""It comes with the extra ``bench``."""


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/search.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in ("benchmarks", "examples/nets"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    from searching import record

    return record


def test_every_size_is_recorded(tmp_path: Path) -> None:
    benchmark(
        *("record", "--driver", "intel", "--net", "fashion_mnist", "--powers-only"),
        *("--seconds", 300, "--passes", 1, "--out", tmp_path),
    )
    content = read_journal(tmp_path / "fashion_mnist-intel.jsonl.gz")
    assert content.identity["opencl"] == "intel"
    for group in build_groups(content.groups):
        (space,) = group.keys
        seen = [run.plan[group.name][0] for run in content.records() if group.name in run.plan]
        powers = {
            params
            for params in space.candidates
            if all(size & (size - 1) == 0 for size in params[:-1])
        }
        assert None in seen
        assert powers <= set(seen)
        assert len(seen) == len(set(seen))
    times = [time_ms for run in content.records() for time_ms in run.group_ms.values()]
    assert min(times) > 0.0


def test_drift_is_taken_out(recording: ModuleType) -> None:
    generator = random.Random(1)
    own_ms = {(group, choice): 1.0 + group + choice / 7 for group in (0, 1) for choice in range(9)}
    order = [pair for _ in range(30) for pair in generator.sample(sorted(own_ms), len(own_ms))]
    # for a third of the time the machine takes half as long again
    slow = range(len(order) // 3, 2 * len(order) // 3)
    series = [
        (pair, own_ms[pair] * (1.5 if place in slow else 1.0)) for place, pair in enumerate(order)
    ]
    corrected = recording.without_drift(series)
    ratios = [time_ms / own_ms[pair] for pair, time_ms in zip(order, corrected, strict=True)]
    middle = sorted(ratios)[len(ratios) // 2]
    off = [abs(math.log(ratio / middle)) for ratio in ratios]
    assert sum(one > 0.01 for one in off) < 0.1 * len(off)
    assert recording.without_drift([]) == []


def test_searches_are_replayed_and_gains_told(recording: ModuleType, tmp_path: Path) -> None:
    generator = random.Random(2)
    # what MACE tries never splits the second axis; here that is what helps
    sizes = [(x, y, z, 0) for x in (1, 2, 4, 8) for y in (1, 2, 4, 8) for z in (1, 2, 4, 8)]
    survey = {
        "device": {"max_lws": (64, 64, 64)},
        "groups": [
            {
                "key": f"conv2d_1x1_opencl_kernel_1_8_32_{4 * index}",
                "ops": [f"op{index}"],
                "gws": (8, 8, 8),
                "kwg_size": 512,
                "choices": [None, *sizes],
            }
            for index in (8, 9, 10)
        ],
    }

    def true_ms(params: tuple[int, ...] | None) -> float:
        return 3.0 if params is None else 1.0 + 0.2 * abs(math.log2(params[1] / 2))

    samples = {
        (group, place): [true_ms(choice) * generator.gauss(1.0, 0.01) for _ in range(8)]
        for group in range(3)
        for place, choice in enumerate([None, *sizes])
    }
    identity = {"net": "none", "date": "2026-01-01T00:00:00+00:00", "rounds": "1"}
    path = tmp_path / "none-none.jsonl.gz"
    recording.write_journal(path, recording.journal(identity, survey, samples, {}))
    out = tmp_path / "results.json"
    strategies = ["random", "mace", *KERNEL_TUNER]
    done = benchmark(
        *("compare", path, "--seeds", 3, "--budget", 0.5, "--processes", 1),
        *("--strategies", ",".join(strategies), "--out", out),
    )
    assert "within 2%" in done.stdout
    (table,) = json.loads(out.read_text("utf-8"))["tables"]
    assert table["exhaustive_evaluations"] == 3 * 65
    assert list(table["strategies"]) == strategies
    assert table["gains"]["gain_over_mace_list"] == pytest.approx(1.0 - 1.0 / 1.4, abs=0.02)
    for name in ("gain_estimate", "gain_bound"):
        assert table["gains"][name] == pytest.approx(1.0 - 1.0 / 1.4, abs=0.02)
    found = table["strategies"]
    assert found["random"]["end"]["median"] < 1.05
    assert found["mace"]["end"]["median"] == pytest.approx(1.4, abs=0.05)
    assert found["mace"]["within"]["5%"] == {
        "median": None,
        "p90": None,
        "reached": 0.0,
        "ended": 0.0,
    }
    for name in KERNEL_TUNER:
        assert found[name]["end"]["median"] < 1.2
