"""A phone behind an adb server: :class:`AdbDevice` implements the ``Device`` protocol.

What adbutils lacks is done here on its raw connections: one deadline for a whole command, live
output with separate stderr and an exit code, transfers that notice a phone that stands still, and
files that appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from droidmace.devices.adb_server import AdbServer
from droidmace.devices.adb_shell import AdbProcess
from droidmace.devices.adb_sync import SyncConnection, is_storage_error
from droidmace.devices.base import (
    MAX_OUTPUT_BYTES,
    CommandResult,
    FileStat,
    ProgressCallback,
)
from droidmace.devices.probe import parse_properties
from droidmace.devices.remote_paths import PHONE_ROOT, checked_path, inside
from droidmace.errors import (
    AdbUnavailableError,
    DeviceError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnusableError,
    InputError,
)

STALL_S = 20.0
"""How long a file transfer may stand still."""
_QUICK_S = 30.0


class AdbDevice:
    """The phone ``serial`` on ``server``. Holds no connection: every call opens its own.

    A transfer that stands still for ``stall_s`` seconds has failed; ``root`` is the folder that
    :meth:`remove` keeps to.
    """

    def __init__(
        self,
        server: AdbServer,
        serial: str,
        *,
        stall_s: float = STALL_S,
        root: str = PHONE_ROOT,
    ) -> None:
        self._server = server
        self._root = root
        self._serial = serial
        self._stall_s = stall_s
        self._features: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"AdbDevice({self._serial!r}, port={self._server.port})"

    @property
    def serial(self) -> str:
        """adb's serial."""
        return self._serial

    @property
    def server(self) -> AdbServer:
        """The adb server that the phone is connected to."""
        return self._server

    def properties(self) -> Mapping[str, str]:
        """System properties (``getprop``)."""
        result = self.run("getprop", timeout_s=_QUICK_S)
        if result.exit_code != 0:
            raise self._command_error("getprop", result)
        return parse_properties(result.text)

    def run(
        self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"", pty: bool = False
    ) -> CommandResult:
        """Run a shell command line to its end; see the protocol."""
        stdout = bytearray()
        stderr = bytearray()
        pieces = (stdin,) if stdin else None
        with self._start(command, timeout_s, stdin=pieces, pty=pty) as process:
            for chunk in process.chunks():
                buffer = stdout if chunk.stream == "stdout" else stderr
                buffer += chunk.data
                if len(stdout) + len(stderr) > MAX_OUTPUT_BYTES:
                    raise DeviceError(
                        f"the command printed more than {MAX_OUTPUT_BYTES >> 20} MiB",
                        serial=self._serial,
                        command=command,
                    )
            return CommandResult(process.exit_code, bytes(stdout), bytes(stderr))

    def start(
        self,
        command: str,
        *,
        timeout_s: float,
        pty: bool = False,
        silence_s: float | None = None,
        stdin: Iterable[bytes] | None = None,
    ) -> AdbProcess:
        """Start a shell command line and return at once; see the protocol."""
        return self._start(command, timeout_s, stdin=stdin, pty=pty, silence_s=silence_s)

    def push(
        self,
        source: Path | bytes,
        target: str,
        *,
        mode: int = 0o644,
        progress: ProgressCallback | None = None,
    ) -> int:
        """Copy a file's content to ``target`` on the phone; return the bytes sent.

        Goes to a temporary name first, whose size is compared before it takes the real name.
        """
        target = checked_path(target)
        folder, _, name = target.rpartition("/")
        # Hidden: of a cut-off one that stays, mace_run must not think that it is a sample.
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
        try:
            with _opened(source) as stream:
                size_bytes = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                try:
                    with self._sync() as sync:
                        sent = sync.send(stream, size_bytes, temporary, mode, progress)
                    self._put_in_place(temporary, target, sent, mode)
                except BaseException as error:
                    self._drop(temporary, error)
                    if isinstance(error, DeviceStorageError):
                        raise self._storage_error(error, target, size_bytes) from error
                    raise
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", where=str(source)) from error
        return sent

    def pull(self, source: str, target: Path, *, max_bytes: int = 4 << 30) -> int:
        """Copy ``source`` from the phone to ``target``; return the bytes received."""
        source = checked_path(source)
        found = self.stat(source)
        if found is None:
            raise DeviceError(f"there is no file {source}", serial=self._serial)
        if found.is_directory:
            raise DeviceError(f"{source} is a folder, not a file", serial=self._serial)
        if found.size_bytes > max_bytes:
            raise self._too_big(source, found.size_bytes, max_bytes)
        try:
            return self._receive_file(source, found.size_bytes, target, max_bytes)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", where=str(target)) from error

    def stat(self, path: str) -> FileStat | None:
        """What is at ``path`` (symbolic links followed), or None."""
        path = checked_path(path)
        if "stat_v2" in self._known_features():
            with self._sync() as sync:
                return sync.stat(path, v2=True)
        quoted = shlex.quote(path)
        command = f"if [ -e {quoted} ]; then stat -L -c '%f %s %Y' {quoted}; fi"
        result = self.run(command, timeout_s=_QUICK_S)
        if result.exit_code != 0:
            raise self._command_error(command, result)
        return _parse_stat(result.text, self._serial)

    def remove(self, path: str) -> None:
        """Remove a file or folder below the root; nothing there is fine."""
        command = f"rm -rf -- {shlex.quote(inside(path, self._root))}"
        result = self.run(command, timeout_s=120.0)
        if result.exit_code != 0:
            raise self._command_error(command, result)

    def _start(
        self,
        command: str,
        timeout_s: float,
        *,
        stdin: Iterable[bytes] | None = None,
        pty: bool = False,
        silence_s: float | None = None,
    ) -> AdbProcess:
        if "shell_v2" not in self._known_features():
            raise DeviceUnusableError(
                "its adb daemon cannot report exit codes (no shell_v2)",
                serial=self._serial,
                hint="Android 7 or newer is needed",
            )
        return AdbProcess(
            command,
            serial=self._serial,
            timeout_s=timeout_s,
            open_service=lambda service, limit_s: self._server.open_service(
                self._serial, service, timeout_s=limit_s
            ),
            lost=self._lost,
            run_quietly=lambda line: _ignore(self.run(line, timeout_s=8.0)),
            stdin=stdin,
            pty=pty,
            silence_s=silence_s,
        )

    def _known_features(self) -> frozenset[str]:
        if self._features is None:
            try:
                self._features = self._server.features_of(self._serial)
            except (AdbUnavailableError, DeviceTimeoutError):
                raise
            except DeviceError as error:
                raise self._server.service_error(error, self._serial, "features") from error
        return self._features

    def _sync(self) -> SyncConnection:
        wire = self._server.open_service(self._serial, "sync:")
        return SyncConnection(wire, serial=self._serial, lost=self._lost, stall_s=self._stall_s)

    def _lost(self, doing: str) -> DeviceError:
        return self._server.lost(self._serial, doing)

    def _put_in_place(self, temporary: str, target: str, size_bytes: int, mode: int) -> None:
        """Check the size of the file that arrived and give it its name."""
        source, destination = shlex.quote(temporary), shlex.quote(target)
        command = (
            f"if [ -d {destination} ]; then echo 'Is a directory' >&2; exit 1; fi; "
            f"n=$(stat -c %s {source}) || exit 1; "
            f'if [ "$n" != {size_bytes} ]; then '
            f'echo "arrived with $n of {size_bytes} bytes" >&2; exit 1; fi; '
            # The daemon applies its own umask to what it writes.
            f"chmod {mode:o} {source} && mv -f {source} {destination}"
        )
        result = self.run(command, timeout_s=60.0)
        if result.exit_code != 0:
            text = result.error_text.strip()
            raise DeviceStorageError(
                f"{target} could not be put in place: {text}",
                serial=self._serial,
                command=command,
                exit_code=result.exit_code,
            )

    def _drop(self, temporary: str, error: BaseException) -> None:
        """Remove a half file after ``error``, unless the phone is beyond reach."""
        if isinstance(error, DeviceError) and not isinstance(error, DeviceStorageError):
            state_known = False
            with contextlib.suppress(DeviceError):
                state_known = self._server.state_of(self._serial) == "device"
            if not state_known or isinstance(error, DeviceTimeoutError):
                return
        # The error that brought us here is the one to report.
        with contextlib.suppress(DeviceError):
            self.run(f"rm -f -- {shlex.quote(temporary)}", timeout_s=5.0)

    def _storage_error(
        self, error: DeviceStorageError, target: str, size_bytes: int
    ) -> DeviceStorageError:
        """Add to ``error`` what the phone has and what was needed."""
        free_bytes = None
        folder = shlex.quote(target.rpartition("/")[0] or "/")
        with contextlib.suppress(DeviceError):
            result = self.run(f"stat -f -c '%a %S' {folder}", timeout_s=5.0)
            words = result.text.split()
            if result.exit_code == 0 and len(words) == 2 and all(w.isdigit() for w in words):
                free_bytes = int(words[0]) * int(words[1])
        if "no space" not in error.message.lower():
            hint = f"check that the shell user may write {target}"
        elif free_bytes is None:
            hint = f"free {size_bytes:,} bytes there"
        else:
            hint = f"{size_bytes:,} bytes are needed and {free_bytes:,} are free: delete something"
        return DeviceStorageError(
            error.message,
            serial=self._serial,
            command=error.command,
            exit_code=error.remote_exit_code,
            hint=hint,
        )

    def _receive_file(self, source: str, expected: int, target: Path, max_bytes: int) -> int:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = Path(name)
        try:
            received = 0
            with os.fdopen(descriptor, "wb") as stream:
                with self._sync() as sync:
                    for piece in sync.receive(source):
                        received += len(piece)
                        if received > max_bytes:
                            raise self._too_big(source, received, max_bytes)
                        stream.write(piece)
                # Files of /proc and /sys say that they are empty.
                if expected and received != expected:
                    raise DeviceError(
                        f"{source} arrived with {received} of {expected} bytes",
                        serial=self._serial,
                        hint="something on the phone is still writing it",
                    )
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return received

    def _too_big(self, source: str, size_bytes: int, max_bytes: int) -> DeviceError:
        return DeviceError(
            f"{source} has {size_bytes:,} bytes or more; at most {max_bytes:,} are accepted",
            serial=self._serial,
        )

    def _command_error(self, command: str, result: CommandResult) -> DeviceError:
        kind = DeviceStorageError if is_storage_error(result.error_text) else DeviceError
        return kind(
            f"`{command}` failed with exit code {result.exit_code}",
            serial=self._serial,
            command=command,
            exit_code=result.exit_code,
            stdout=result.text[-4096:],
            stderr=result.error_text[-4096:],
        )


def _opened(source: Path | bytes) -> io.BufferedReader | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _ignore(result: CommandResult) -> None:
    """A clean-up command's result is of no interest: there is nothing left to do about it."""


def _parse_stat(text: str, serial: str) -> FileStat | None:
    """Parse ``stat -c '%f %s %Y'``: hexadecimal mode, size, time; empty text is None."""
    words = text.split()
    if not words:
        return None
    try:
        mode, size, mtime = int(words[0], 16), int(words[1]), int(words[2])
    except (ValueError, IndexError) as error:
        raise DeviceError(f"stat printed {text[:80]!r}", serial=serial) from error
    return FileStat(mode, size, mtime)
