"""This machine as a device."""

from __future__ import annotations

import os
import time

import pytest
from bare_phone import is_running, wait_until

from droidmace.devices.base import Device
from droidmace.devices.local import LocalDevice
from droidmace.errors import DeviceError, DeviceStorageError, DeviceTimeoutError, InputError


@pytest.fixture
def device(tmp_path) -> Device:
    return LocalDevice(tmp_path)


def test_run_gives_exit_code_and_both_streams(device):
    result = device.run("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert device.run("kill -ABRT $$").exit_code == 134


def test_stdin_and_output_larger_than_all_buffers(device):
    blob = os.urandom(5_000_000)
    assert device.run("cat", stdin=blob).stdout == blob
    assert device.run("true", stdin=blob).stdout == b""


@pytest.mark.parametrize("error", [ValueError("closed"), OSError("disk"), InputError("spool")])
def test_what_the_input_raises_is_raised_where_the_output_is_read(device, error):
    def pieces():
        yield b"some"
        raise error

    with device.start("cat; sleep 0.1", timeout_s=20, stdin=pieces()) as process:
        chunks = process.chunks()
        assert next(chunks).data == b"some"
        with pytest.raises(type(error)) as caught:
            list(chunks)
    assert caught.value is error


def test_a_terminal_merges_the_streams(device):
    result = device.run("tty; echo err >&2", pty=True)
    assert result.stderr == b""
    assert result.stdout.endswith(b"\r\nerr\r\n")


def test_the_deadline_counts_from_when_output_is_read(device, tmp_path):
    began_s = time.monotonic()
    with device.start(f"echo x; : > {tmp_path}/done", timeout_s=0.5) as process:
        wait_until(lambda: time.monotonic() > began_s + 0.6, "the time is up")
        assert b"".join(chunk.data for chunk in process.chunks()) == b"x\n"


def test_deadline(device):
    with pytest.raises(DeviceTimeoutError):
        device.run("while :; do echo x; sleep 0.1; done", timeout_s=0.5)


def test_leaving_early_stops_the_children(device, tmp_path):
    with device.start("sleep 81 & echo $!; wait", timeout_s=60) as process:
        pid = int(next(process.chunks()).data)
    wait_until(lambda: not is_running(pid), "the child ends")


def test_a_shell_that_is_not_there(tmp_path):
    with pytest.raises(DeviceError, match="No such file"):
        LocalDevice(tmp_path, shell="/nowhere/sh").run("true")


def test_files(device, tmp_path):
    target = tmp_path / "a" / "b"
    assert device.push(b"data", str(target), mode=0o755) == 4
    assert target.stat().st_mode & 0o777 == 0o755
    found = device.stat(str(target))
    assert found is not None
    assert found.size_bytes == 4
    assert device.pull(str(target), tmp_path / "back") == 4
    assert (tmp_path / "back").read_bytes() == b"data"
    device.remove(str(target.parent))
    assert device.stat(str(target)) is None
    device.remove(str(target.parent))


def test_errors_are_of_the_tree(device, tmp_path):
    with pytest.raises(DeviceError, match="No such file"):
        device.pull(str(tmp_path / "missing"), tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(DeviceStorageError, match="writing"):
        device.push(b"", str(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match="outside"):
        device.remove("/etc/passwd")
    (tmp_path / "big").write_bytes(bytes(10))
    with pytest.raises(DeviceError, match="at most 9"):
        device.pull(str(tmp_path / "big"), tmp_path / "x", max_bytes=9)
