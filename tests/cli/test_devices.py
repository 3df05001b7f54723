"""``droidmace devices`` as a user runs it, with real phones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from rich.console import Console

from droidmace.report.devices_view import NO_PHONES, devices_json, devices_table
from droidmace.results import DeviceInfo

GOOD = DeviceInfo(
    serial="emulator-5554",
    state="device",
    model="MI 9",
    device_name="MI9",
    soc="msmnile",
    abi="arm64-v8a",
    abis=("arm64-v8a", "armeabi-v7a"),
    gpu="Adreno (TM) 640",
    android_release="11",
)
BAD = DeviceInfo(serial="0123[bold]", state="offline", reason="it does not answer; replug it")


def droidmace(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "droidmace", *arguments],
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def shown(phones, width=120) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(devices_table(phones))
    return capture.get()


def test_table_names_facts_and_reasons():
    lines = shown([GOOD, BAD]).splitlines()
    assert lines[0].split() == ["serial", "state", "model", "soc", "abi", "GPU", "Android"]
    for fact in (
        "emulator-5554",
        "device",
        "MI 9",
        "msmnile",
        "arm64-v8a",
        "Adreno (TM) 640",
        "11",
    ):
        assert fact in lines[1]
    # What a phone says is text, not markup.
    assert lines[2].startswith("0123[bold]")
    assert lines[-1].strip() == "0123[bold]: it does not answer; replug it"


@pytest.mark.parametrize("width", [40, 80])
def test_serials_are_never_cut(width):
    assert GOOD.serial in shown([GOOD, BAD], width)


def test_no_phones_says_what_to_do():
    assert " ".join(shown([]).split()) == NO_PHONES


def test_json_holds_everything():
    good, bad = json.loads(devices_json([GOOD, BAD]))["devices"]
    assert good == {
        "serial": "emulator-5554", "state": "device", "usable": True, "reason": None,
        "model": "MI 9", "device_name": "MI9", "soc": "msmnile", "abi": "arm64-v8a",
        "abis": ["arm64-v8a", "armeabi-v7a"], "gpu": "Adreno (TM) 640", "android_release": "11",
    }  # fmt: skip
    assert (bad["usable"], bad["reason"]) == (False, "it does not answer; replug it")


def test_lists_real_phones(adreno_phone, mali_phone):
    result = droidmace("devices", "--json")
    assert result.returncode == 0, result.stderr
    found = {record["serial"]: record for record in json.loads(result.stdout)["devices"]}
    adreno, mali = found[adreno_phone.serial], found[mali_phone.serial]
    assert (adreno["model"], adreno["soc"], adreno["gpu"], adreno["android_release"]) == (
        "MI 9", "msmnile", "Adreno (TM) 640", "11",
    )  # fmt: skip
    assert (mali["device_name"], mali["gpu"], mali["usable"]) == ("SM-G991B", "Mali-G78", True)

    result = droidmace("devices", "--adb-port", str(adreno_phone.adb_server_port))
    assert result.returncode == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if adreno_phone.serial in line)
    assert "arm64-v8a" in row


def test_an_unauthorized_phone_is_listed_with_the_fix(start_phone, phone_lab):
    phone = start_phone("cli-devices-refusing", "adreno")
    phone.fault({"kind": "unauthorized"})
    # adb asks for permission again when the phone is connected again.
    phone_lab.run_adb("disconnect", phone.serial)
    phone_lab.run_adb("connect", phone.serial)
    result = droidmace("devices", "--json")
    assert result.returncode == 0, result.stderr
    (record,) = [
        one for one in json.loads(result.stdout)["devices"] if one["serial"] == phone.serial
    ]
    assert not record["usable"]
    assert record["state"] == "unauthorized"
    assert "unlock the phone" in record["reason"]


def test_no_adb_is_one_clear_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    result = droidmace("devices", ANDROID_ADB_SERVER_PORT=port, ADB="/nowhere/adb")
    assert result.returncode == 2
    assert "'/nowhere/adb'" in result.stderr
    assert "fix:" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bad_port_is_one_clear_error():
    result = droidmace("devices", "--json", "--adb-port", "99999")
    assert result.returncode == 2
    assert json.loads(result.stderr)["error"]["where"] == "--adb-port"
