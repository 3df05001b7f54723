"""Emulated phones: start, list, stop, and make things go wrong.

A phone is a folder under the state root (``$DROIDMACE_PHONES_DIR``, or
``~/.local/state/droidmace/phones``) and, while it runs, one supervisor process. Nothing is kept in
this process: any other one can go on from the folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from droidmace.emulator import rom
from droidmace.emulator.adb_server import AdbServer, default_port
from droidmace.emulator.boot import STOP_TIMEOUT_S
from droidmace.emulator.folder import PhoneFolder, PhoneRecord, exclusive_lock
from droidmace.emulator.opencl_drivers import NO_DRIVER, find_driver
from droidmace.emulator.phone import (
    ADB_HOME,
    START_TIMEOUT_S,
    Phone,
    PhoneIsOffError,
    PhoneState,
    end,
    kill,
)
from droidmace.emulator.profile import parse_profile, read_profile_data, with_overrides
from droidmace.emulator.removal import remove_tree
from droidmace.errors import ConfigError, EmulatorError, MissingExtraError

__all__ = [
    "DEFAULT_PROFILE",
    "ROOT_VARIABLE",
    "Phone",
    "PhoneState",
    "adb_states",
    "delete_phone",
    "get_phone",
    "list_phones",
    "phones_root",
    "start_phone",
    "stop_phone",
]

ROOT_VARIABLE = "DROIDMACE_PHONES_DIR"
DEFAULT_PROFILE = "adreno"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_MAX_WORD_BYTES = 64 << 10


def phones_root() -> Path:
    """The folder that holds every phone's folder."""
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        if not state.is_absolute():  # nor is a relative one followed, as its specification says
            state = Path.home() / ".local" / "state"
    except RuntimeError as exc:
        raise EmulatorError("this user has no home folder", hint=f"set {ROOT_VARIABLE}") from exc
    return state / "droidmace" / "phones"


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

    Raises ``ConfigError`` (profile), ``EmulatorError`` (tools, driver, already running, …) and
    ``MissingExtraError`` where Python lacks what the engine needs.
    """
    _require_linux()
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a phone", hint="letters, digits, '-' and '_'")
    rom.HostTools.find()
    root = phones_root()
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
            _connect(phone, folder)
        except BaseException:
            _power_off(folder)
            _release_adb_server(root, get_phone(folder.name))
            if is_new:
                remove_tree(folder.path)
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
        lost = _power_off(folder)
        _release_adb_server(root, phone)
    if lost:
        raise EmulatorError(
            "the phone is off, but its /data could not be saved; it starts with that of the last"
            " clean stop",
            where=name,
            hint="make room on the disk, and keep files on a phone with limited storage small",
            details=folder.log_tail(),
        )


def _release_adb_server(root: Path, phone: Phone) -> None:
    """Take a phone that is off from its adb server; stop that with its last phone."""
    server = AdbServer(phone.adb_server_port, root / ADB_HOME)
    server.disconnect(phone.serial)
    running = [other for other in list_phones() if other.state is PhoneState.RUNNING]
    if phone.adb_server_port not in [other.adb_server_port for other in running]:
        server.stop_if_ours()


def delete_phone(name: str) -> None:
    """Stop a phone and remove its folder with all that is on it."""
    root = phones_root()
    folder = _existing(root, name)
    with _root_lock(root):
        phone = _phone_or_damaged(folder)
        _power_off(folder)
        if phone is not None and phone.state is not PhoneState.DAMAGED:
            _release_adb_server(root, phone)
        if folder.path.exists():
            remove_tree(folder.path)


def list_phones() -> list[Phone]:
    """Every phone there is, by name; one whose state file cannot be read is ``DAMAGED``."""
    root = phones_root()
    if not root.is_dir():
        return []
    folders = [PhoneFolder(path.parent) for path in sorted(root.glob("*/phone.json"))]
    return [phone for phone in map(_phone_or_damaged, folders) if phone is not None]


def _phone_or_damaged(folder: PhoneFolder) -> Phone | None:
    """The phone in a folder; None if somebody has deleted it meanwhile."""
    try:
        return get_phone(folder.name)
    except EmulatorError:
        if not folder.record_file.exists():
            return None
    return Phone(
        name=folder.name,
        serial="",
        serialno="",
        profile="",
        driver="",
        state=PhoneState.DAMAGED,
        pid=0,
        adb_server_port=0,
        folder=folder.path,
    )


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
    if record is None:
        raise EmulatorError("the phone was deleted just now", where=name)
    run = folder.read_run()
    running = folder.is_locked()
    if running:
        state = PhoneState.RUNNING
    else:
        state = PhoneState.CRASHED if run is not None else PhoneState.STOPPED
    port = run.port if run is not None and run.port else record.port
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
        if importlib.util.find_spec("pyopencl") is None:
            raise MissingExtraError("pyopencl", "emulator", "an emulated phone")
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
    # After a crash it names processes that are gone, and whose numbers others may have by now.
    folder.run_file.unlink(missing_ok=True)
    folder.log_file.unlink(missing_ok=True)
    ready_read, ready_write = os.pipe()
    with os.fdopen(ready_read, "rb") as ready, folder.log_file.open("ab") as log:
        try:
            # It daemonizes itself: this call ends at once.
            subprocess.run(
                [
                    sys.executable, "-P", "-m", "droidmace.emulator.supervisor",
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


def _power_off(folder: PhoneFolder) -> bool:
    """End the phone: politely, then by force. A crash's traces are removed.

    True if it ran and did not end cleanly, so that a /data in RAM is lost.
    """
    lost = False
    with suppress(PhoneIsOffError):
        if not end(folder, signal.SIGTERM, STOP_TIMEOUT_S * 2):
            kill(folder)
        lost = folder.run_file.exists()
    folder.run_file.unlink(missing_ok=True)
    return lost


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
    """One start or stop at a time: names, ports and the adb server are shared.

    What the host's files refuse (permission, space, a file in the way) is an ``EmulatorError``.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive_lock(root / ".lock"):
            yield
    except OSError as exc:
        raise EmulatorError(
            f"the phones' folder cannot be used: {exc.strerror or exc}",
            where=str(exc.filename or root),
            hint=f"make room, or choose another folder with {ROOT_VARIABLE}",
        ) from exc


def _require_linux() -> None:
    if platform.system() != "Linux":
        raise EmulatorError(
            f"emulated phones need Linux (namespaces), this is {platform.system()}",
            hint="use a phone, or run this part on Linux (a virtual machine will do)",
        )
