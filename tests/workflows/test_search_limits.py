"""How large work-groups may be, found out in few processes; and what MACE's tuner would cost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.tuning.journal import GroupFacts, KeyFacts
from droidmace.tuning.search import History, Plan, RunRecord, RunStatus
from droidmace.tuning.space import build_groups
from droidmace.workflows.search_cost import phone_tuner_cost_s
from droidmace.workflows.search_limits import next_probe, with_limits

GWS = {"conv": (32, 56, 56), "depthwise": (32, 28, 56), "softmax": (3, 1, 1)}
GROUPS = tuple(
    GroupFacts(f"{kernel}_{number}", (KeyFacts(f"key_{kernel}_{number}", kernel, gws),), ())
    for kernel, gws in GWS.items()
    for number in range(2)
)


def run(plan: Plan, limits: dict[str, int]) -> RunRecord:
    """A driver that refuses the first kernel that is too large for it."""
    for group in GROUPS:
        params = plan[group.name][0]
        if params is not None and math.prod(params[:-1]) > limits[group.keys[0].kernel]:
            return RunRecord(plan, RunStatus.REFUSED, 1, guilty=group.name)
    return RunRecord(plan, RunStatus.OK, 1, dict.fromkeys(plan, 1.0))


def probe_all(limits: dict[str, int]) -> list[RunRecord]:
    records: list[RunRecord] = []
    while plan := next_probe(GROUPS, {}, records):
        records.append(run(plan, limits))
        assert len(records) < 20
    return records


@given(
    conv=st.sampled_from([64, 128, 256, 384, 512, 1024, 4096]),
    depthwise=st.sampled_from([64, 256, 512, 1024]),
)
def test_limits_are_bracketed(conv: int, depthwise: int) -> None:
    limits = {"conv": conv, "depthwise": depthwise, "softmax": 64}
    records = probe_all(limits)
    for group in with_limits(GROUPS, {}, records):
        kernel = group.keys[0].kernel
        found = group.keys[0].kwg_size
        if limits[kernel] >= 1024 or kernel == "softmax":
            assert found is None
        else:
            assert found is not None
            # Halving finds a power of two; sizes of a kernel may not reach it to the item.
            assert limits[kernel] // 4 < found <= limits[kernel]


def test_one_process_is_enough_where_nothing_is_refused() -> None:
    assert len(probe_all({"conv": 1024, "depthwise": 1024, "softmax": 1024})) == 1


def test_phones_winners_prove_a_size() -> None:
    winners = {
        group.keys[0].key: (32, 32, 1, 0) for group in GROUPS if group.keys[0].kernel != "softmax"
    }
    plan = next_probe(GROUPS, winners, [])
    assert plan is not None
    assert {name for name, (params,) in plan.items() if params} == {"softmax_0"}


def test_process_that_fails_for_another_reason_is_not_asked_for_ever() -> None:
    records: list[RunRecord] = []
    while plan := next_probe(GROUPS, {}, records):
        records.append(RunRecord(plan, RunStatus.FAILED, 1))
    assert len(records) == 3


@pytest.mark.parametrize(
    ("default_ms", "runs"), [(1.0, 11), (30.0, 1 + 4), (60.0, 1 + 2), (250.0, 1 + 1)]
)
def test_cost_of_the_phones_tuner_is_counted_as_it_runs(default_ms: float, runs: int) -> None:
    facts = [GroupFacts("a", (KeyFacts("pooling_opencl_kernel__1_8_8_32"),), ("op",))]
    history = History(build_groups(facts))
    assert phone_tuner_cost_s(history, 2.0) == 2.0
    default = history.groups["a"].group.default
    history.add(RunRecord({"a": default}, RunStatus.OK, 1, {"a": default_ms}))
    candidates = {(x, 8, z) for x in (8, 2, 1, 4) for z in (8, 1, 2, 4) if x * 8 * z <= 1024}
    expected = 2.0 + len(candidates) * runs * default_ms / 1000.0
    assert phone_tuner_cost_s(history, 2.0) == pytest.approx(expected)
