"""``docs/ops.md`` is what comes out when every ONNX node case is converted, run and compared.

``DROIDMACE_WRITE_OPS=1 pytest tests/ops`` writes the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from case_runner import FAILED, WRONG, Outcome
from onnx_cases import LIGHT, ops_of_nets
from ops_table import render, without_large

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/ops.md"
WRITE = os.environ.get("DROIDMACE_WRITE_OPS") == "1"
DEADLINE_S = 900 if WRITE else 280
pytestmark = pytest.mark.timeout(DEADLINE_S + 20)


@dataclass(frozen=True)
class Sweep:
    """What came out, and the ops that were not tried."""

    outcomes: tuple[Outcome, ...]
    not_float: tuple[str, ...]
    too_new: tuple[str, ...]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """All cases, in a process that sees Intel's driver alone."""
    icd = tmp_path_factory.mktemp("icd")
    driver = Path(sys.prefix) / "lib/libintelocl.so"
    assert driver.exists(), "pip install 'droidmace[emulator]'"
    (icd / "intel.icd").write_text(f"{driver}\n", encoding="utf-8")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "sweep.py"), *(["--large"] if WRITE else [])],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "OCL_ICD_VENDORS": str(icd), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *cases, rest = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = tuple(Outcome(**{**case, "constants": tuple(case["constants"])}) for case in cases)
    return Sweep(outcomes, tuple(rest["not_float"]), tuple(rest["too_new"]))


@pytest.mark.parametrize("runtime", ["gpu", "cpu"])
def test_what_converts_runs_and_is_right(sweep: Sweep, runtime: str) -> None:
    """A case may be refused, with a reason; it may not compute something else."""
    bad = [
        f"{one.case} ({one.op}) is {one.verdict}: {one.reason}"
        for one in sweep.outcomes
        if one.runtime == runtime and one.verdict in {WRONG, FAILED}
    ]
    assert not bad, "\n".join(bad)
    right = [one for one in sweep.outcomes if one.runtime == runtime and one.verdict == "right"]
    assert len({one.op for one in right}) > 40
    assert {one.case for one in right if one.op == LIGHT} >= {"resnet50", "densenet121"}


def test_every_refusal_has_a_reason(sweep: Sweep) -> None:
    silent = [one.case for one in sweep.outcomes if one.verdict == "refused" and not one.reason]
    assert not silent


def test_the_table_is_up_to_date(sweep: Sweep) -> None:
    text = render(sweep.outcomes, sweep.not_float, sweep.too_new, ops_of_nets())
    if WRITE:
        TABLE.write_text(text, encoding="utf-8")
    written = TABLE.read_text("utf-8")
    if f"({onnx.__version__})" not in written:
        pytest.skip("the table was made from another version of the onnx package")
    # The large nets are run only when the table is written.
    assert without_large(text) == without_large(written), (
        "docs/ops.md is out of date: DROIDMACE_WRITE_OPS=1 pytest tests/ops"
    )
