"""Searches that are broken off: phone killed, cable pulled, host killed, at random moments.

Each goes on where it was, loses at most the process that was under way, and ends as one does that
nobody disturbs. ``DROIDMACE_SOAK=1`` does it 20 times each.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.tuning.journal import JournalContent, read_journal
from droidmace.tuning.salvage import salvage
from tests.conftest import PhoneLab

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIG = ROOT / "configs" / "fashion_mnist.yml"
RUN_FOLDER = "/data/local/tmp/mace_run"
EVALUATIONS = 50
DEADLINE_S = 120.0
SOAK = bool(os.environ.get("DROIDMACE_SOAK"))
MOMENTS = 20 if SOAK else 3
NAME = "interrupted"
LOST = 2
OVER = 0
"""It had come to its end just before."""


@dataclass(frozen=True)
class Ended:
    """How the program ended, and the last thing it said."""

    code: int
    last: dict[str, Any]


class Running:
    """A search under way, as a program of its own."""

    def __init__(self, lab: PhoneLab, phone: Phone, journal: Path) -> None:
        task = {
            "serial": phone.serial,
            "config": str(CONFIG),
            "journal": str(journal),
            "kind": "deep",
            "evaluations": EVALUATIONS,
            "mace_run": str(HERE / "quick_mace_run.py"),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "search_entry.py"), json.dumps(task)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=lab.environment | {"PYTHONPATH": str(ROOT)},
            text=True,
        )

    def wait_for_search(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert json.loads(line) == {"searching": True}, line

    def end(self) -> Ended:
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        lines = out.splitlines()
        return Ended(self.process.returncode, json.loads(lines[-1]) if lines else {})


@dataclass(frozen=True)
class Bench:
    """A phone to be maltreated, and what an undisturbed search finds on it."""

    lab: PhoneLab
    phone: Phone
    seconds: float
    undisturbed: dict[str, Any]
    journal: JournalContent

    def processes(self) -> list[str]:
        """What was started on the phone since it was last wiped, by its own count."""
        return self.lab.output(self.phone, f"cat {RUN_FOLDER}/processes").splitlines()

    def wipe(self) -> None:
        self.lab.output(self.phone, f"rm -rf {RUN_FOLDER} {RUN_FOLDER}.lock*")


@pytest.fixture(scope="module")
def bench(phone_lab: PhoneLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    phone = manager.start_phone(NAME, "adreno")
    path = tmp_path_factory.mktemp("undisturbed") / "journal.jsonl"
    search = Running(phone_lab, phone, path)
    search.wait_for_search()
    began_s = time.monotonic()
    ended = search.end()
    assert ended.code == 0, ended
    yield Bench(phone_lab, phone, time.monotonic() - began_s, ended.last, read_journal(path))
    manager.delete_phone(NAME)


def kill_phone(bench: Bench, search: Running) -> None:
    bench.phone.crash()
    assert search.end().code in (LOST, OVER)
    manager.start_phone(NAME)


def pull_cable(bench: Bench, search: Running) -> None:
    bench.phone.fault({"kind": "unplug", "now": True, "refuse_s": 0.2})
    assert search.end().code in (LOST, OVER)
    deadline_s = time.monotonic() + DEADLINE_S
    while bench.lab.shell(bench.phone, "echo in").stdout.strip() != "in":
        assert time.monotonic() < deadline_s, "the phone does not come back"
        bench.phone.wait_for_adb()


def kill_host(bench: Bench, search: Running) -> None:
    search.process.kill()
    assert search.end().code in (-9, OVER)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("interrupt", [kill_phone, pull_cable, kill_host])
def test_search_goes_on_where_it_was(bench: Bench, tmp_path: Path, interrupt: Any) -> None:
    moments = random.Random(interrupt.__name__)
    for number in range(MOMENTS):
        bench.wipe()
        path = tmp_path / f"{number}.jsonl"
        search = Running(bench.lab, bench.phone, path)
        search.wait_for_search()
        # The moments are the point of this test: nothing else is to be waited for.
        time.sleep(moments.uniform(0.0, 0.9) * bench.seconds)
        if search.process.poll() is None:
            interrupt(bench, search)
        else:
            assert search.end().code == OVER
        half = read_journal(path)
        again = Running(bench.lab, bench.phone, path)
        ended = again.end()
        assert ended.code == 0, (number, ended)
        whole = read_journal(path)
        assert whole.records()[: len(half.runs)] == half.records()
        assert [run.index for run in whole.runs] == list(range(len(whole.runs)))
        same_kind_of_result(bench, ended.last, whole)
        nothing_done_twice(bench, whole)


def same_kind_of_result(bench: Bench, last: dict[str, Any], whole: JournalContent) -> None:
    assert set(last["entries"]) <= set(bench.undisturbed["entries"])
    assert last["summary"].keys() == bench.undisturbed["summary"].keys()
    # What is kept for making sure is not always needed.
    assert last["summary"]["evaluations"] >= 0.8 * EVALUATIONS
    # The times are a function of the choices, give or take half a per cent.
    for name in ("untuned_ms", "best_ms"):
        assert last["summary"][name] == pytest.approx(bench.undisturbed["summary"][name], rel=0.1)
    assert whole.groups == bench.journal.groups
    entries = TunedParameters.parse(salvage(whole)).entries
    assert set(entries) <= set(bench.journal.winners)


def nothing_done_twice(bench: Bench, whole: JournalContent) -> None:
    """Every process whose end the host has seen is in the journal: one is lost at most."""
    measured = sum(line.startswith("measure 0") for line in bench.processes())
    assert len(whole.runs) <= measured <= len(whole.runs) + 1


def test_winners_of_a_tuning_run_that_never_ended_are_started_from(
    bench: Bench, tmp_path: Path
) -> None:
    bench.wipe()
    path = tmp_path / "journal.jsonl"
    search = Running(bench.lab, bench.phone, path)
    search.wait_for_search()
    assert search.process.stdout is not None
    for line in search.process.stdout:
        if json.loads(line).get("text") == "3 kernels tuned":
            break
    bench.phone.crash()
    assert search.end().code == 2
    manager.start_phone(NAME)
    half = read_journal(path)
    assert len(half.winners) >= 3
    assert not half.steps
    assert TunedParameters.parse(salvage(half)).entries == half.winners
    ended = Running(bench.lab, bench.phone, path).end()
    assert ended.code == 0, ended
    whole = read_journal(path)
    # The rest was guessed: MACE's tuner would have begun from nothing.
    assert sum(line.startswith("tune") for line in bench.processes()) == 1
    assert {key.key for group in whole.groups for key in group.keys} == {
        key.key for group in bench.journal.groups for key in group.keys
    }
    assert set(half.winners) <= set(whole.winners)
