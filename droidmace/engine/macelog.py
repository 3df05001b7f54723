"""MACE's log on stdout: lines, levels, and what becomes of them at an abort.

Source: ``mace/port/logger.cc``. Lines go through C stdio there, so they are buffered by blocks when
stdout is a pipe or file and by lines on a terminal, and ``LOG(FATAL)`` ends in ``abort()``, which
drops what is still in the buffer.
"""

from __future__ import annotations

import io
import os
import re
import signal
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


class MaceLog:
    """Lines ``<level> <file>:<line>] <text>``; ``where`` is ``<file>:<line>`` in MACE's tree."""

    def __init__(
        self,
        stream: StdioStream,
        *,
        minimum: str = "I",
        verbosity: int = 0,
        abort: Callable[[], NoReturn] | None = None,
    ) -> None:
        self._stream = stream
        self._levels = _LEVELS[_LEVELS.index(minimum) :]
        self._verbosity = verbosity if minimum == "I" else -1
        self._abort = abort or abort_process

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], stream: StdioStream) -> MaceLog:
        """As ``MACE_CPP_MIN_LOG_LEVEL`` and ``MACE_CPP_MIN_VLOG_LEVEL`` say."""
        name = environ.get("MACE_CPP_MIN_LOG_LEVEL", "").upper()
        return cls(
            stream,
            minimum=_LEVEL_NAMES.get(name, "I"),
            verbosity=atoi(environ.get("MACE_CPP_MIN_VLOG_LEVEL", "")),
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
        if level in self._levels:
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
