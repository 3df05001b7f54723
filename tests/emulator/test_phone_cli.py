"""``droidmace phone``, as a user types it: a process of its own, its exit code and its words."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from droidmace.cli import phone as phone_cli
from droidmace.emulator import manager
from droidmace.emulator.manager import PhoneState
from droidmace.errors import DroidmaceError

if TYPE_CHECKING:
    from conftest import PhoneLab


def phone_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "droidmace", "phone", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def phone_in_process(*arguments: str) -> BaseException | None:
    """The same without a process; what it raised."""
    app = typer.Typer()
    phone_cli.register(app)
    return CliRunner().invoke(app, ["phone", *arguments]).exception


def test_from_start_to_delete(phone_lab: PhoneLab) -> None:
    started = phone_command(
        "start", "cli", "--profile", "mali", "--driver", "none", "--json",
        "--set", "model=Set Here", "--set", "battery.level=50",
    )  # fmt: skip
    try:
        assert started.returncode == 0, started.stderr
        [record] = json.loads(started.stdout)
        assert record["name"] == "cli"
        assert record["state"] == "running"
        assert record["adb_state"] == "device"
        # The command has ended; the phone lives on.
        phone = manager.get_phone("cli")
        assert phone.serial == record["serial"]
        assert phone_lab.output(phone, "getprop ro.product.model") == "Set Here"

        said = phone_command("shell", "cli", "dumpsys battery | grep level; exit 4")
        assert (said.stdout.strip(), said.returncode) == ("level: 50", 4)
        assert "total" in phone_command("shell", "cli", "ls", "-l", "/data").stdout
        unknown = phone_in_process("fault", "cli", "nonsense")
        assert isinstance(unknown, DroidmaceError)
        assert "low-battery" in str(unknown.hint)
        assert phone_command("fault", "cli", "low-battery", "level=2").returncode == 0
        assert phone_command("fault", "cli", "hot", "temperature_c=99").returncode == 0
        seen = phone_lab.output(phone, "dumpsys battery; cat /sys/class/thermal/*/temp")
        assert "level: 2\n" in seen
        assert "99000" in seen.splitlines()
        assert "USB powered: false\n" in seen
        assert phone_command("fault", "cli", "clear").returncode == 0
        seen = phone_lab.output(phone, "dumpsys battery; cat /sys/class/thermal/*/temp")
        assert "level: 50\n" in seen
        assert "USB powered: true\n" in seen
        assert "99000" not in seen.splitlines()
        for detail in (
            "unplug colour=red",
            "unplug after_bytes=.inf",
            "link bytes_per_s=.inf",
            "hot temp=5",
            "hot temperature_c=x",
            "low-battery level=101",
        ):
            mistake = phone_in_process("fault", "cli", *detail.split())
            assert isinstance(mistake, DroidmaceError), detail
            assert detail.split()[1].partition("=")[0] in mistake.message
        assert phone_in_process("fault", "cli", "link", "bytes_per_s=1e6") is None

        listed = phone_command("list")
        line = next(line for line in listed.stdout.splitlines() if line.split()[:1] == ["cli"])
        assert line.split()[:5] == ["cli", phone.serial, "mali", "running", "device"]
        assert str(phone.folder) in line
        assert phone_command("stop", "cli").stdout == "cli is off\n"
        assert manager.get_phone("cli").state is PhoneState.STOPPED
    finally:
        assert phone_command("delete", "cli").returncode == 0
    assert "cli" not in [phone.name for phone in manager.list_phones()]


def test_two_starts_at_once_do_not_disturb_each_other(phone_lab: PhoneLab) -> None:
    command = [sys.executable, "-m", "droidmace", "phone", "start", "--driver", "none", "--json"]
    with ExitStack() as stack:
        starts = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for _ in range(2)
        ]
        records = [json.loads(start.communicate(timeout=60)[0])[0] for start in starts]
    for record in records:
        assert record["adb_state"] == "device"
        manager.delete_phone(record["name"])
    assert records[0]["name"] != records[1]["name"]
    assert records[0]["serial"] != records[1]["serial"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "--profile", "nokia"], "no phone profile 'nokia'"),
        (["start", "--driver", "quantum"], "no OpenCL driver 'quantum'"),
        (["start", "--abi", "mips"], "expected a list of some of"),
        (["start", "--storage", "lots"], "a size such as 64M or 2G"),
        (["start", "--set", "model"], "expected KEY=VALUE"),
        (["start", "one", "--count", "2"], "a name is for one phone"),
        (["stop"], "which phone?"),
        (["stop", "nobody"], "there is no emulated phone 'nobody'"),
        (["fault", "nobody", "hot"], "there is no emulated phone 'nobody'"),
        (["shell", "nobody"], "there is no emulated phone 'nobody'"),
    ],
)
def test_mistakes_are_answered(phone_lab: PhoneLab, arguments: list[str], words: str) -> None:
    mistake = phone_in_process(*arguments)
    assert isinstance(mistake, DroidmaceError)
    assert words in mistake.message
