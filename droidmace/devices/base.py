"""The small interface that every kind of device offers.

A device is a phone behind adb, a board behind ssh, or this machine. Everything above this
package speaks only this interface. Paths on a device are POSIX strings, never ``Path``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

MAX_OUTPUT_BYTES = 64 << 20
"""What one command may print before it is stopped: output is untrusted."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A finished remote command: its exit code and complete output."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """A piece of a running command's output, in the order in which it arrived."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file on the device. ``mode`` holds type and permission bits; times are in seconds."""

    mode: int
    size_bytes: int
    mtime_s: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return (self.mode & 0o170000) == 0o040000


class RemoteProcess(Protocol):
    """A command under way. Use it as a context manager: leaving it early stops the command."""

    def chunks(self) -> Iterator[OutputChunk]:
        """Yield output as it arrives, until the command ends.

        Raises ``DeviceTimeoutError`` when the deadline passes, ``DeviceLostError`` when the device
        goes away, or falls silent, before it told the exit code.
        """
        ...

    @property
    def exit_code(self) -> int:
        """The exit code; only after ``chunks`` is exhausted."""
        ...

    def close(self) -> None:
        """Stop the command if it still runs, on the device too; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


ProgressCallback = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


class Device(Protocol):
    """A device. Every call has a deadline and raises ``DeviceError``s only."""

    @property
    def serial(self) -> str:
        """How the user names it."""
        ...

    def properties(self) -> Mapping[str, str]:
        """System properties (``getprop``)."""
        ...

    def run(
        self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"", pty: bool = False
    ) -> CommandResult:
        """Run a shell command line to its end. The caller quotes (``shlex.quote``).

        An exit code other than 0 is a result, not an error.
        """
        ...

    def start(
        self,
        command: str,
        *,
        timeout_s: float,
        pty: bool = False,
        silence_s: float | None = None,
        stdin: Iterable[bytes] | None = None,
    ) -> RemoteProcess:
        """Start a shell command line and return at once.

        ``timeout_s`` counts from when its output is first read: who starts a command ahead may be
        busy when it ends.

        ``stdin`` is the command's whole input, in pieces that are taken from another thread as fast
        as the device reads them; ``chunks`` raises what they raise. Without one the input is empty.

        ``silence_s`` is for a command that prints all the time: a device from which nothing at all
        has come for so long is lost, whatever adb says of it.

        With ``pty`` its output comes through a terminal (line-buffered by the program, stderr
        merged into stdout, CR LF line ends).
        """
        ...

    def push(
        self,
        source: Path | bytes,
        target: str,
        *,
        mode: int = 0o644,
        progress: ProgressCallback | None = None,
    ) -> int:
        """Copy a file's content to ``target`` on the device; return the bytes sent.

        Parent folders are made. ``target`` never holds half a file when this fails.
        """
        ...

    def pull(self, source: str, target: Path, *, max_bytes: int = 4 << 30) -> int:
        """Copy ``source`` from the device to the host file ``target``; return the bytes received.

        ``target`` appears complete or not at all.
        """
        ...

    def stat(self, path: str) -> FileStat | None:
        """What is at ``path`` (64-bit sizes), or None."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it; nothing there is fine.

        Refuses paths outside the folders that droidmace uses (``/data/local/tmp/…``).
        """
        ...
