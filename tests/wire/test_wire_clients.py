"""The Python clients: adbutils over an adb server, adb-shell straight to the daemon."""

from __future__ import annotations

import os
import stat

import adbutils
import pytest
from adb_shell.adb_device import AdbDeviceTcp


@pytest.fixture
def device(adb, phone):
    return adbutils.AdbClient(host="127.0.0.1", port=adb.port).device(serial=phone.serial)


def test_adbutils_shell_v2(device):
    result = device.shell2("echo out; echo err >&2; exit 3", v2=True)
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_adbutils_legacy_shell(device):
    assert device.shell("echo out; echo err >&2").split() == ["out", "err"]


def test_adbutils_lists_the_phone(adb, phone):
    client = adbutils.AdbClient(host="127.0.0.1", port=adb.port)
    assert [d.serial for d in client.device_list() if d.serial == phone.serial] == [phone.serial]


def test_adbutils_sync(device, phone, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(2_000_000))
    target = f"{phone.root}/sub/file"
    assert device.sync.push(source, target, 0o640) == 2_000_000
    info = device.sync.stat(target)
    assert (info.size, stat.S_ISREG(info.mode)) == (2_000_000, True)
    assert device.sync.exists(target)
    assert not device.sync.exists(target + "x")
    assert device.sync.read_bytes(target) == source.read_bytes()
    assert {entry.path for entry in device.sync.list(f"{phone.root}/sub")} >= {"file"}
    assert device.sync.pull(target, tmp_path / "back") == 2_000_000
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.fixture
def direct(shared_daemon):
    """adb-shell speaks the oldest protocol: with checksums, and its own handshake."""
    device = AdbDeviceTcp("127.0.0.1", shared_daemon.port, default_transport_timeout_s=20.0)
    assert device.connect(auth_timeout_s=5)
    yield device
    device.close()


def test_adb_shell_commands(direct):
    assert direct.shell("echo hello") == "hello\n"
    assert direct.exec_out("printf 'a\\0b'", decode=False) == b"a\0b"
    assert list(direct.streaming_shell("echo one; echo two"))[-1].endswith("two\n")


def test_adb_shell_files(direct, shared_daemon, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(700_000))
    target = f"{shared_daemon.root}/direct/file"
    direct.push(str(source), target)
    mode, size, _ = direct.stat(target)
    assert (stat.S_ISREG(mode), size) == (True, 700_000)
    entries = direct.list(f"{shared_daemon.root}/direct")
    assert [bytes(entry.filename) for entry in entries] == [b".", b"..", b"file"]
    direct.pull(target, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_adb_shell_reports_a_failed_push(direct, shared_daemon, tmp_path):
    from adb_shell.exceptions import AdbCommandFailureException, PushFailedError

    source = tmp_path / "file"
    source.write_bytes(b"x" * 200_000)
    with pytest.raises((PushFailedError, AdbCommandFailureException)):
        direct.push(str(source), "/proc/no/file")
    assert direct.shell("echo still here") == "still here\n"
