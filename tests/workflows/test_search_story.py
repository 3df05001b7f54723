"""What a search does when things go well and when they do not, on this machine as the phone."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from droidmace.config import SearchConfig, SearchKind
from droidmace.devices.local import LocalDevice
from droidmace.errors import InputError, MaceRunError
from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession
from droidmace.tuning.journal import Journal, JournalContent, read_journal
from droidmace.tuning.salvage import salvage
from droidmace.tuning.search import RunStatus
from droidmace.workflows.measure import Layout
from droidmace.workflows.phone_tuner import CUT_SHORT, TUNED
from droidmace.workflows.search import SearchOutcome, SearchTarget, run_search_on_phone
from droidmace.workflows.search_summary import duration_text

QUICK = Path(__file__).parents[1] / "faults" / "quick_mace_run.py"
SEARCHED = {
    "conv2d_3x3_opencl_kernel_1_32_32_16",
    "conv2d_1x1_opencl_kernel_1_32_32_32",
    "depthwise_conv2d_ocl_kernel_8_8_32_1",
    "softmax_opencl_kernel_1_1_1_10",
}


class Lab:
    """A folder that plays the phone, and searches on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "phone"
        self.root.mkdir()
        binary = self.root / "mace_run"
        text = QUICK.read_text("utf-8")
        binary.write_text(f"#!{sys.executable} -ISE\n" + text.partition("\n")[2], "utf-8")
        binary.chmod(0o755)
        self.journal_path = folder / "journal.jsonl"
        self.notes: list[str] = []
        self.fault = ""
        self.limited = False

    @property
    def target(self) -> SearchTarget:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        device = LocalDevice(self.root, environment=environment)
        base = Invocation(
            cwd=str(self.root),
            model_name="quick",
            model_file="quick.pb",
            model_data_file="quick.data",
            inputs=(TensorArg("input", (1, 4)),),
            outputs=(TensorArg("output", (1, 10)),),
            input_file="input/quick",
            output_file=str(self.root / "output" / "quick"),
            limit_opencl_kernel_time=self.limited,
            extra_environment={"QUICK_FAULT": self.fault},
        )
        layout = Layout(str(self.root), str(self.root / "mace_run"), "quick")
        session = MaceRunSession(device, str(self.root))
        return SearchTarget(device, session, layout, base, timeout_s=30.0)

    def search(
        self, kind: SearchKind = SearchKind.DEEP, evaluations: int | None = 48, **limits: Any
    ) -> tuple[SearchOutcome, JournalContent]:
        config = SearchConfig(kind=kind, evaluations=evaluations, **limits)
        with Journal.open(self.journal_path, {"model": "quick"}) as journal:
            outcome = run_search_on_phone(self.target, config, journal, self.note)
            return outcome, journal.content

    def note(self, text: str, done: int, total: int) -> None:
        self.notes.append(text)

    @property
    def processes(self) -> list[str]:
        return (self.root / "processes").read_text().splitlines()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_search_beats_the_phones_winners(lab: Lab) -> None:
    outcome, content = lab.search()
    summary = outcome.summary
    assert summary is not None
    assert summary.mace_ms is not None
    assert summary.best_ms <= summary.mace_ms < summary.untuned_ms
    # conv_1 and conv_2 have one shape; the reshape has no kernel.
    assert [group.ops for group in content.groups] == [
        ("conv_0",),
        ("conv_1", "conv_2"),
        ("depthwise_3",),
        ("softmax_5",),
    ]
    assert summary.untuned_ms == pytest.approx(18.75, rel=0.02)
    assert {row.key for row in summary.winners} == SEARCHED
    assert outcome.entries["arg_buffer_to_image_[16]"] == (64, 4, 0)
    assert "evaluations" in lab.notes[-1]
    assert re.search("ms \\(untuned 18\\.., \N{MINUS SIGN}3.\\..%\\)", lab.notes[-1])
    TunedParameters.build(outcome.entries)


def test_refused_sizes_are_data(lab: Lab) -> None:
    _, content = lab.search()
    refused = [record for record in content.records() if record.status is RunStatus.REFUSED]
    assert refused
    for record in refused:
        assert record.guilty is not None
        choice = record.plan[record.guilty][0]
        assert choice is not None
        assert math.prod(choice[:-1]) > 256
        assert "CL_INVALID_WORK_GROUP_SIZE" in record.reason
    # Halved from 1024, once for each of three families of kernels, and then never again.
    assert len(refused) == 6


def test_same_command_does_nothing_twice(lab: Lab) -> None:
    first, _ = lab.search()
    before = len(lab.processes)
    again, content = lab.search()
    assert len(lab.processes) == before
    assert again.entries == first.entries
    assert first.summary is not None
    assert again.summary is not None
    assert again.summary.resumed_runs == len(content.runs)
    assert again.summary.best_ms == first.summary.best_ms
    assert [point.evaluations for point in again.summary.curve] == sorted(
        point.evaluations for point in again.summary.curve
    )


def test_larger_budget_goes_on(lab: Lab) -> None:
    _, content = lab.search(evaluations=32)
    before = len(content.runs)
    _, content = lab.search(evaluations=52)
    assert len(content.runs) > before
    assert sum(line.startswith("tune") for line in lab.processes) == 1


def test_repeats_vote(lab: Lab) -> None:
    outcome, content = lab.search(evaluations=80, repeats=2)
    assert {run.repeat for run in content.runs} == {0, 1}
    assert outcome.summary is not None
    assert outcome.summary.repeats == 2
    assert all(row.votes == 2 for row in outcome.summary.winners)
    assert all(row.stability in (0.5, 1.0) for row in outcome.summary.winners)


def test_budget_in_seconds_counts_what_was_spent(lab: Lab) -> None:
    lab.search(evaluations=None, budget_s=1.5)
    before = len(lab.processes)
    lab.search(evaluations=None, budget_s=1.5)
    assert len(lab.processes) <= before + 2


def test_fast_search_asks_no_tuner(lab: Lab) -> None:
    outcome, content = lab.search(SearchKind.FAST, None)
    assert not any(line.startswith("tune") for line in lab.processes)
    assert {key.key for group in content.groups for key in group.keys} == SEARCHED
    assert outcome.summary is not None
    assert outcome.summary.mace_ms is None
    assert outcome.tuning_s == 0
    assert not any(run.record.status is RunStatus.REFUSED for run in content.runs)


def test_fast_search_falls_back_to_the_tuner_where_guesses_fail(lab: Lab) -> None:
    lab.fault = "keys"
    outcome, content = lab.search(SearchKind.FAST, None)
    assert TUNED in content.steps
    assert "0%" in outcome.notes[0]
    assert {key.key for group in content.groups for key in group.keys} == {
        f"odd_kernel_{key}" for key in SEARCHED
    }


@pytest.mark.parametrize("kind", [SearchKind.DEEP, SearchKind.FAST])
def test_obfuscated_keys_are_written_as_the_build_has_them(lab: Lab, kind: SearchKind) -> None:
    lab.fault = "obfuscated"
    outcome, content = lab.search(kind)
    hidden = {obfuscate_symbol(key) for key in SEARCHED}
    assert {key.key for group in content.groups for key in group.keys} == hidden
    assert set(outcome.entries) & SEARCHED == set()
    assert set(outcome.readable) & SEARCHED
    assert {obfuscate_symbol(key) for key in outcome.readable if not key.startswith("M")} == {
        key for key in outcome.entries if not key.startswith("M")
    }
    summary = outcome.summary
    assert summary is not None
    assert summary.best_ms < 0.8 * summary.untuned_ms
    if kind is SearchKind.DEEP:
        assert hidden < set(content.winners)


def test_guess_that_crashes_is_dropped(lab: Lab) -> None:
    lab.fault = "guess"
    outcome, content = lab.search(SearchKind.FAST, None)
    found = {key.key for group in content.groups for key in group.keys}
    assert found == {key for key in SEARCHED if not key.startswith("softmax")}
    assert not outcome.notes


def test_tuner_that_crashes_leaves_its_winners(lab: Lab) -> None:
    lab.fault = "tuner"
    outcome, content = lab.search(evaluations=12)
    assert CUT_SHORT in content.steps
    assert "did not come to its end" in outcome.notes[0]
    found = {key.key for group in content.groups for key in group.keys}
    assert found == {key for key in SEARCHED if key.startswith("conv2d")}
    assert TunedParameters.parse(salvage(content)).entries == content.winners
    lab.search(evaluations=16)
    assert sum(line.startswith("tune") for line in lab.processes) == 1


def test_maces_own_tuner_alone(lab: Lab) -> None:
    outcome, content = lab.search(SearchKind.MACE, None)
    assert outcome.summary is None
    assert dict(outcome.entries) == content.winners
    assert set(outcome.entries) > SEARCHED
    assert not content.groups
    again, _ = lab.search(SearchKind.MACE, None)
    assert again.entries == outcome.entries
    assert len(lab.processes) == 1


def test_kernels_that_run_in_slices_are_left_alone(lab: Lab) -> None:
    lab.limited = True
    outcome, content = lab.search()
    assert [group.name for group in content.groups] == ["softmax_5"]
    assert "3 kernels run in slices" in outcome.notes[0]
    assert outcome.notes[0].endswith("they stay as the phone's tuner chose")


def test_kernels_in_slices_keep_maces_sizes_where_no_tuner_ran(lab: Lab) -> None:
    lab.limited = True
    outcome, content = lab.search(SearchKind.FAST, evaluations=4)
    assert not content.winners
    assert outcome.notes[-1].endswith("they keep MACE's own sizes")
    assert not {key for key in outcome.entries if "softmax" not in key} & SEARCHED


@pytest.mark.parametrize("kind", [SearchKind.MACE, SearchKind.DEEP])
def test_kernel_with_a_name_that_no_journal_takes_is_left_out(lab: Lab, kind: SearchKind) -> None:
    lab.fault = "name"
    outcome, _ = lab.search(kind, evaluations=12 if kind is SearchKind.DEEP else None)
    assert any(note.endswith("name or size: 1") for note in outcome.notes)
    assert max(map(len, outcome.entries)) < 100
    winners = read_journal(lab.journal_path).winners
    assert set(winners) > SEARCHED
    lab.search(kind, evaluations=12 if kind is SearchKind.DEEP else None)
    assert sum(line.startswith("tune") for line in lab.processes) == 1


def test_phone_that_tells_nothing_ends_the_search(lab: Lab) -> None:
    lab.search(evaluations=30)
    lab.fault = "table"
    with pytest.raises(MaceRunError, match="processes in a row told nothing"):
        lab.search(evaluations=300)


@pytest.mark.parametrize("kind", [SearchKind.FAST, SearchKind.DEEP])
def test_what_all_is_compared_with_is_measured_again_if_it_was_killed(
    lab: Lab, kind: SearchKind
) -> None:
    lab.fault = "killed"
    outcome, content = lab.search(kind, evaluations=1)
    assert [record.status for record in content.records()[:2]] == [RunStatus.FAILED] * 2
    assert outcome.summary is not None
    # Infinite figures would have no place in the bundle's JSON.
    json.dumps(outcome.summary.as_document(), allow_nan=False)
    assert outcome.summary.untuned_ms == pytest.approx(18.75, rel=0.02)


def test_deep_search_says_that_it_goes_on_with_a_fast_ones_kernels(lab: Lab) -> None:
    lab.search(SearchKind.FAST, evaluations=8)
    outcome, _ = lab.search(SearchKind.DEEP, evaluations=16)
    assert any("--fresh" in note for note in outcome.notes)


def test_interrupted_by_the_user_nothing_goes_on(lab: Lab) -> None:
    def interrupt(text: str, done: int, total: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    lab.note = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        lab.search(evaluations=400)
    with Journal.open(lab.journal_path, {"model": "quick"}) as journal:
        runs = len(journal.content.runs)
    measured = sum(line.startswith("measure 0") for line in lab.processes)
    assert runs <= measured <= runs + 1


def test_nothing_to_salvage(lab: Lab) -> None:
    with pytest.raises(InputError, match="no winner"):
        salvage(JournalContent({}))


def test_durations_for_people() -> None:
    assert [duration_text(one) for one in (-1.0, 12.3, 200.0, 9000.0)] == [
        "0 s",
        "12 s",
        "3 min",
        "2.5 h",
    ]
