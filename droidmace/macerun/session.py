"""Runs ``mace_run`` on a device: fresh outputs, a watched process, a verdict from evidence.

``mace_run``'s exit status says nothing: ``main`` drops the result. A run succeeded when it printed
its result table (batch mode has none) and every expected output file is fresh and of the right
size. It also starts failing steps over for ever, and an abort loses what stdio had buffered.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from droidmace.devices.base import Device, OutputChunk, RemoteProcess
from droidmace.errors import (
    DeviceError,
    DeviceTimeoutError,
    MaceRunError,
    MaceRunOutputError,
    MaceRunRetryError,
)
from droidmace.macerun import device_files, failures
from droidmace.macerun.events import OutputLine, RetryNoticed
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.output import OutputParser
from droidmace.macerun.supervision import Launcher, MarkerFilter, supervised_shell
from droidmace.results import MaceRunResult

DEFAULT_ROOT = "/data/local/tmp/mace_run"

LineCallback = Callable[[OutputLine], None]
"""Called with every line of output as it arrives."""


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """When a process that still runs is given up."""

    retries: int = 3
    """Failures in a row of one step."""
    retry_stall_s: float = 60.0
    """Time after a failure in which nothing else is printed: MACE also retries silently."""
    silence_s: float | None = None
    """Time in which nothing is printed at all. Tuning through a pipe is silent for long: stdio
    keeps back 4 KiB. None leaves it to the deadline."""
    heartbeat_s: float = 60.0
    """Time without a sign of life from the phone: its script gives one every two seconds."""
    recovery_s: float = 30.0
    """How much longer than the crashed run its repetition through a terminal may take."""

    def endless(self, retry: RetryNoticed, silent_s: float) -> bool:
        """Whether the retry under way, nothing printed for ``silent_s``, counts as endless."""
        return retry.count >= self.retries or silent_s >= self.retry_stall_s


@dataclass(slots=True)
class _Observation:
    """What one process printed and how it ended."""

    parser: OutputParser
    exit_status: int
    wall_s: float


class MaceRunSession:
    """Runs ``mace_run`` processes on one device, below one folder.

    ``launcher`` builds the device's command line (see :mod:`droidmace.macerun.supervision`).
    """

    def __init__(
        self,
        device: Device,
        root: str = DEFAULT_ROOT,
        *,
        limits: WatchLimits | None = None,
        launcher: Launcher = supervised_shell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._root = root
        self._limits = limits or WatchLimits()
        self._launcher = launcher
        self._clock = clock

    def run(
        self,
        invocation: Invocation,
        *,
        timeout_s: float,
        on_line: LineCallback | None = None,
        pty: bool = False,
    ) -> MaceRunResult:
        """Run once on ``input_file``; every expected output is fresh afterwards.

        Through a terminal (``pty``) lines arrive as they are printed, at some cost per line;
        through a pipe in blocks.

        Raises ``MaceRunCrashError`` (signal or abort; its last lines recovered),
        ``MaceRunRetryError`` (stopped, with the reason from its log), ``MaceRunOutputError`` (no
        result table, an output missing or of the wrong size), ``MaceRunError`` (it could not be
        started, or knows a flag no more), and the device's own ``DeviceError`` s:
        ``DeviceTimeoutError`` at the deadline, ``DeviceStorageError``, ``DeviceLostError``.
        """
        if invocation.batch:
            raise ValueError("an invocation with input_dir runs with run_batch")
        return self._run(invocation, invocation.expected_outputs(), timeout_s, on_line, pty)

    def run_batch(
        self,
        invocation: Invocation,
        suffixes: Sequence[str],
        *,
        timeout_s: float,
        on_line: LineCallback | None = None,
        pty: bool = False,
    ) -> MaceRunResult:
        """Run on every sample of ``input_dir``; ``suffixes`` name those that must come out.

        ``output_dir`` is emptied first. Raises what :meth:`run` raises; the result has no times.
        """
        if not invocation.batch or not suffixes:
            raise ValueError("run_batch needs input_dir, output_dir and at least one suffix")
        expected = invocation.expected_outputs(suffixes)
        return self._run(invocation, expected, timeout_s, on_line, pty)

    def _run(
        self,
        invocation: Invocation,
        expected: dict[str, int],
        timeout_s: float,
        on_line: LineCallback | None,
        pty: bool,
    ) -> MaceRunResult:
        device_files.prepare(self._device, invocation, expected, self._root)
        seen = self._observe(invocation, timeout_s, on_line, pty)
        self._judge_end(invocation, seen, timeout_s, pty)
        self._judge_table(invocation, seen.parser)
        self._judge_files(invocation, seen.parser, expected)
        # Evidence outweighs the status; it is worth a word all the same.
        odd = (f"exit status {seen.exit_status}",) if seen.exit_status else ()
        return seen.parser.result(wall_s=seen.wall_s, extra_warnings=odd)

    def _observe(
        self, invocation: Invocation, timeout_s: float, on_line: LineCallback | None, pty: bool
    ) -> _Observation:
        """Start the process and read it to its end, or give it up."""
        parser = OutputParser()
        markers = {"stdout": MarkerFilter(), "stderr": MarkerFilter()}
        command = self._launcher(invocation)
        began = self._clock()
        watch = _Watch(self._limits, self._clock)

        def deliver(lines: list[OutputLine]) -> None:
            for line in lines:
                watch.line_came()
                if on_line is not None:
                    on_line(line)

        # Leaving the context early, by whatever exception, stops the process on the device.
        with self._device.start(
            command, timeout_s=timeout_s, pty=pty, silence_s=self._limits.heartbeat_s
        ) as process:
            for chunk in self._chunks(process, parser, timeout_s):
                deliver(parser.feed(markers[chunk.stream].feed(chunk.data), chunk.stream))
                self._give_up_if_stuck(parser, watch)
        deliver(parser.feed(markers["stdout"].finish(), "stdout"))
        deliver(parser.feed(markers["stderr"].finish(), "stderr"))
        deliver(parser.finish())
        statuses = [one.exit_status for one in markers.values() if one.exit_status is not None]
        if not statuses:
            raise failures.cut_off(process.exit_code, parser, self._device.serial)
        return _Observation(parser, statuses[0], self._clock() - began)

    def _chunks(
        self, process: RemoteProcess, parser: OutputParser, timeout_s: float
    ) -> Iterator[OutputChunk]:
        """The process's output; a deadline that passes is told with what was seen until then."""
        try:
            yield from process.chunks()
        except DeviceTimeoutError as error:
            raise self._timed_out(parser, f"did not end within {timeout_s:g} s") from error

    def _give_up_if_stuck(self, parser: OutputParser, watch: _Watch) -> None:
        retry = parser.retry
        if retry is not None and watch.retries_for_ever(retry):
            raise failures.endless_retry(retry, parser, self._device.serial)
        if watch.silent_too_long():
            raise self._timed_out(parser, f"printed nothing for {self._limits.silence_s:g} s")

    def _timed_out(self, parser: OutputParser, what: str) -> DeviceTimeoutError | MaceRunRetryError:
        if parser.retry is not None:
            return failures.endless_retry(parser.retry, parser, self._device.serial)
        return DeviceTimeoutError(
            f"mace_run {what} and was stopped",
            serial=self._device.serial,
            hint="raise the deadline, or look at its last lines for what it was doing",
            details=parser.tail() or None,
        )

    def _judge_end(
        self, invocation: Invocation, seen: _Observation, timeout_s: float, pty: bool
    ) -> None:
        """Refuse a process that was not started, did not know a flag, or crashed."""
        parser, status = seen.parser, seen.exit_status
        if (error := failures.not_started(parser, status, self._device.serial)) is not None:
            raise error
        if failures.signal_of(status) is None and not parser.fatal:
            return
        log = parser
        recovery = ""
        if not parser.fatal and not pty and failures.crashed_by_itself(status):
            budget_s = min(timeout_s, seen.wall_s + self._limits.recovery_s)
            log, recovery = self._read_again(invocation, budget_s)
        raise failures.crash(
            status, first=parser, second=log, recovery=recovery, serial=self._device.serial
        )

    def _read_again(self, invocation: Invocation, budget_s: float) -> tuple[OutputParser, str]:
        """Repeat a crashed run through a terminal, where stdio keeps nothing back.

        Returns what it printed and a sentence on how that went.
        """
        lines: list[OutputLine] = []
        try:
            seen = self._observe(invocation, budget_s, lines.append, pty=True)
        except (DeviceError, MaceRunError) as error:
            parser = OutputParser()
            parser.feed("\n".join(line.text for line in lines).encode())
            parser.finish()
            return parser, f"run again through a terminal to read its log: {error.message}"
        if failures.signal_of(seen.exit_status) is None:
            return seen.parser, "run again through a terminal it did not crash"
        return seen.parser, "log of a second run, read through a terminal"

    def _judge_table(self, invocation: Invocation, parser: OutputParser) -> None:
        if not invocation.batch and parser.table_count < invocation.restart_rounds:
            raise failures.no_table(parser, self._device.serial)

    def _judge_files(
        self, invocation: Invocation, parser: OutputParser, expected: dict[str, int]
    ) -> None:
        sizes = device_files.output_sizes(self._device, invocation, expected)
        if problems := device_files.problems(expected, sizes):
            wrong = len(problems)
            raise failures.bad_outputs(problems, wrong, len(expected), parser, self._device.serial)
        if invocation.tuning and invocation.parameter_path:
            path = invocation.absolute(invocation.parameter_path)
            if not device_files.file_sizes(self._device, [path]).get(path):
                raise MaceRunOutputError(
                    f"the tuned parameters {posixpath.basename(path)} were not written",
                    where=self._device.serial,
                    hint="mace_run writes them only for a GPU model, when it ends normally",
                    details=parser.tail() or None,
                )


class _Watch:
    """Knows when the last line came, and so when to give up."""

    def __init__(self, limits: WatchLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._last_line_s = clock()

    def line_came(self) -> None:
        """A line of output arrived."""
        self._last_line_s = self._clock()

    def retries_for_ever(self, retry: RetryNoticed) -> bool:
        """Whether the retry under way counts as endless."""
        return self._limits.endless(retry, self._silence_s())

    def silent_too_long(self) -> bool:
        """Whether the limit on silence is passed."""
        limit_s = self._limits.silence_s
        return limit_s is not None and self._silence_s() >= limit_s

    def _silence_s(self) -> float:
        return self._clock() - self._last_line_s
