"""A search with the real engine: which keys it finds, and that what it chose is what runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from droidmace.config import SearchConfig, SearchKind
from droidmace.devices.lock import DeviceLock
from droidmace.devices.select import find_device
from droidmace.emulator.manager import Phone
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.results import SearchSummary
from droidmace.tuning.journal import Journal, JournalContent
from droidmace.tuning.search import RunStatus
from droidmace.workflows.phone_tuner import TUNED
from droidmace.workflows.search import SearchOutcome, SearchTarget, run_search_on_phone
from tests.conftest import PhoneLab
from tests.e2e.conftest import FASHION
from tests.faults.search_entry import prepare

Search = Callable[..., tuple[SearchOutcome, JournalContent, SearchTarget]]


@pytest.fixture
def search(phone_lab: PhoneLab, tmp_path: Path) -> Search:
    def run(phone: Phone, kind: SearchKind, **limits: int):
        device = find_device(phone.serial, phone_lab.adb_port)
        with DeviceLock(device), Journal.open(tmp_path / "journal.jsonl", {}) as journal:
            target = prepare(device, FASHION)
            config = SearchConfig(kind=kind, **limits)
            outcome = run_search_on_phone(target, config, journal, lambda *_: None)
            return outcome, journal.content, target

    return run


def applied_by_a_fresh_process(
    outcome: SearchOutcome, target: SearchTarget
) -> dict[str, tuple[int, ...]]:
    path = f"{target.layout.root}/chosen_parameters"
    target.device.push(TunedParameters.build(outcome.entries).serialize(), path)
    run = replace(
        target.base,
        storage_dir=target.storage,
        opencl_parameter_file=path,
        vlog_level=3,
    )
    return dict(target.session.run(run, timeout_s=60.0).applied)


def check(outcome: SearchOutcome, content: JournalContent, target: SearchTarget) -> SearchSummary:
    applied = applied_by_a_fresh_process(outcome, target)
    searched = {key.key for group in content.groups for key in group.keys}
    # An obfuscating build would show others; the engine's are as they stand in the file.
    assert {key: params for key, params in outcome.entries.items() if key in searched} == {
        key: params for key, params in applied.items() if key in searched
    }
    ops = [op for group in content.groups for op in group.ops]
    assert len(ops) == len(set(ops))
    summary = outcome.summary
    assert summary is not None
    assert summary.processes == len(content.runs)
    assert summary.failed == 0
    assert {row.key for row in summary.winners} == searched
    assert 0 < summary.best_ms <= summary.untuned_ms < math.inf
    assert summary.mace_run_s < summary.wall_s
    assert [point.evaluations for point in summary.curve] == sorted(
        point.evaluations for point in summary.curve
    )
    return summary


def test_deep_search_starts_from_the_phones_winners(search: Search, adreno_phone: Phone) -> None:
    outcome, content, target = search(adreno_phone, SearchKind.DEEP, evaluations=120)
    summary = check(outcome, content, target)
    assert TUNED in content.steps
    assert outcome.tuning_s > 0
    assert summary.mace_ms is not None
    shapes = {
        "conv2d_3x3": 1,
        "conv2d_1x1": 4,
        "depthwise_conv2d": 4,
        "transform": 2,
    }
    kinds = [key.kernel for group in content.groups for key in group.keys]
    for kind, least in shapes.items():
        assert kinds.count(kind) >= least, kinds
    # Weight transforms show in no op: they stay as the phone's tuner chose.
    weights = [key for key in outcome.entries if key.startswith("filter_buffer_to_image")]
    assert weights
    assert all(outcome.entries[key] == content.winners[key] for key in weights)
    assert all(run.record.status is RunStatus.OK for run in content.runs)
    # Two residual blocks of one shape share their kernels.
    assert any(len(group.ops) > 1 for group in content.groups)
    assert outcome.mace_version


def test_fast_search_guesses_the_keys(search: Search, mali_phone: Phone) -> None:
    outcome, content, target = search(mali_phone, SearchKind.FAST, evaluations=20)
    check(outcome, content, target)
    assert not content.winners
    assert outcome.tuning_s == 0
    assert not outcome.notes


def test_maces_own_tuner_alone(search: Search, adreno_phone: Phone) -> None:
    outcome, content, _ = search(adreno_phone, SearchKind.MACE)
    assert outcome.summary is None
    assert dict(outcome.entries) == content.winners
    assert not content.groups
