"""Several phones at once, and what one of them cannot do to the others."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from droidmace.bundle.reader import read_bundle
from droidmace.cli.phones import emulated
from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from droidmace.errors import EmulatorError
from tests.conftest import PhoneLab
from tests.e2e.conftest import BRIEF, FASHION, Droidmace


@pytest.fixture
def adb_port() -> int:
    """A port for an adb server of the test's own: its phones are all that ``--all`` means."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def three_phones(start_phone: Callable[..., Phone], adb_port: int) -> list[Phone]:
    return [
        start_phone("one", "adreno", driver="intel", adb_port=adb_port),
        start_phone("two", "mali", driver="intel", adb_port=adb_port),
        start_phone("three", "adreno", driver="intel", adb_port=adb_port),
    ]


def test_a_phone_that_is_unplugged_half_way_stops_no_other(
    droidmace: Droidmace, three_phones: list[Phone], adb_port: int, tmp_path: Path
) -> None:
    lost = three_phones[1]
    lost.fault({"kind": "unplug", "on_command": "MACE_TUNING=1", "refuse": True})
    done = droidmace(
        "tune",
        "--all",
        "--adb-port",
        adb_port,
        "-c",
        FASHION,
        "--out",
        tmp_path,
        "--json",
        "--limit",
        50,
        *BRIEF,
    )
    assert done.code == 1, done.stderr
    by_serial = {document["serial"]: document for document in done.document}
    assert {phone.serial for phone in three_phones} == set(by_serial)
    for phone in three_phones:
        document = by_serial[phone.serial]
        if phone is lost:
            assert document["error"]["phase"] == "tune"
            assert document["error"]["message"]
            assert document["error"]["hint"]
        else:
            bundle = read_bundle(Path(document["bundle"]))
            assert bundle.results["serial"] == phone.serial
    # What the lost phone had tuned is kept beside the bundles.
    serials = [read_bundle(path).results["serial"] for path in tmp_path.iterdir() if path.is_dir()]
    assert lost.serial not in serials
    assert len(serials) == 2


def test_the_summary_names_the_phone_that_failed(
    droidmace: Droidmace, start_phone: Callable[..., Phone], adb_port: int, tmp_path: Path
) -> None:
    phone = start_phone("lost", "adreno", driver="intel", adb_port=adb_port)
    phone.fault({"kind": "unplug", "on_command": "sha256sum", "refuse": True})
    done = droidmace(
        "tune",
        "--all",
        "--adb-port",
        adb_port,
        "-c",
        FASHION,
        "--out",
        tmp_path,
        "--limit",
        20,
        *BRIEF,
    )
    assert done.code == 1, done.stderr
    assert "failed during push" in done.stdout
    assert phone.serial in done.stdout
    assert "fix: " in done.stdout


@pytest.mark.parametrize(
    ("every", "number", "code"),
    [(False, signal.SIGINT, 130), (True, signal.SIGINT, 130), (True, signal.SIGTERM, 143)],
)
def test_an_interrupt_stops_the_remote_process_and_gives_the_phone_back(
    start_phone: Callable[..., Phone],
    phone_lab: PhoneLab,
    adb_port: int,
    tmp_path: Path,
    every: bool,
    number: signal.Signals,
    code: int,
) -> None:
    phone = start_phone("interrupted", "adreno", driver="intel", adb_port=adb_port)
    lab = replace(phone_lab, adb_port=adb_port)
    which = ["--all"] if every else ["--serial", phone.serial]
    command = [sys.executable, "-m", "droidmace", "tune", *which, "--adb-port", str(adb_port)]
    command += ["-c", str(FASHION), "--out", str(tmp_path), "--rounds", "100000", "--limit", "20"]
    command += ["--startup-runs", "1"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=lab.environment,
    ) as running:
        assert running.stdout is not None
        assert any(f"{phone.serial}  ✓ startup" in line for line in running.stdout)
        # The latency processes of 100,000 rounds are next: they run for minutes.
        wait_until_running(lab, phone)
        os.kill(running.pid, number)
        assert running.wait(timeout=60) == code
        said = running.stdout.read()
    assert "kept in" in said
    assert "engine" not in lab.output(phone, "ps -A -o ARGS")
    assert lab.shell(phone, "ls -d /data/local/tmp/mace_run.lock").returncode != 0
    # No bundle; what the phone's tuner has found is kept for the next time.
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_a_closed_terminal_leaves_no_emulated_phone_behind(
    phone_lab: PhoneLab, adb_port: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "droidmace", "tune", "--emulate", "1"]
    command += ["--adb-port", str(adb_port), "-c", str(FASHION), "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=phone_lab.environment
    ) as running:
        assert running.stdout is not None
        assert any("✓ push" in line for line in running.stdout)
        os.kill(running.pid, signal.SIGHUP)
        assert running.wait(timeout=60) == 129
    assert manager.get_phone("tune-adreno-1").state is manager.PhoneState.STOPPED
    manager.delete_phone("tune-adreno-1")


def test_a_second_call_takes_phones_of_its_own(
    start_phone: Callable[..., Phone], phone_lab: PhoneLab
) -> None:
    start_phone("tune-adreno-1", "adreno", driver="intel")
    with emulated(2, "adreno", "intel", None) as (serials, port):
        running = {phone.name: phone.serial for phone in manager.list_phones() if phone.pid}
        assert serials == [running["tune-adreno-2"], running["tune-adreno-3"]]
        assert port == phone_lab.adb_port
    assert manager.get_phone("tune-adreno-1").state is manager.PhoneState.RUNNING
    assert manager.get_phone("tune-adreno-2").state is manager.PhoneState.STOPPED


def test_when_the_second_phone_does_not_start_the_first_is_stopped(
    phone_lab: PhoneLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = manager.start_phone

    def only_the_first(name: str, *arguments: object, **options: object) -> Phone:
        if name != "tune-adreno-1":
            raise EmulatorError("no room")
        return start(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(manager, "start_phone", only_the_first)
    with pytest.raises(EmulatorError, match="no room"), emulated(2, "adreno", "intel", None):
        pass
    assert manager.get_phone("tune-adreno-1").state is manager.PhoneState.STOPPED


def wait_until_running(lab: PhoneLab, phone: Phone) -> None:
    """Return as soon as mace_run is at its rounds on the phone."""
    script = "until ps -A -o ARGS | grep -q '[-]-round=100000'; do sleep 0.05; done"
    assert lab.shell(phone, script).returncode == 0


def test_emulate_starts_tunes_and_stops(
    droidmace: Droidmace, phone_lab: PhoneLab, tmp_path: Path
) -> None:
    done = droidmace(
        "tune", "--emulate", 1, "-c", FASHION, "--out", tmp_path, "--limit", 20, "--json", *BRIEF
    )
    assert done.code == 0, done.stderr
    assert read_bundle(Path(done.document["bundle"])).results["serial"] == done.document["serial"]
    listed = json.loads(droidmace("phone", "list", "--json").stdout)
    states = {phone["name"]: phone["state"] for phone in listed}
    assert states["tune-adreno-1"] == "stopped"
