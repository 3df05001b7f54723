"""One emulated phone as a value: ask its daemon, let things go wrong, reboot it, end it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from droidmace.emulator import sysfs
from droidmace.emulator.adb_server import AdbServer
from droidmace.emulator.boot import BOOT_TIMEOUT_S, KILL_TIMEOUT_S
from droidmace.emulator.control import request
from droidmace.emulator.folder import PhoneFolder
from droidmace.emulator.profile import parse_profile
from droidmace.errors import EmulatorError

START_TIMEOUT_S = BOOT_TIMEOUT_S + 15.0
ADB_HOME = ".adb"
"""Beside the phones' folders: the home of the adb server that they share."""

_POLL_S = 0.02


class PhoneState(StrEnum):
    """Whether a phone runs."""

    RUNNING = "running"
    STOPPED = "stopped"
    CRASHED = "crashed"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Phone:
    """An emulated phone as it was when asked for. ``pid`` is its supervisor's, 0 when it is off."""

    name: str
    serial: str
    serialno: str
    profile: str
    driver: str
    state: PhoneState
    pid: int
    adb_server_port: int
    folder: Path

    @property
    def _folder(self) -> PhoneFolder:
        return PhoneFolder(self.folder)

    @property
    def adb_server(self) -> AdbServer:
        """The adb server that the phone is connected to."""
        return AdbServer(self.adb_server_port, self.folder.parent / ADB_HOME)

    def control(
        self, message: Mapping[str, object], *, timeout_s: float = 5.0
    ) -> dict[str, object]:
        """Ask the phone's daemon. Raises ``EmulatorError``."""
        return request(self._folder, message, timeout_s=timeout_s)

    def ping(self) -> None:
        """Raise ``EmulatorError`` unless the daemon answers."""
        self.control({"op": "ping"})

    def fault(self, fault: Mapping[str, object]) -> None:
        """Let something go wrong: see ``droidmace.emulator.adbd.faults``."""
        self.control({"op": "fault", "fault": dict(fault)})

    def clear_faults(self) -> None:
        """All is well again: the way to the phone, its battery, temperatures and clocks."""
        self.control({"op": "clear_faults"})
        record = self._folder.read_record()
        if record is not None:
            profile = parse_profile(record.profile_name, record.profile, where=record.profile_name)
            sysfs.write_sensors(self._folder, profile)

    def stats(self, *prefixes: str) -> dict[str, object]:
        """What the daemon counted; ``prefixes`` are paths on the phone to count separately."""
        return self.control({"op": "stats", "prefixes": list(prefixes)})

    def set_battery(
        self,
        *,
        level: int | None = None,
        temperature_c: float | None = None,
        usb_powered: bool | None = None,
        current_now: int | None = None,
        voltage_now: int | None = None,
    ) -> None:
        """Set charge (percent), temperature, power supply; the running phone sees it at once.

        ``current_now`` and ``voltage_now`` are the plain content of these files of sysfs.
        """
        sysfs.set_battery(
            self._folder,
            level=level,
            temperature_c=temperature_c,
            usb_powered=usb_powered,
            current_now=current_now,
            voltage_now=voltage_now,
        )

    def set_temperature(self, temperature_c: float, *, zone: str | None = None) -> None:
        """Set a thermal zone, or all of them."""
        sysfs.set_temperature(self._folder, temperature_c, zone=zone)

    def set_gpu_clock(self, mhz: float) -> None:
        """Let the GPU seem to run at this clock, as one that is too hot does.

        What is seen, not how fast it computes. Raises ``EmulatorError``: it shows no clock.
        """
        sysfs.set_gpu_clock(self._folder, mhz)

    def set_cpu_clock(self, mhz: float, *, policy: str | None = None) -> None:
        """The same for one group of cores (``policy0``), or all. Raises ``EmulatorError``."""
        sysfs.set_cpu_clock(self._folder, mhz, policy=policy)

    def crash(self) -> None:
        """Let the phone die as if its power failed: nothing is saved, ``list`` says crashed."""
        kill(self._folder)

    @property
    def boots(self) -> int:
        """How often it has booted since it was switched on."""
        run = self._folder.read_run()
        return run.boots if run else 0

    def reboot(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Reboot and wait until adb can use the phone again. Raises ``EmulatorError``."""
        before = self.boots
        with _processes(self._folder) as (supervisor, *_):
            signal.pidfd_send_signal(supervisor, signal.SIGUSR1)
        self.wait_for_boot(before + 1, timeout_s=timeout_s)

    def wait_for_boot(self, number: int, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it has booted so often, and adb can use it. Raises ``EmulatorError``."""
        if not _wait_until(lambda: self.boots >= number, timeout_s):
            raise EmulatorError(
                "the phone did not boot", where=self.name, details=self._folder.log_tail()
            )
        self.wait_for_adb()

    def wait_for_adb(self, *, timeout_s: float = 30.0) -> None:
        """Connect it, anew if need be, and wait until adb lists it as ``device``."""
        self.adb_server.ensure_running()
        self.adb_server.connect(self.serial, timeout_s=timeout_s)


def kill(folder: PhoneFolder) -> None:
    """End the phone by force; its ``run.json`` stays."""
    if not end(folder, signal.SIGKILL, KILL_TIMEOUT_S):
        raise EmulatorError("the phone cannot be stopped", where=folder.name)


def end(folder: PhoneFolder, number: signal.Signals, timeout_s: float) -> bool:
    """Signal the supervisor; whether it and the sandbox are gone in time."""
    deadline = time.monotonic() + timeout_s
    with _processes(folder) as (supervisor, *others):
        signal.pidfd_send_signal(supervisor, number)
        for process in (supervisor, *others):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([process], [], [], left)[0]:
                return False
    return True


@contextmanager
def _processes(folder: PhoneFolder) -> Iterator[list[int]]:
    """Descriptors of the supervisor and of the sandbox's process 1.

    The lock is asked for after the supervisor's is open, so that it cannot be another process
    which got the number of one that has ended.
    """
    run = folder.read_run()
    with ExitStack() as stack:
        found = []
        for pid in (run.pid, run.sandbox_pid) if run is not None else ():
            with suppress(ProcessLookupError):
                if pid:
                    found.append(os.pidfd_open(pid))
                    stack.callback(os.close, found[-1])
        if not found or not folder.is_locked():
            raise PhoneIsOffError("the phone is off", where=folder.name)
        yield found


class PhoneIsOffError(EmulatorError):
    """There is nothing to signal."""


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
