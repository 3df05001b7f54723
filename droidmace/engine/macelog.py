"""MACE's log on stdout: lines, levels, and what becomes of them at an abort.

Source: ``mace/port/logger.cc``. Lines go through C stdio there, so they are buffered by blocks when
stdout is a pipe or file and by lines on a terminal, and ``LOG(FATAL)`` ends in ``abort()``, which
drops what is still in the buffer. On Android they go to logcat first
(``mace/port/android/logger.cc``).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

_STDIO_BLOCK_BYTES = 4096
_LEVELS = "IWEF"
_LEVEL_NAMES = {"I": "I", "INFO": "I", "W": "W", "WARNING": "W", "E": "E", "ERROR": "E"} | {
    "F": "F",
    "FATAL": "F",
}


class StdioStream:
    """Text on a file descriptor, buffered as C's stdio buffers stdout."""

    def __init__(self, descriptor: int) -> None:
        raw = io.FileIO(descriptor, "w", closefd=False)
        self._line_buffered = raw.isatty()
        self._buffer = io.BufferedWriter(raw, _STDIO_BLOCK_BYTES)

    def write(self, text: str) -> None:
        """Append ``text``; on a terminal it appears at once. Raises ``OSError``."""
        self._buffer.write(text.encode("utf-8", "surrogateescape"))
        if self._line_buffered:
            self._buffer.flush()

    def flush(self) -> None:
        """Write out what is buffered. Raises ``OSError``."""
        self._buffer.flush()


class Logcat:
    """Android's log as a file of ``MM-DD hh:mm:ss.mmm PID TID LEVEL MACE: text`` lines.

    Nothing is buffered, so what led to an abort is there afterwards. Logging never fails: what
    cannot be written is not. Like Android's, the log forgets its older half when it is full.
    """

    def __init__(self, path: str, limit_bytes: int = 4 << 20) -> None:
        """Open ``path`` for appending, as long as the process lives. Raises ``OSError``."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._limit_bytes = limit_bytes
        self._second = -1
        self._second_text = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Logcat | None:
        """The file that ``ANDROID_LOG_FILE`` names, if it can be written."""
        path = environ.get("ANDROID_LOG_FILE")
        try:
            return cls(path) if path else None
        except OSError:
            return None

    def write(self, level: str, where: str, text: str) -> None:
        """Append a message, with the file's bare name as MACE's Android log has it."""
        head = f"{self._stamp()} {os.getpid():5} {threading.get_native_id():5} {level} MACE: "
        message = f"{where.rpartition('/')[2]} {text}"
        lines = "".join([f"{head}{line}\n" for line in message.splitlines()])
        with contextlib.suppress(OSError):
            os.write(self._descriptor, lines.encode("utf-8", "surrogateescape"))
            if os.fstat(self._descriptor).st_size > self._limit_bytes:
                self._forget_half()

    def _stamp(self) -> str:
        """The local time; its seconds are put into words once each: a batch logs every sample."""
        now_s, fraction_ns = divmod(time.time_ns(), 1_000_000_000)
        if now_s != self._second:
            self._second = now_s
            self._second_text = time.strftime("%m-%d %H:%M:%S", time.localtime(now_s))
        return f"{self._second_text}.{fraction_ns // 1_000_000:03}"

    def _forget_half(self) -> None:
        half = self._limit_bytes // 2
        kept = os.pread(self._descriptor, half, os.fstat(self._descriptor).st_size - half)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, kept.partition(b"\n")[2])


class MaceLog:
    """Lines ``<level> <file>:<line>] <text>``; ``where`` is ``<file>:<line>`` in MACE's tree.

    They go to the stream, and to ``logcat`` if there is one.
    """

    def __init__(
        self,
        stream: StdioStream,
        *,
        minimum: str = "I",
        verbosity: int = 0,
        abort: Callable[[], NoReturn] | None = None,
        logcat: Logcat | None = None,
    ) -> None:
        self._stream = stream
        self._levels = _LEVELS[_LEVELS.index(minimum) :]
        self._verbosity = verbosity if minimum == "I" else -1
        self._abort = abort or abort_process
        self._logcat = logcat

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], stream: StdioStream) -> MaceLog:
        """As ``MACE_CPP_MIN_LOG_LEVEL`` and ``MACE_CPP_MIN_VLOG_LEVEL`` say.

        ``ANDROID_LOG_FILE`` names logcat's file.
        """
        name = environ.get("MACE_CPP_MIN_LOG_LEVEL", "").upper()
        return cls(
            stream,
            minimum=_LEVEL_NAMES.get(name, "I"),
            verbosity=atoi(environ.get("MACE_CPP_MIN_VLOG_LEVEL", "")),
            logcat=Logcat.from_environment(environ),
        )

    def info(self, where: str, text: str) -> None:
        """``LOG(INFO)``."""
        self._line("I", where, text)

    def warning(self, where: str, text: str) -> None:
        """``LOG(WARNING)``."""
        self._line("W", where, text)

    def error(self, where: str, text: str) -> None:
        """``LOG(ERROR)``."""
        self._line("E", where, text)

    def fatal(self, where: str, text: str) -> NoReturn:
        """``LOG(FATAL)``: aborts, losing what a pipe has not been given yet."""
        self._line("F", where, text)
        self._abort()

    def verbose(self, level: int) -> bool:
        """Whether ``VLOG(level)`` lines are printed: ask before building a costly one."""
        return level <= self._verbosity

    def vlog(self, level: int, where: str, text: str) -> None:
        """``VLOG(level)``."""
        if self.verbose(level):
            self._line("I", where, text)

    def plain(self, text: str) -> None:
        """``printf``: text as it is, at every log level."""
        self._stream.write(text)

    def flush(self) -> None:
        """What the C library does at a normal exit."""
        self._stream.flush()

    def _line(self, level: str, where: str, text: str) -> None:
        if level not in self._levels:
            return
        if self._logcat is not None:
            self._logcat.write(level, where, text)
        self._stream.write(f"{level} mace/{where}] {text}\n")


def abort_process() -> NoReturn:
    """C's ``abort``, without the say of handlers that OpenCL drivers install for its signal."""
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()


def atoi(text: str) -> int:
    """C's ``atoi``: leading blanks, a sign, digits; 0 when there are none."""
    found = re.match(r"\s*([+-]?\d+)", text, re.ASCII)
    return int(found.group(1)) if found else 0


def format_float(value: float) -> str:
    """A double as C++ streams print it by default: six significant digits, ``%g``."""
    return f"{value:g}"


def format_vector(values: object) -> str:
    """A vector as MACE's ``MakeString`` prints it: ``[1, 2, 3]``."""
    assert isinstance(values, list | tuple)
    return "[" + ", ".join(str(value) for value in values) + "]"
