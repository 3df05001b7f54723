"""On a whole emulated phone: its own shell, tools, properties, sandbox and limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from bare_phone import wait_until

from droidmace.devices.adb import AdbDevice
from droidmace.devices.filesync import sync_files
from droidmace.devices.lock import LOCK_PATH, DeviceLock
from droidmace.devices.preflight import check, failed
from droidmace.devices.probe import probe
from droidmace.devices.select import find_device
from droidmace.errors import DeviceBusyError, InputError

ROOT = "/data/local/tmp/mace_run_devices_test"


@pytest.fixture
def device(adreno_phone) -> AdbDevice:
    device = find_device(adreno_phone.serial)
    yield device
    device.remove(ROOT)


def test_probe_tells_what_the_profile_says(device):
    report = probe(device)
    assert (report.model, report.device_name, report.soc) == ("MI 9", "MI9", "msmnile")
    assert report.abi == "arm64-v8a"
    assert report.android_release == "11"
    assert (report.gpu_vendor, report.gpu) == ("Qualcomm", "Adreno (TM) 640")
    assert report.battery is not None
    assert report.battery.level_percent == 84
    assert report.battery.charging
    assert {zone.name for zone in report.thermal} >= {"cpu-0-0-usr", "gpuss-0-usr"}
    assert report.free_bytes is not None
    assert not report.is_root
    assert report.emulated_engine


def test_a_healthy_phone_passes_preflight(device):
    checks = check(probe(device), abi="arm64-v8a", needed_bytes=1 << 20)
    assert [one.name for one in checks] == ["abi", "space", "opencl", "battery", "temperature"]
    assert failed(checks) == ()


def test_files_go_there_and_back(device, tmp_path):
    blob = os.urandom(5_000_000)
    files = {"model.data": blob, **{f"images/{n}": os.urandom(100) for n in range(50)}}
    assert sync_files(device, files, ROOT).pushed_bytes == 5_005_000
    assert sync_files(device, files, ROOT).pushed_bytes == 0
    device.pull(f"{ROOT}/model.data", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == blob


def test_the_lock_is_where_everybody_looks(device):
    with DeviceLock(device):
        assert device.run(f"ls {LOCK_PATH}").text.split() == ["beat", "owner"]
        with pytest.raises(DeviceBusyError, match="in use by process"):
            DeviceLock(device).acquire()
    assert device.stat(LOCK_PATH) is None


def test_remove_refuses_the_rest_of_the_phone(device):
    with pytest.raises(InputError, match="outside"):
        device.remove("/sdcard/DCIM")


_WORK = """
import sys
from droidmace.devices.lock import DeviceLock
from droidmace.devices.select import find_device

device = find_device(sys.argv[1])
with DeviceLock(device), device.start("echo up; exec sleep 52", timeout_s=60) as process:
    for chunk in process.chunks():
        print(chunk.data.decode(), end="", flush=True)
"""


def test_ctrl_c_stops_the_command_and_unlocks(device):
    with subprocess.Popen(
        [sys.executable, "-c", _WORK, device.serial],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as work:
        assert work.stdout is not None
        assert work.stdout.readline() == "up\n"
        work.send_signal(signal.SIGINT)
        _, errors = work.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert device.run("ps -A -o ARGS | grep -c '^sleep 52'").text.strip() == "0"
    assert device.stat(LOCK_PATH) is None


def test_a_killed_host_leaves_no_command_and_a_lock_that_is_taken_over(device):
    with subprocess.Popen(
        [sys.executable, "-c", _WORK, device.serial], stdout=subprocess.PIPE, text=True
    ) as work:
        assert work.stdout is not None
        assert work.stdout.readline() == "up\n"
        work.kill()
        work.wait()
    wait_until(
        lambda: device.run("ps -A -o ARGS | grep -c '^sleep 52'").text.strip() == "0",
        "the command ends",
    )
    with DeviceLock(device) as lock:
        assert lock.note is not None
        assert f"process {work.pid} " in lock.note
