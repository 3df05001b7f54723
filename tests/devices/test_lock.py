"""The lock on the phone: through adb under mksh and toybox, and on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.local import LocalDevice
from droidmace.devices.lock import DeviceLock, LockOwner, parse_owner
from droidmace.errors import DeviceBusyError, DeviceLostError, DeviceStorageError


@pytest.fixture(params=["local", "adb"])
def device(request, tmp_path):
    if request.param == "local":
        return LocalDevice(tmp_path)
    return request.getfixturevalue("shared_phone").device


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mace_run.lock"


def plant(path: Path, owner: LockOwner | None, *, age_s: int = 0) -> None:
    path.mkdir()
    if owner is not None:
        (path / "owner").write_text(owner.text() + "\n")
        (path / "beat").touch()
    for made in (*path.iterdir(), path):
        then = made.stat().st_mtime - age_s
        os.utime(made, (then, then))


def foreign(host="another-computer", pid=77) -> LockOwner:
    return LockOwner(host, pid, "2026-01-02T03:04:05+00:00", "0123456789abcdef" * 2)


def test_holds_and_releases(device, path):
    with DeviceLock(device, path=str(path)) as lock:
        record = json.loads((path / "owner").read_text())
        assert record["host"] == socket.gethostname()
        assert record["pid"] == os.getpid()
        assert lock.note is None
        lock.check()
    assert not path.exists()


def test_makes_its_folder(device, tmp_path):
    path = tmp_path / "not" / "yet" / "lock"
    with DeviceLock(device, path=str(path)):
        assert path.is_dir()


def test_says_who_holds_it_since_when_and_how_to_break_it(device, path):
    plant(path, foreign())
    with pytest.raises(DeviceBusyError) as caught, DeviceLock(device, path=str(path)):
        pytest.fail("got a lock that is held")
    assert "process 77 on another-computer since 2026-01-02T03:04:05" in str(caught.value)
    assert caught.value.hint is not None
    assert f"shell rm -r {path}" in caught.value.hint
    assert parse_owner((path / "owner").read_text()) == foreign()


def test_a_second_run_of_this_computer_is_kept_out(device, path):
    with DeviceLock(device, path=str(path)), pytest.raises(DeviceBusyError):
        DeviceLock(device, path=str(path)).acquire()
    assert not path.exists()


def test_takes_over_from_a_dead_process_of_this_computer(device, path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    plant(path, foreign(socket.gethostname(), ended.pid))
    with DeviceLock(device, path=str(path)) as lock:
        assert lock.note is not None
        assert f"process {ended.pid}" in lock.note
        assert json.loads((path / "owner").read_text())["pid"] == os.getpid()
    assert list(path.parent.glob("mace_run.lock*")) == []


@pytest.mark.parametrize("owner", [foreign(), None], ids=["owned", "ownerless"])
def test_takes_over_from_one_that_gave_no_sign_for_long(device, path, owner):
    plant(path, owner, age_s=400)
    with DeviceLock(device, path=str(path)) as lock:
        assert lock.note is not None
        assert "last sign of life 4" in lock.note


@pytest.mark.parametrize("owner", [foreign(), None], ids=["owned", "ownerless"])
def test_a_young_lock_is_respected(device, path, owner):
    plant(path, owner, age_s=200)
    with pytest.raises(DeviceBusyError):
        DeviceLock(device, path=str(path)).acquire()


def test_a_takeover_under_way_keeps_others_out(device, path):
    plant(path, foreign(), age_s=400)
    takeover = path.with_name(path.name + ".takeover")
    takeover.mkdir()
    with pytest.raises(DeviceBusyError):
        DeviceLock(device, path=str(path)).acquire()
    then = takeover.stat().st_mtime - 100
    os.utime(takeover, (then, then))
    with DeviceLock(device, path=str(path)):
        assert not takeover.exists()


def test_of_many_at_once_one_gets_it(tmp_path, path):
    plant(path, foreign(), age_s=400)
    device = LocalDevice(tmp_path)
    outcomes = []
    start = threading.Barrier(8)
    done = threading.Barrier(8)

    def contend():
        lock = DeviceLock(device, path=str(path))
        start.wait()
        try:
            lock.acquire()
            outcomes.append("got it")
        except DeviceBusyError:
            outcomes.append("busy")
        done.wait()
        lock.release()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy"] * 7 + ["got it"]
    assert not path.exists()


def test_released_on_ctrl_c(device, path):
    with pytest.raises(KeyboardInterrupt), DeviceLock(device, path=str(path)):
        raise KeyboardInterrupt
    assert not path.exists()


class _InterruptedDevice(LocalDevice):
    """Ctrl-C arrives when the phone has made the lock and we do not know it yet."""

    def run(self, command, **options):
        result = super().run(command, **options)
        if "takeover" in command:
            raise KeyboardInterrupt
        return result


def test_ctrl_c_while_taking_it_leaves_nothing(tmp_path, path):
    with pytest.raises(KeyboardInterrupt):
        DeviceLock(_InterruptedDevice(tmp_path), path=str(path)).acquire()
    assert not path.exists()


def test_does_not_remove_what_another_has_taken_over(device, path):
    lock = DeviceLock(device, path=str(path))
    lock.acquire()
    (path / "owner").write_text(foreign().text())
    lock.release()
    assert parse_owner((path / "owner").read_text()) == foreign()


def test_a_vanished_phone_does_not_hide_the_error(bare_phone):
    def work() -> None:
        with (
            DeviceLock(bare_phone.device, path=f"{bare_phone.folder}/lock"),
            bare_phone.device.start("sleep 60", timeout_s=30) as process,
        ):
            bare_phone.kill()
            list(process.chunks())

    with pytest.raises(DeviceLostError, match="running `sleep 60`"):
        work()


def test_beats_while_held_and_notices_its_loss(tmp_path, path):
    lock = DeviceLock(LocalDevice(tmp_path), path=str(path), beat_s=0.01)
    with lock:
        os.utime(path / "beat", (0, 0))
        _until(lambda: (path / "beat").stat().st_mtime > 0)
        (path / "owner").write_text(foreign().text())
        _until(lambda: lock._taken_by_other)
        with pytest.raises(DeviceBusyError, match="taken the phone over"):
            lock.check()
    assert parse_owner((path / "owner").read_text()) == foreign()


def test_an_unwritable_folder_is_said(shared_phone):
    with pytest.raises(DeviceStorageError, match="cannot be made") as caught:
        DeviceLock(shared_phone.device, path="/usr/share/mace_run.lock").acquire()
    assert "ead-only" in (caught.value.details or "")


def test_owner_text_comes_back():
    owner = LockOwner.this_process()
    assert parse_owner(owner.text()) == owner
    assert not owner.is_dead


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_owner_text_is_read(text):
    assert parse_owner(text) is None


@pytest.mark.parametrize(
    "change",
    [{"pid": 0}, {"pid": -1}, {"pid": True}, {"pid": 1 << 40}, {"pid": "1"}, {"token": "a;b"},
     {"token": "x" * 31}, {"token": "é" * 32}, {"host": 1}, {"since": None}],
)  # fmt: skip
def test_owners_that_are_none(change):
    record = {"host": "h", "pid": 1, "since": "s", "token": "a" * 32}
    assert parse_owner(json.dumps(record)) is not None
    assert parse_owner(json.dumps({**record, **change})) is None


def _until(holds):
    done = threading.Event()
    for _ in range(2000):
        if holds():
            return
        done.wait(0.01)
    pytest.fail("waited in vain")
