"""Planted cases through the whole command: each gets the verdict that is true of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest

from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from tests.conftest import PhoneLab
from tests.planted.cases import CASES, Outcome, tune_planted

Tune = Callable[[str], Outcome]
SEED = 1001
CASE_NAMED = {case.name: case for case in CASES}
# One of nearly every verdict; benchmarks/gate.py runs all cases.
HERE = [
    "30 % faster",
    "not faster",
    "faster, wrong answers",
    "crash on stored program",
    "throttled in the second half, 10 % faster",
]


@pytest.fixture(scope="module")
def phone(phone_lab: PhoneLab) -> Iterator[Phone]:
    phone = manager.start_phone("planted", "mali")
    yield phone
    manager.delete_phone(phone.name)


@pytest.fixture(scope="module")
def tune(phone_lab: PhoneLab, phone: Phone, tmp_path_factory: pytest.TempPathFactory) -> Tune:
    @functools.cache
    def run(case_name: str) -> Outcome:
        return tune_planted(
            CASE_NAMED[case_name],
            SEED,
            serial=phone.serial,
            environment=phone_lab.environment,
            folder=tmp_path_factory.mktemp("planted"),
            arguments=("--gate",),
        )

    return run


@pytest.mark.parametrize("name", HERE)
def test_the_verdict_is_the_planted_one(tune: Tune, name: str) -> None:
    outcome, case = tune(name), CASE_NAMED[name]
    assert outcome.verdict in case.right, outcome.document["reasons"]
    assert outcome.exit_status == case.gate_exit


def test_blocks_and_what_was_thrown_out_are_told(tune: Tune) -> None:
    name = HERE[-1]
    document = tune(name).document
    blocks = document["raw_samples"]["latency_blocks"]
    kept = [block for block in blocks if not block["thrown_out"]]
    assert len(kept) < len(blocks)
    assert len(kept) * 2 == len(document["raw_samples"]["untuned_run_ms"])
    assert any("thrown out" in warning for warning in document["warnings"])
    # Before and after: the level changed by what was planted.
    level = [min(block["untuned_ms"]) for block in blocks]
    assert level[-1] / level[0] == pytest.approx(
        CASE_NAMED[name].planned(SEED).throttle_factor, rel=0.15
    )
