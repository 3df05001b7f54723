"""Planted cases through the whole command: each gets the verdict that is true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from tests.conftest import PhoneLab
from tests.planted.cases import CASES, Case, Outcome, tune_planted

Tune = Callable[..., Outcome]
# One of each verdict, and the two that a simple rule gets wrong; benchmarks/gate.py runs them all.
HERE = {
    "30 % faster",
    "not faster",
    "faster, wrong answers",
    "crash on stored program",
    "throttled in the second half, 10 % faster",
}


@pytest.fixture(scope="module")
def phone(phone_lab: PhoneLab) -> Iterator[Phone]:
    phone = manager.start_phone("planted", "mali")
    yield phone
    manager.delete_phone(phone.name)


@pytest.fixture
def tune(phone_lab: PhoneLab, phone: Phone, tmp_path: Path) -> Tune:
    def run(case: Case, seed: int, *arguments: str) -> Outcome:
        return tune_planted(
            case,
            seed,
            serial=phone.serial,
            environment=phone_lab.environment,
            folder=tmp_path,
            arguments=arguments,
        )

    return run


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in HERE], ids=lambda case: case.name
)
def test_the_verdict_is_the_planted_one(tune: Tune, case: Case) -> None:
    outcome = tune(case, 1001, "--gate")
    assert outcome.verdict in case.right, outcome.document["reasons"]
    assert outcome.exit_status == case.gate_exit


def test_blocks_and_what_was_thrown_out_are_told(tune: Tune) -> None:
    case = next(case for case in CASES if case.name.startswith("throttled"))
    document = tune(case, 1002).document
    blocks = document["raw_samples"]["latency_blocks"]
    kept = [block for block in blocks if not block["thrown_out"]]
    assert len(kept) < len(blocks)
    assert len(kept) * 2 == len(document["raw_samples"]["untuned_run_ms"])
    assert any("thrown out" in warning for warning in document["warnings"])
    # Before and after: the level changed by what was planted.
    level = [min(block["untuned_ms"]) for block in blocks]
    assert level[-1] / level[0] == pytest.approx(case.planned(1002).throttle_factor, rel=0.15)
