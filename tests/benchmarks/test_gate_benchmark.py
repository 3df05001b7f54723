"""The gate's benchmark tunes planted phones and counts the right verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_case_is_run_judged_and_kept(tmp_path: Path) -> None:
    case = "crash on stored program, not faster"
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "benchmarks" / "gate.py", "--cases", case),
            *("--seeds", "1", "--first", "77", "--phones", "1", "--out", tmp_path / "gate.json"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "gate.json").read_text("utf-8"))
    assert f"| {case} | nothing | 1 of 1 |" in done.stdout
    (run,) = document["runs"]
    assert (run["seed"], run["verdict"], run["exit_status"]) == (77, "nothing", 1)
    assert len(run["block_ratios"]) >= 6
    assert "SIGSEGV" in run["reasons"][0]


def test_an_unknown_case_is_refused_with_those_there_are(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gate.py", "--cases", "faster still"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "not faster" in done.stderr
