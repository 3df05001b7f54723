"""The rule for latency on simulated phones: many seeds, no phone, the noise of the planted ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

import pytest

from droidmace.tuning.latency import BlockRules, LatencyEvidence, compare_latency
from droidmace.tuning.sequential import Finding
from tests.planted.cases import CASES, Case
from tests.planted.planted_mace_run import latency_ms

SEEDS = 200
RULES = BlockRules()


def measured(case: Case, seed: int) -> LatencyEvidence:
    """What the blocks on the case's phone say."""
    plan = asdict(case.planned(seed))
    ran: list[bool] = []

    def run_ms(is_tuned: bool) -> float:
        after_tuned = bool(ran) and ran[-1]
        ran.append(is_tuned)
        return latency_ms(plan, len(ran) - 1, is_tuned, after_tuned)

    return compare_latency(run_ms, RULES, lot=random.Random(seed))


@pytest.fixture(scope="module")
def findings() -> Callable[[str], Counter[Finding]]:
    def count(name: str) -> Counter[Finding]:
        case = next(case for case in CASES if case.name == name)
        return Counter(measured(case, seed).finding for seed in range(SEEDS))

    return count


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("30 % faster", 1.0),
        ("3 % faster", 0.9),
        ("crash on stored program", 0.99),
        ("throttled in the second half, 10 % faster", 0.99),
    ],
)
def test_a_true_gain_is_found(
    findings: Callable[[str], Counter[Finding]], name: str, least: float
) -> None:
    assert findings(name)[Finding.GAIN] >= least * SEEDS


@pytest.mark.parametrize(
    "name",
    [
        "not faster",
        "slower by 5 %",
        "throttled in the second half, not faster",
        "not faster, slow after tuned",
    ],
)
def test_a_gain_that_is_none_is_hardly_ever_found(
    findings: Callable[[str], Counter[Finding]], name: str
) -> None:
    assert findings(name)[Finding.GAIN] <= SEEDS / 20


def test_nothing_is_thrown_out_because_one_side_is_slow() -> None:
    """What decides is blind to the sides: tuned and untuned change places, the rest stays."""
    plan = asdict(CASES[1].planned(1)) | {"tuned_factor": 1.0}
    thrown = []
    for swapped in (False, True):
        number = 0

        def run_ms(is_tuned: bool, swapped: bool = swapped) -> float:
            nonlocal number
            number += 1
            return latency_ms(plan, number - 1, is_tuned != swapped)

        rules = BlockRules(min_gain=0.0, max_blocks=11)
        found = compare_latency(run_ms, rules, lot=random.Random(1))
        thrown.append([bool(block.thrown_out) for block in found.blocks])
    assert thrown[0] == thrown[1]
