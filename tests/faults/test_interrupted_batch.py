"""Batches that are broken off: full storage, a pulled cable, a dead phone, a killed host, Ctrl-C.

Each tells what happened, leaves nothing on a phone that can be reached, and goes on where it was:
in the end every sample's outputs are there, once, and right.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from droidmace.devices.select import find_device
from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from droidmace.errors import DeviceStorageError
from droidmace.macerun.session import DEFAULT_ROOT
from droidmace.validation.store import OutputStore
from tests.conftest import PhoneLab
from tests.faults import batch_entry

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAME = "batch"
COUNT, CHUNK, SAMPLE_S = 300, 50, 0.003
DEADLINE_S = 30.0
FAILED = 2


class Running:
    """A batch under way, as a program of its own."""

    def __init__(self, lab: PhoneLab, phone: Phone, store: Path, **more: object) -> None:
        task = {"serial": phone.serial, "store": str(store), "count": COUNT, "chunk": CHUNK} | more
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "batch_entry.py"), json.dumps(task)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=lab.environment | {"PYTHONPATH": str(ROOT)},
            text=True,
        )

    def wait_for_chunk(self) -> None:
        """Until the first chunk is in the store; the next ones are under way then."""
        assert self.process.stdout is not None
        assert "first" in json.loads(self.process.stdout.readline())

    def end(self) -> tuple[int, dict[str, Any]]:
        """The exit code, and the last thing it said."""
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        lines = out.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else {}


@pytest.fixture(scope="module")
def phone(phone_lab: PhoneLab) -> Iterator[Phone]:
    # Its storage is memory, and so full when we want it to be.
    yield manager.start_phone(NAME, "adreno", storage="16M")
    manager.delete_phone(NAME)


def left_behind(lab: PhoneLab, phone: Phone) -> list[str]:
    """Files and processes of a batch that are on the phone."""
    found = lab.output(phone, f"find {DEFAULT_ROOT}/b[a]tch 2>&1; ps -A -o PID,PPID,STAT,ARGS")
    lines = [line for line in found.splitlines() if not line.endswith("No such file or directory")]
    return [line for line in lines if "/batch" in line or "batch.sh" in line]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def pull_cable(lab: PhoneLab, phone: Phone, batch: Running) -> None:
    # In the middle of a chunk: of its samples or of its outputs.
    phone.fault({"kind": "unplug", "after_bytes": 30_000, "refuse_s": 0.2})
    code, last = batch.end()
    assert (code, last["error"]) == (FAILED, "DeviceLostError"), last
    wait_until(lambda: lab.shell(phone, "echo in").stdout.strip() == "in")


def kill_phone(_: PhoneLab, phone: Phone, batch: Running) -> None:
    phone.crash()
    code, last = batch.end()
    assert (code, last["error"]) == (FAILED, "DeviceLostError"), last
    manager.start_phone(NAME)


def kill_host(lab: PhoneLab, phone: Phone, batch: Running) -> None:
    batch.process.kill()
    assert batch.end()[0] == -signal.SIGKILL
    # Nobody tells the phone: its own script finds out.
    wait_until(lambda: not left_behind(lab, phone))
    lab.output(phone, f"rm -rf {DEFAULT_ROOT}.lock*")


def press_ctrl_c(lab: PhoneLab, phone: Phone, batch: Running) -> None:
    batch.process.send_signal(signal.SIGINT)
    assert batch.end()[0] in (1, -signal.SIGINT)
    assert left_behind(lab, phone) == []


@pytest.mark.parametrize("interrupt", [pull_cable, kill_phone, kill_host, press_ctrl_c])
def test_it_goes_on_where_it_was(
    phone_lab: PhoneLab, phone: Phone, tmp_path: Path, interrupt: Any
) -> None:
    batch = Running(phone_lab, phone, tmp_path, sample_s=SAMPLE_S)
    batch.wait_for_chunk()
    interrupt(phone_lab, phone, batch)
    with OutputStore(tmp_path, {"model": "tiny"}) as store:
        known = sum(map(len, store.done))
    assert CHUNK <= known < COUNT
    code, last = Running(phone_lab, phone, tmp_path).end()
    assert code == 0, last
    check_all(tmp_path, COUNT)
    assert left_behind(phone_lab, phone) == []


def check_all(folder: Path, count: int) -> None:
    with OutputStore(folder, {"model": "tiny"}) as store:
        assert store.done == (range(count),)
        scores = store.read(0, count)["scores"]
    numbers = np.arange(count)[:, None]
    np.testing.assert_array_equal(scores, numbers + 3.0 + np.arange(batch_entry.ELEMENTS))


# Every file takes a page of 4 KiB. One chunk: its samples fit or do not, or its outputs do not.
@pytest.mark.parametrize(
    ("free_kib", "size", "text"),
    [
        (600, 300, "cannot take samples 0 to 299"),
        (1800, 300, "storage is full"),
        (1200, 150, "cannot take samples|storage is full"),
    ],
)
def test_full_storage_is_told_and_the_rest_follows(
    phone_lab: PhoneLab, phone: Phone, tmp_path: Path, free_kib: int, size: int, text: str
) -> None:
    device = find_device(phone.serial, phone_lab.adb_port)

    def fill() -> None:
        free = phone_lab.output(phone, "df -k /data | tail -n 1").split()[3]
        blocks = int(free) - free_kib
        ballast = "dd if=/dev/zero of=/data/local/tmp/ballast bs=1024"
        phone_lab.output(phone, f"{ballast} count={blocks}")

    try:
        with OutputStore(tmp_path, {"model": "tiny"}) as store:
            with pytest.raises(DeviceStorageError, match=text) as caught:
                # There was room when it began: somebody else takes it then.
                batch_entry.run(device, store, 300, size, on_start=fill)
            assert "free some space" in str(caught.value.hint)
            assert "MiB are free" in caught.value.message
        assert left_behind(phone_lab, phone) == []
    finally:
        phone_lab.output(phone, "rm /data/local/tmp/ballast")
    with OutputStore(tmp_path, {"model": "tiny"}) as store:
        batch_entry.run(device, store, 300, size)
    check_all(tmp_path, 300)
    assert left_behind(phone_lab, phone) == []


def test_what_an_earlier_batch_has_left_is_removed_first(
    phone_lab: PhoneLab, phone: Phone, tmp_path: Path
) -> None:
    """What a phone that went away had kept would be in the way, and count as storage used."""
    stale = f"{DEFAULT_ROOT}/batch/0123abcd/in0"
    phone_lab.output(phone, f"mkdir -p {stale} && : >{stale}/image_zzzz")
    device = find_device(phone.serial, phone_lab.adb_port)
    with OutputStore(tmp_path, {"model": "tiny"}) as store:
        assert batch_entry.run(device, store, 3, 3) == 3
    check_all(tmp_path, 3)
    assert left_behind(phone_lab, phone) == []
