"""Phones of which it is known beforehand what tuning is worth, and a tuning run on one."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from droidmace.config import load_deployment
from droidmace.validation.idx import read_idx
from droidmace.validation.reference import Reference
from tests.planted.plan import Outputs, Plan, planted_program

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "fashion_mnist.yml"
SAMPLES = 20
ROUNDS = 10
"""What the program takes for a process that measures latency; it never runs them."""
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Case:
    """``right``: the verdicts that are true of it. ``plan``: fields of :class:`Plan`."""

    name: str
    right: tuple[str, ...]
    plan: Mapping[str, Any] = field(default_factory=dict)
    wrong_answers: bool = False

    @property
    def gate_exit(self) -> int:
        """The exit status of ``--gate`` with its defaults."""
        return 0 if {"ship", "params-only", "program-only"}.issuperset(self.right) else 1

    def planned(self, seed: int) -> Plan:
        """The phone of one seed: other noise in every case."""
        return Plan(seed=zlib.crc32(f"{self.name} {seed}".encode()), **self.plan)

    def program(self, seed: int) -> bytes:
        """Its mace_run."""
        right = right_answers()
        # Five of twenty images change their class.
        wrong = np.concatenate([np.roll(right[:5], 1, axis=1), right[5:]])
        return planted_program(self.planned(seed), right, wrong if self.wrong_answers else right)


CASES = (
    Case("30 % faster", ("ship",), {"tuned_factor": 0.70}),
    Case("3 % faster", ("ship",), {"tuned_factor": 0.97}),
    Case("not faster", ("program-only",)),
    Case("slower by 5 %", ("program-only",), {"tuned_factor": 1.05}),
    Case("faster, wrong answers", ("reject",), {"tuned_factor": 0.70}, wrong_answers=True),
    Case(
        "crash on stored program",
        ("params-only",),
        {"tuned_factor": 0.85, "crashes_on_stored_program": True},
    ),
    Case(
        "crash on stored program, not faster",
        ("nothing",),
        {"crashes_on_stored_program": True},
    ),
    Case(
        "throttled in the second half, 10 % faster",
        ("ship",),
        {"tuned_factor": 0.90, "throttle_after": 14},
    ),
    Case(
        "throttled in the second half, not faster",
        ("program-only",),
        {"throttle_after": 22},
    ),
    # Blocks of a fixed order find a gain here whenever they are looked at.
    Case("not faster, slow after tuned", ("program-only",), {"after_tuned_factor": 1.05}),
)


@functools.cache
def right_answers() -> Outputs:
    """onnxruntime's for the example's first images, shape (samples, classes)."""
    example = ROOT / "examples" / "fashion_mnist"
    images = read_idx(example / "t10k-first1000-images-idx3-ubyte.gz")[:SAMPLES, np.newaxis]
    inputs = images.astype(np.float32) / np.float32(255)
    (model,) = load_deployment(CONFIG).models.values()
    reference = Reference.open(model.model_file, model.inputs, model.outputs)
    (outputs,) = reference.run({model.inputs[0].name: inputs}).values()
    return outputs.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Outcome:
    """What ``droidmace tune`` said, and how long it took."""

    exit_status: int
    document: dict[str, Any]
    wall_s: float

    @property
    def verdict(self) -> str:
        return str(self.document["verdict"])


def tune_planted(
    case: Case,
    seed: int,
    *,
    serial: str,
    environment: Mapping[str, str],
    folder: Path,
    arguments: tuple[str, ...] = (),
) -> Outcome:
    """Run the command as a user would, with the planted program as the user's own mace_run."""
    program = folder / "mace_run"
    folder.mkdir(parents=True, exist_ok=True)
    program.write_bytes(case.program(seed))
    command = [
        *(sys.executable, "-m", "droidmace", "tune", "--json"),
        *("--serial", serial, "-c", str(CONFIG), "--limit", str(SAMPLES)),
        *("--mace-run", str(program), "--out", str(folder / "out"), "--rounds", str(ROUNDS)),
        *arguments,
    ]
    began_s = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    wall_s = time.monotonic() - began_s
    try:
        document = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"{case.name}, seed {seed}: {done.stderr[-3000:]}") from None
    return Outcome(done.returncode, document, wall_s)
