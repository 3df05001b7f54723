"""One byte stream of many processes, taken apart again: what ``device_scripts/series.sh`` writes.

Both output streams carry markers, because nothing orders one stream against the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from droidmace.devices.base import OutputChunk
from droidmace.macerun.events import OutputLine
from droidmace.macerun.output import OutputParser

_LEAD = b"\x1e"
_UPTIME = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,9})?")
_MARKER = re.compile(
    rb"\x1edroidmace (?:"
    rb"alive"
    rb"|begin (?P<begin>[0-9]{1,9}) (?P<began>[0-9.]{0,22})"
    rb"|end (?P<end>[0-9]{1,9}) (?P<status>[0-9]{1,3}) (?P<ended>[0-9.]{0,22})"
    rb"|failed (?P<failed>[a-z]{1,20})"
    rb")\r?\n"
)
_LONGEST_MARKER = 64


@dataclass(slots=True)
class ProcessOutput:
    """What one process of a series has printed so far, and how it ended."""

    number: int
    parser: OutputParser = field(default_factory=OutputParser)
    exit_status: int | None = None
    """The shell's ``$?``, so 128 and more is a signal; None while it runs."""
    began_up_s: float | None = None
    ended_up_s: float | None = None
    _open: set[str] = field(default_factory=lambda: {"stdout", "stderr"})

    @property
    def complete(self) -> bool:
        """Whether it has ended and all that it printed is here."""
        return not self._open

    @property
    def wall_s(self) -> float | None:
        """How long it ran by the phone's own clock; None where the phone does not tell."""
        if self.began_up_s is None or self.ended_up_s is None:
            return None
        return max(0.0, self.ended_up_s - self.began_up_s)


class SeriesReader:
    """Gives each process its own output, in whatever pieces that arrives."""

    def __init__(self, numbers: range) -> None:
        """``numbers``: those of the processes that were asked for."""
        self._numbers = numbers
        self._held = {"stdout": b"", "stderr": b""}
        self._current: dict[str, ProcessOutput | None] = {"stdout": None, "stderr": None}
        self._processes: dict[int, ProcessOutput] = {}
        self.failed: str | None = None
        """What the script could not do, in its own word."""
        self.stray = OutputParser()
        """What was printed by no process: the shell's own complaints."""

    @property
    def running(self) -> ProcessOutput | None:
        """The process under way, as far as standard output tells."""
        return self._current["stdout"]

    def feed(self, chunk: OutputChunk) -> tuple[list[OutputLine], list[ProcessOutput]]:
        """Take a piece; return the lines it completed and the processes that are through."""
        stream = chunk.stream
        data = self._held[stream] + chunk.data
        seen: list[OutputLine] = []
        through: list[ProcessOutput] = []
        position = 0
        for match in _MARKER.finditer(data):
            seen += self._pass_on(stream, data[position : match.start()])
            position = match.end()
            if match["begin"] is not None:
                self._begin(stream, int(match["begin"]), match["began"])
            elif match["end"] is not None:
                ended = self._end(stream, match)
                if ended is not None and ended.complete:
                    seen += ended.parser.finish()
                    through.append(ended)
            elif match["failed"] is not None:
                self.failed = match["failed"].decode()
        rest = data[position:]
        lead = rest.rfind(_LEAD)
        keep = len(rest) - lead if lead >= 0 and len(rest) - lead < _LONGEST_MARKER else 0
        self._held[stream] = rest[len(rest) - keep :]
        seen += self._pass_on(stream, rest[: len(rest) - keep])
        return seen, through

    def take_ended(self, before: int) -> list[ProcessOutput]:
        """Processes with smaller numbers that have ended on one stream, in order.

        For when the other's last word is not waited for: process ``before`` is to be stopped.
        """
        ended = [
            one
            for number, one in sorted(self._processes.items())
            if number < before and one.exit_status is not None
        ]
        for process in ended:
            del self._processes[process.number]
            process.parser.finish()
        return ended

    def _pass_on(self, stream: str, data: bytes) -> list[OutputLine]:
        if not data:
            return []
        process = self._current[stream]
        parser = self.stray if process is None else process.parser
        return parser.feed(data, "stdout" if stream == "stdout" else "stderr")

    def _begin(self, stream: str, number: int, uptime: bytes) -> None:
        if number not in self._numbers:
            return  # a program that writes markers of its own
        process = self._processes.setdefault(number, ProcessOutput(number))
        process.began_up_s = _seconds(uptime)
        self._current[stream] = process

    def _end(self, stream: str, match: re.Match[bytes]) -> ProcessOutput | None:
        process = self._current[stream]
        self._current[stream] = None
        if process is None or process.number != int(match["end"]):
            return None
        process.exit_status = int(match["status"])
        process.ended_up_s = _seconds(match["ended"])
        process._open.discard(stream)
        if process.complete:
            del self._processes[process.number]
        return process


def _seconds(uptime: bytes) -> float | None:
    return float(uptime) if _UPTIME.fullmatch(uptime) else None
