"""Emulated phones: start, list, stop, and make things go wrong.

A phone is a folder under the state root (``$DROIDMACE_PHONES_DIR``, or
``~/.local/state/droidmace/phones``) and, while it runs, one supervisor process. Nothing is kept in
this process: any other one can go on from the folder.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from droidmace.emulator import rom
from droidmace.emulator.adb_server import AdbServer, default_port
from droidmace.emulator.boot import BOOT_TIMEOUT_S, KILL_TIMEOUT_S, STOP_TIMEOUT_S
from droidmace.emulator.control import request
from droidmace.emulator.folder import PhoneFolder, PhoneRecord, exclusive_lock
from droidmace.emulator.opencl_drivers import NO_DRIVER, find_driver
from droidmace.emulator.profile import parse_profile, read_profile_data, with_overrides
from droidmace.errors import ConfigError, EmulatorError

ROOT_VARIABLE = "DROIDMACE_PHONES_DIR"
DEFAULT_PROFILE = "adreno"
START_TIMEOUT_S = BOOT_TIMEOUT_S + 15.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_POLL_S = 0.02
_ADB_HOME = ".adb"
_MAX_WORD_BYTES = 64 << 10


class PhoneState(StrEnum):
    """Whether a phone runs."""

    RUNNING = "running"
    STOPPED = "stopped"
    CRASHED = "crashed"


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
        return AdbServer(self.adb_server_port, self.folder.parent / _ADB_HOME)

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
        """The way to the phone is well again."""
        self.control({"op": "clear_faults"})

    def stats(self, *prefixes: str) -> dict[str, object]:
        """What the daemon counted; ``prefixes`` are paths on the phone to count separately."""
        return self.control({"op": "stats", "prefixes": list(prefixes)})

    def set_battery(self, *, level: int | None = None, temperature_c: float | None = None) -> None:
        """Set charge (percent) and temperature; the running phone sees it at once."""
        rom.set_battery(self._folder, level=level, temperature_c=temperature_c)

    def set_temperature(self, temperature_c: float, *, zone: str | None = None) -> None:
        """Set a thermal zone, or all of them."""
        rom.set_temperature(self._folder, temperature_c, zone=zone)

    def crash(self) -> None:
        """Let the phone die as if its power failed: nothing is saved, ``list`` says crashed."""
        _kill(self._folder)

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
        """Connect again, and wait until adb lists the phone as ``device``."""
        self.adb_server.connect(self.serial, timeout_s=timeout_s)


def phones_root() -> Path:
    """The folder that holds every phone's folder."""
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "droidmace" / "phones"


def start_phone(
    name: str | None = None,
    profile: str | None = None,
    *,
    driver: str | None = None,
    abi: str | None = None,
    storage: str | None = None,
    overrides: Mapping[str, object] | None = None,
    adb_port: int | None = None,
) -> Phone:
    """Start a phone and wait until adb lists it as ``device``.

    ``name`` None makes a new phone; a stopped phone of that name starts as it was, changed only in
    what is given here. ``profile`` is a profile's name or file (a new phone's default: adreno),
    ``driver`` one of :mod:`~droidmace.emulator.opencl_drivers`, ``storage`` a size that limits
    /data, ``overrides`` dotted profile keys (``gpu.platform_version``) to values.

    Raises ``ConfigError`` (profile), ``EmulatorError`` (tools, driver, already running, …).
    """
    _require_linux()
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a phone", hint="letters, digits, '-' and '_'")
    rom.HostTools.find()
    root = phones_root()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = adb_port if adb_port is not None else default_port()
    changes = dict(overrides or {})
    if abi is not None:
        changes["abis"] = [abi]
    if storage is not None:
        changes["storage"] = storage
    with _root_lock(root):
        folder = PhoneFolder(root / (name or _free_name(root, profile or DEFAULT_PROFILE)))
        if folder.is_locked():
            raise EmulatorError(
                "the phone is running already",
                where=folder.name,
                hint=f"droidmace phone stop {folder.name}",
            )
        is_new = not folder.record_file.exists()
        record = _updated_record(folder, profile, driver, changes, port)
        folder.path.mkdir(exist_ok=True, mode=0o700)
        folder.write_record(record)
        try:
            _launch(folder)
            phone = get_phone(folder.name)
            folder.write_record(replace(record, port=int(phone.serial.rpartition(":")[2])))
            phone.adb_server.ensure_running()
            _connect(phone, folder)
        except BaseException:
            _power_off(folder)
            _release_adb_server(root, get_phone(folder.name))
            if is_new:
                shutil.rmtree(folder.path)
            raise
    return phone


def _connect(phone: Phone, folder: PhoneFolder) -> None:
    try:
        phone.wait_for_adb()
    except EmulatorError as exc:
        details = "\n".join(part for part in (exc.details, folder.log_tail()) if part)
        where = f"{phone.name} ({phone.serial})"
        raise EmulatorError(exc.message, where=where, details=details) from exc


def stop_phone(name: str) -> None:
    """Switch a phone off and wait until its last process is gone; stopped already is fine.

    The adb server goes with the last phone that uses it, if we started it.
    """
    root = phones_root()
    folder = _existing(root, name)
    with _root_lock(root):
        phone = get_phone(name)
        _power_off(folder)
        _release_adb_server(root, phone)


def _release_adb_server(root: Path, phone: Phone) -> None:
    """Take a phone that is off from its adb server; stop that with its last phone."""
    server = AdbServer(phone.adb_server_port, root / _ADB_HOME)
    server.disconnect(phone.serial)
    running = [other for other in list_phones() if other.state is PhoneState.RUNNING]
    if phone.adb_server_port not in [other.adb_server_port for other in running]:
        server.stop_if_ours()


def delete_phone(name: str) -> None:
    """Stop a phone and remove its folder with all that is on it."""
    stop_phone(name)
    shutil.rmtree(_existing(phones_root(), name).path)


def list_phones() -> list[Phone]:
    """Every phone there is, by name."""
    root = phones_root()
    if not root.is_dir():
        return []
    names = sorted(path.parent.name for path in root.glob("*/phone.json"))
    return [get_phone(name) for name in names]


def adb_states(phones: Iterable[Phone]) -> dict[str, str]:
    """Name to adb's word for the state, of the running phones that their adb server lists."""
    running = [phone for phone in phones if phone.state is PhoneState.RUNNING]
    states = {server: server.states() for server in {phone.adb_server for phone in running}}
    return {
        phone.name: states[phone.adb_server][phone.serial]
        for phone in running
        if phone.serial in states[phone.adb_server]
    }


def get_phone(name: str) -> Phone:
    """The phone of that name. Raises ``EmulatorError`` that lists those there are."""
    folder = _existing(phones_root(), name)
    record = folder.read_record()
    assert record is not None
    run = folder.read_run()
    running = folder.is_locked()
    if running:
        state = PhoneState.RUNNING
    else:
        state = PhoneState.CRASHED if run is not None else PhoneState.STOPPED
    port = run.port if run is not None else record.port
    return Phone(
        name=record.name,
        serial=f"127.0.0.1:{port}" if port else "",
        serialno=record.serialno,
        profile=record.profile_name,
        driver=record.driver,
        state=state,
        pid=run.pid if run is not None and running else 0,
        adb_server_port=record.adb_server_port,
        folder=folder.path,
    )


def _updated_record(
    folder: PhoneFolder,
    profile: str | None,
    driver: str | None,
    changes: Mapping[str, object],
    adb_server_port: int,
) -> PhoneRecord:
    """What the phone shall be: as it was, with what was asked for. Checked before it is started."""
    old = folder.read_record()
    if profile is not None or old is None:
        profile_name, data = read_profile_data(profile or DEFAULT_PROFILE)
    else:
        profile_name, data = old.profile_name, dict(old.profile)
    data = with_overrides(data, changes)
    checked = parse_profile(profile_name, data, where=profile or profile_name)
    if driver is None:
        keep = old is not None and profile is None
        driver = old.driver if old is not None and keep else checked.gpu.driver
    if driver != NO_DRIVER:
        if "/" in driver:
            driver = str(Path(driver).absolute())
        find_driver(driver)
    return PhoneRecord(
        name=folder.name,
        serialno=old.serialno if old is not None else secrets.token_hex(4),
        profile_name=profile_name,
        profile=data,
        driver=driver,
        port=old.port if old is not None else 0,
        adb_server_port=adb_server_port,
    )


def _launch(folder: PhoneFolder) -> None:
    """Start the supervisor and wait for its word. Raises what it says."""
    ready_read, ready_write = os.pipe()
    folder.log_file.unlink(missing_ok=True)
    with os.fdopen(ready_read, "rb") as ready, folder.log_file.open("ab") as log:
        try:
            # It daemonizes itself: this call ends at once.
            subprocess.run(
                [
                    sys.executable, "-m", "droidmace.emulator.supervisor",
                    str(folder.path), str(ready_write),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env=_supervisor_environment(), pass_fds=(ready_write,), check=False,
            )  # fmt: skip
        finally:
            os.close(ready_write)
        heard = select.select([ready], [], [], START_TIMEOUT_S)[0]
        line = ready.readline(_MAX_WORD_BYTES) if heard else b""
    answer = json.loads(line) if line else {"message": "the phone did not start"}
    if "port" in answer:
        return
    details = folder.log_tail()
    _power_off(folder)
    kind = ConfigError if answer.get("error") == ConfigError.__name__ else EmulatorError
    raise kind(
        answer["message"],
        where=answer.get("where") or folder.name,
        hint=answer.get("hint"),
        details=details,
    )


def _supervisor_environment() -> dict[str, str]:
    """Ours, with droidmace importable from wherever this process got it."""
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


def _power_off(folder: PhoneFolder) -> None:
    """End the phone: politely, then by force. A crash's traces are removed."""
    with suppress(_PhoneIsOffError):
        if not _end(folder, signal.SIGTERM, STOP_TIMEOUT_S * 2):
            _kill(folder)
    folder.run_file.unlink(missing_ok=True)


def _kill(folder: PhoneFolder) -> None:
    """End the phone by force; its ``run.json`` stays."""
    if not _end(folder, signal.SIGKILL, KILL_TIMEOUT_S):
        raise EmulatorError("the phone cannot be stopped", where=folder.name)


def _end(folder: PhoneFolder, number: signal.Signals, timeout_s: float) -> bool:
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
            raise _PhoneIsOffError("the phone is off", where=folder.name)
        yield found


class _PhoneIsOffError(EmulatorError):
    """There is nothing to signal."""


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _existing(root: Path, name: str) -> PhoneFolder:
    """The folder of the phone called ``name``. Raises ``EmulatorError`` that lists the phones."""
    folder = PhoneFolder(root / name)
    if not _NAME.fullmatch(name) or not folder.record_file.is_file():
        names = ", ".join(sorted(path.parent.name for path in root.glob("*/phone.json")))
        raise EmulatorError(
            f"there is no emulated phone {name!r}",
            hint=f"one of {names}" if names else "droidmace phone start",
        )
    return folder


def _free_name(root: Path, profile: str) -> str:
    """``adreno-1``, ``adreno-2``, …: the first that is not taken."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(profile).stem).strip("-")[:24] or "phone"
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


@contextmanager
def _root_lock(root: Path) -> Iterator[None]:
    """One start or stop at a time: names, ports and the adb server are shared."""
    with exclusive_lock(root / ".lock"):
        yield


def _require_linux() -> None:
    if platform.system() != "Linux":
        raise EmulatorError(
            f"emulated phones need Linux (namespaces), this is {platform.system()}",
            hint="use a phone, or run this part on Linux (a virtual machine will do)",
        )
