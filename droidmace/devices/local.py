"""This machine as a device: commands run in a local POSIX shell, files are copied.

For boards that run droidmace themselves, and the quickest real device for tests. Unlike on a phone
there is no ``/data/local/tmp``: the folder given as ``root`` plays its part.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from droidmace.devices.base import (
    MAX_OUTPUT_BYTES,
    CommandResult,
    FileStat,
    OutputChunk,
    ProgressCallback,
)
from droidmace.devices.command_input import CommandInput
from droidmace.devices.probe import parse_properties
from droidmace.devices.remote_paths import checked_path, inside
from droidmace.errors import DeviceError, DeviceStorageError, DeviceTimeoutError, InputError

_CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_STOP_GRACE_S = 2.0


class LocalDevice:
    """A device whose shell and files are this machine's (POSIX only).

    ``root`` is the folder it may remove things from. ``environment`` replaces the process's own
    for its commands (a test puts toybox on ``PATH`` with it).
    """

    def __init__(
        self,
        root: Path,
        *,
        serial: str = "local",
        shell: str = "/bin/sh",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._root = root.resolve()
        self._serial = serial
        self._shell = shell
        self._environment = None if environment is None else dict(environment)

    @property
    def serial(self) -> str:
        """How the user names it."""
        return self._serial

    def properties(self) -> Mapping[str, str]:
        """Android's properties if this machine has ``getprop``, else none."""
        return parse_properties(self.run("getprop 2>/dev/null").text)

    def run(
        self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"", pty: bool = False
    ) -> CommandResult:
        """Run a shell command line to its end."""
        output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        pieces = (stdin,) if stdin else None
        with self._start(command, timeout_s, stdin=pieces, pty=pty) as process:
            for chunk in process.chunks():
                output[chunk.stream] += chunk.data
                if sum(map(len, output.values())) > MAX_OUTPUT_BYTES:
                    raise DeviceError(
                        f"the command printed more than {MAX_OUTPUT_BYTES >> 20} MiB",
                        serial=self._serial,
                        command=command,
                    )
            return CommandResult(
                process.exit_code, bytes(output["stdout"]), bytes(output["stderr"])
            )

    def start(
        self,
        command: str,
        *,
        timeout_s: float,
        pty: bool = False,
        silence_s: float | None = None,
        stdin: Iterable[bytes] | None = None,
    ) -> LocalProcess:
        """Start a shell command line and return at once; this machine cannot fall silent."""
        return self._start(command, timeout_s, stdin=stdin, pty=pty)

    def _start(
        self,
        command: str,
        timeout_s: float,
        *,
        stdin: Iterable[bytes] | None = None,
        pty: bool = False,
    ) -> LocalProcess:
        return LocalProcess(
            [self._shell, "-c", command],
            shown=command,
            serial=self._serial,
            timeout_s=timeout_s,
            environment=self._environment,
            stdin=stdin,
            pty=pty,
        )

    def push(
        self,
        source: Path | bytes,
        target: str,
        *,
        mode: int = 0o644,
        progress: ProgressCallback | None = None,
    ) -> int:
        """Copy a file's content to ``target``; return its bytes."""
        path = Path(checked_path(target))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            size_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
            with _temporary_beside(path) as (stream, temporary):
                if isinstance(source, bytes):
                    stream.write(source)
                else:
                    with source.open("rb") as reader:
                        shutil.copyfileobj(reader, stream, _CHUNK_BYTES)
                stream.flush()
                temporary.chmod(mode)
                temporary.replace(path)
        except OSError as error:
            raise DeviceStorageError(
                f"writing {target} failed: {error.strerror}", serial=self._serial
            ) from error
        if progress is not None:
            progress(size_bytes, size_bytes)
        return size_bytes

    def pull(self, source: str, target: Path, *, max_bytes: int = 4 << 30) -> int:
        """Copy ``source`` to ``target``; return its bytes."""
        path = Path(checked_path(source))
        try:
            size_bytes = path.stat().st_size
            if size_bytes > max_bytes:
                raise DeviceError(
                    f"{source} has {size_bytes:,} bytes; at most {max_bytes:,} are accepted",
                    serial=self._serial,
                )
            reader = path.open("rb")
        except OSError as error:
            raise DeviceError(
                f"reading {source} failed: {error.strerror}", serial=self._serial
            ) from error
        try:
            with reader, _temporary_beside(target) as (stream, temporary):
                shutil.copyfileobj(reader, stream, _CHUNK_BYTES)
                stream.flush()
                temporary.chmod(0o644)
                temporary.replace(target)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", where=str(target)) from error
        return size_bytes

    def stat(self, path: str) -> FileStat | None:
        """What is at ``path``, or None."""
        try:
            found = Path(checked_path(path)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}", serial=self._serial) from error
        return FileStat(found.st_mode, found.st_size, int(found.st_mtime))

    def remove(self, path: str) -> None:
        """Remove a file or folder below the root; nothing there is fine."""
        victim = Path(inside(path, str(self._root)))
        try:
            if victim.is_dir() and not victim.is_symlink():
                shutil.rmtree(victim)
            else:
                victim.unlink(missing_ok=True)
        except OSError as error:
            raise DeviceStorageError(
                f"removing {path} failed: {error.strerror}", serial=self._serial
            ) from error


class LocalProcess:
    """A local command under way: see :class:`droidmace.devices.base.RemoteProcess`."""

    def __init__(
        self,
        argv: list[str],
        *,
        shown: str,
        serial: str,
        timeout_s: float,
        environment: Mapping[str, str] | None,
        stdin: Iterable[bytes] | None,
        pty: bool,
    ) -> None:
        self._shown = shown
        self._serial = serial
        self._timeout_s = timeout_s
        self._deadline = math.inf
        self._streams: dict[int, Literal["stdout", "stderr"]] = {}
        input_handle: int = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        child_output: int = subprocess.PIPE
        child_error: int = subprocess.PIPE
        master = slave = -1
        if pty:
            master, slave = os.openpty()
            child_output = child_error = slave
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                argv,
                stdin=input_handle,
                stdout=child_output,
                stderr=child_error,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            if pty:
                os.close(master)
            raise DeviceError(f"{argv[0]}: {error.strerror}", serial=serial) from error
        finally:
            if pty:
                os.close(slave)
        if pty:
            self._streams[master] = "stdout"
        else:
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            self._streams[os.dup(self._process.stdout.fileno())] = "stdout"
            self._streams[os.dup(self._process.stderr.fileno())] = "stderr"
            self._process.stdout.close()
            self._process.stderr.close()
        self._input: CommandInput | None = None
        if stdin is not None and self._process.stdin is not None:
            stream = self._process.stdin
            self._input = CommandInput(
                stdin, write=stream.write, end=stream.close, abandon=stream.close
            )

    @property
    def exit_code(self) -> int:
        """The exit code, 128 + N for signal N as a shell says it."""
        code = self._process.poll()
        if code is None:
            raise DeviceError(
                "the command has not ended yet", serial=self._serial, command=self._shown
            )
        return code if code >= 0 else 128 - code

    def chunks(self) -> Iterator[OutputChunk]:
        """Yield output as it arrives, until the command ends."""
        self._deadline = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            for descriptor in self._streams:
                selector.register(descriptor, selectors.EVENT_READ)
            while self._streams:
                for key, _ in selector.select(self._remaining_s()):
                    name = self._streams[key.fd]
                    try:
                        data = os.read(key.fd, _READ_BYTES)
                    except OSError:
                        # A terminal whose last user is gone reads as EIO, not as the end.
                        data = b""
                    if data:
                        yield OutputChunk(name, data)
                    else:
                        selector.unregister(key.fd)
                        del self._streams[key.fd]
                        os.close(key.fd)
        try:
            self._process.wait(self._remaining_s())
        except subprocess.TimeoutExpired as error:
            raise self._timeout_error() from error
        if self._input is not None:
            self._input.check()

    def close(self) -> None:
        """Stop the command and all it started; safe to call twice."""
        # Children that still hold the output are in the same group as the shell.
        if self._process.poll() is None or self._streams:
            for number, grace_s in ((signal.SIGTERM, _STOP_GRACE_S), (signal.SIGKILL, None)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
                    break
        for descriptor in self._streams:
            os.close(descriptor)
        self._streams.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _remaining_s(self) -> float:
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise self._timeout_error()
        return remaining_s

    def _timeout_error(self) -> DeviceTimeoutError:
        return DeviceTimeoutError(
            f"`{self._shown[:60]}` did not end within {self._timeout_s:g} s",
            serial=self._serial,
            command=self._shown,
        )


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A temporary file in ``path``'s folder, removed unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream, temporary
    finally:
        temporary.unlink(missing_ok=True)
