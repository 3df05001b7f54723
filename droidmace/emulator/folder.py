"""A phone's folder: what lies in it, and its two small state files.

::

    NAME/
      phone.json    what the phone is; written by the manager while the phone is off
      run.json      the running phone; written by its supervisor, gone after a clean stop
      lock          held (flock) by the supervisor as long as it lives
      control.sock  the daemon's control socket
      phone.log     what supervisor, sandbox and daemon had to say
      data/         the phone's /data; nothing in it is followed or read from out here
      data.tar      the same for a phone whose /data is a RAM disk of limited size
      rom/          /system, /vendor/bin, /vendor/etc; built anew at each start
      sys/          /sys/class and the CPU's cpufreq: battery, thermal zones, clocks, governors
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from droidmace.errors import EmulatorError
from droidmace.files import write_atomically

_MAX_STATE_BYTES = 1 << 20
_LOCK_POLL_S = 0.01
_Record = TypeVar("_Record", "PhoneRecord", "RunRecord")


@dataclass(frozen=True, slots=True)
class PhoneRecord:
    """What a phone is (``phone.json``). ``profile`` is the profile's raw content."""

    name: str
    serialno: str
    profile_name: str
    profile: Mapping[str, object]
    driver: str
    port: int = 0
    """The loopback port it last had; 0 before the first start."""
    adb_server_port: int = 0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A running phone (``run.json``): its supervisor, port, and how often it has booted."""

    pid: int
    port: int
    boots: int = 0
    """Boots that have ended in an answering daemon."""
    sandbox_pid: int = 0
    """The sandbox's process 1, as the host numbers it."""
    exit_code: int | None = None
    """The sandbox's exit code after a crash."""


@dataclass(frozen=True, slots=True)
class PhoneFolder:
    """Paths in a phone's folder."""

    path: Path

    @property
    def name(self) -> str:
        """The phone's name is its folder's."""
        return self.path.name

    @property
    def record_file(self) -> Path:
        """``phone.json``."""
        return self.path / "phone.json"

    @property
    def run_file(self) -> Path:
        """``run.json``."""
        return self.path / "run.json"

    @property
    def lock_file(self) -> Path:
        """Held while the supervisor lives."""
        return self.path / "lock"

    @property
    def log_file(self) -> Path:
        """``phone.log``."""
        return self.path / "phone.log"

    @property
    def data(self) -> Path:
        """The phone's /data."""
        return self.path / "data"

    @property
    def data_archive(self) -> Path:
        """The saved /data of a phone with limited storage."""
        return self.path / "data.tar"

    @property
    def new_data_archive(self) -> Path:
        """What becomes ``data.tar`` when the phone ends cleanly."""
        return self.path / "data.tar.new"

    @property
    def rom(self) -> Path:
        """The phone's own system files."""
        return self.path / "rom"

    @property
    def sys_class(self) -> Path:
        """The phone's /sys/class."""
        return self.path / "sys" / "class"

    @property
    def sys_cpufreq(self) -> Path:
        """The phone's /sys/devices/system/cpu/cpufreq."""
        return self.path / "sys" / "cpufreq"

    def read_record(self) -> PhoneRecord | None:
        """``phone.json``, or None if there is no phone here."""
        return _read(self.record_file, PhoneRecord)

    def write_record(self, record: PhoneRecord) -> None:
        """Replace ``phone.json``."""
        _write(self.record_file, record)

    def read_run(self) -> RunRecord | None:
        """``run.json``, or None if the phone does not run and ended cleanly."""
        return _read(self.run_file, RunRecord)

    def write_run(self, record: RunRecord) -> None:
        """Replace ``run.json``."""
        _write(self.run_file, record)

    def is_locked(self) -> bool:
        """Whether a supervisor is alive. The kernel frees the lock however it ended."""
        import fcntl  # not on Windows, where host commands import this module

        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of ``phone.log``."""
        try:
            with self.log_file.open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - (16 << 10)))
                text = stream.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def open_control(self, *, listen: bool) -> socket.socket:
        """The control socket, bound and listening, or connected.

        Unix socket paths are limited to about 107 bytes; going through the folder's descriptor
        makes the folder's depth irrelevant.
        """
        directory = os.open(self.path, os.O_DIRECTORY | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            address = f"/proc/self/fd/{directory}/control.sock"
            if listen:
                (self.path / "control.sock").unlink(missing_ok=True)
                connection.bind(address)
                (self.path / "control.sock").chmod(0o600)
                connection.listen(8)
            else:
                connection.connect(address)
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(directory)
        return connection


@contextmanager
def exclusive_lock(path: Path, *, timeout_s: float | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file. Raises ``BlockingIOError`` if others hold it too long."""
    import fcntl  # not on Windows, where host commands import this module

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + (timeout_s or 0.0)
    try:
        if timeout_s is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        while timeout_s is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path, kind: type[_Record]) -> _Record | None:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_STATE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = json.loads(text)
        known = {item.name for item in fields(kind)}
        return kind(**{key: value for key, value in data.items() if key in known})
    except (ValueError, TypeError, AttributeError) as exc:
        raise EmulatorError(
            f"damaged state file: {exc}", where=str(path), hint=f"remove the phone: {path.parent}"
        ) from exc


def _write(path: Path, record: PhoneRecord | RunRecord) -> None:
    write_atomically(path, json.dumps(asdict(record), indent=2).encode() + b"\n")
