"""Fixtures for every test: a private environment, emulated phones, a private adb server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from droidmace.emulator import manager
from droidmace.emulator.adb_server import find_adb
from droidmace.emulator.manager import Phone
from droidmace.emulator.opencl_drivers import OpenClDriver, available_drivers

ADB_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class PhoneLab:
    """Where a test session's phones live. ``environment`` is for programs that tests start."""

    root: Path
    adb_port: int
    adb: str

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, private to the session already, with this lab's server."""
        return os.environ | {"ANDROID_ADB_SERVER_PORT": str(self.adb_port)}

    def run_adb(
        self, *arguments: str, timeout_s: float = ADB_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run the adb program against the private server."""
        return subprocess.run(
            [self.adb, *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )

    def shell(self, phone: Phone, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line on a phone."""
        return self.run_adb("-s", phone.serial, "shell", command)

    def output(self, phone: Phone, command: str) -> str:
        """What a command that must succeed prints, without the last line end."""
        result = self.shell(phone, command)
        assert result.returncode == 0, result
        return result.stdout.rstrip("\n")


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands under test, also where a shell started us in the background.

    Such a shell has SIGINT ignored, and what is ignored stays so in every child.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def private_environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[pytest.MonkeyPatch]:
    """Give the session its own HOME and adb server port: no test can touch the user's (5037)."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith(("ADB_", "ANDROID_", "DROIDMACE_", "XDG_")):
            patch.delenv(name)
    patch.setenv("HOME", str(home))
    patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    patch.setenv("DROIDMACE_PHONE_ADB_PORT", str(port))
    for name in ("ADB_MDNS", "ADB_EMU", "ADB_USB"):
        patch.setenv(name, "0")
    yield patch
    patch.undo()


@pytest.fixture(scope="session")
def adb_path() -> str:
    """The adb program."""
    return find_adb()


@pytest.fixture(scope="session")
def phones_dir(private_environment: pytest.MonkeyPatch) -> Iterator[Path]:
    """The session's private folder of phones."""
    # Not below pytest's folder: that is kept, and a phone's folder may be large.
    root = Path(tempfile.mkdtemp(prefix="droidmace-phones-"))
    private_environment.setenv(manager.ROOT_VARIABLE, str(root))
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def phone_lab(phones_dir: Path, adb_path: str) -> Iterator[PhoneLab]:
    """Emulated phones for the session; whatever was started is stopped in the end."""
    lab = PhoneLab(phones_dir, int(os.environ["ANDROID_ADB_SERVER_PORT"]), adb_path)
    yield lab
    for phone in manager.list_phones():
        manager.stop_phone(phone.name)
    lab.run_adb("kill-server")


@pytest.fixture(scope="session")
def adreno_phone(phone_lab: PhoneLab) -> Phone:
    """A running Adreno-like phone, the same for the whole session: leave it as it is."""
    return manager.start_phone("adreno", "adreno")


@pytest.fixture(scope="session")
def mali_phone(phone_lab: PhoneLab) -> Phone:
    """A running Mali-like phone, the same for the whole session: leave it as it is."""
    return manager.start_phone("mali", "mali")


@pytest.fixture
def start_phone(phone_lab: PhoneLab) -> Iterator[Callable[..., Phone]]:
    """``manager.start_phone``; the test's phones are deleted after it."""
    started: set[str] = set()

    def start(*arguments: object, **options: object) -> Phone:
        phone = manager.start_phone(*arguments, **options)  # type: ignore[arg-type]
        started.add(phone.name)
        return phone

    yield start
    for name in started & {phone.name for phone in manager.list_phones()}:
        manager.delete_phone(name)


@pytest.fixture(scope="session")
def opencl_drivers() -> dict[str, OpenClDriver]:
    """The OpenCL drivers of this machine by name."""
    return available_drivers()
