"""Many ``mace_run`` processes in one command on the phone: one per file of tuned parameters.

A search runs hundreds of short processes. The parameter files of a batch travel as one archive,
``device_scripts/series.sh`` runs the processes one after another, and each one's result is known as
soon as it ended. What a process could not do is data: its neighbours go on.
"""

from __future__ import annotations

import io
import posixpath
import shlex
import tarfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from droidmace.devices.base import Device
from droidmace.errors import (
    DeviceStorageError,
    DeviceTimeoutError,
    DroidmaceError,
    MaceRunError,
)
from droidmace.macerun import device_files, failures
from droidmace.macerun.events import (
    FatalNoticed,
    OutputLine,
    ParametersApplied,
    RetryNoticed,
    RetryStep,
)
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.series_output import ProcessOutput, SeriesReader
from droidmace.macerun.session import MaceRunSession, WatchLimits
from droidmace.resources import device_script
from droidmace.results import MaceRunResult

BLAME_VLOG = 3
"""VLOG level at which mace_run names every kernel that it runs with parameters from a file."""
_MARGIN_S = 60.0


class FailureKind(StrEnum):
    """Why a process has no table."""

    RETRIED = "retried"
    """A step failed, and would have been retried for ever."""
    CRASHED = "crashed"
    KILLED = "killed"
    """A signal from outside ended it: out of memory, most often."""
    INCOMPLETE = "incomplete"
    """It ended in peace, but without its tables."""
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class ProcessFailure:
    """A process of a series that told nothing.

    ``wall_s`` counts the second process that was to find out why, where there was one.
    ``guilty_key``: the last kernel (by its readable tuning key) that it ran with parameters from
    the file; None if that was not found out.
    """

    kind: FailureKind
    reason: str
    wall_s: float
    guilty_key: str | None = None


ProcessOutcome = MaceRunResult | ProcessFailure


class Series:
    """Runs processes that differ only in their tuned parameters.

    ``folder`` is the name of two folders below the session's root that the parameter files get in
    turns: ``FOLDER.0`` and ``FOLDER.1``.
    """

    def __init__(
        self,
        device: Device,
        session: MaceRunSession,
        invocation: Invocation,
        folder: str,
        *,
        root: str,
        limits: WatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if invocation.batch or invocation.opencl_parameter_file or invocation.tuning:
            raise ValueError("a series brings its own parameters, and has a table per process")
        if not posixpath.normpath(folder).startswith(f"{posixpath.normpath(root)}/"):
            raise ValueError(f"{folder} lies outside {root}")
        self._device = device
        self._session = session
        self._invocation = invocation
        self._folder = posixpath.normpath(folder)
        self._root = root
        self._limits = limits or WatchLimits()
        self._clock = clock
        self._prepared = False
        self._sending = threading.Lock()
        self._turn = 0
        self._ahead: tuple[bytes | None, ...] | None = None

    def run(
        self, parameter_files: Sequence[bytes | None], *, timeout_s: float, rounds: int = 1
    ) -> Generator[ProcessOutcome, None, None]:
        """One process per parameter file (None: without one), each outcome as it ends, in order.

        The files are sent by the call itself; the first process begins when the first outcome is
        asked for. ``timeout_s`` is for one process. Close the iterator to stop what runs on the
        phone. Raises ``MaceRunError`` where no process can be started at all, and the device's own
        ``DeviceError`` s.
        """
        invocation = replace(self._invocation, rounds=rounds)
        if not parameter_files:
            return self._run(invocation, "", (), timeout_s)
        self._prepare(invocation)
        with self._sending:
            self._turn += 1
            folder = self._folder_of(self._turn)
            ahead, self._ahead = self._ahead or (), None
            if ahead[: len(parameter_files)] != tuple(parameter_files):
                self._send(parameter_files, folder)
        return self._run(invocation, folder, parameter_files, timeout_s)

    def send_ahead(self, parameter_files: Sequence[bytes | None]) -> None:
        """Bring the files of the next :meth:`run` to the phone while this one goes on.

        For another thread. The next run may be of fewer of them, or of others, which are sent then.
        """
        with self._sending:
            self._ahead = None
            self._send(parameter_files, self._folder_of(self._turn + 1))
            self._ahead = tuple(parameter_files)

    def _run(
        self,
        invocation: Invocation,
        folder: str,
        parameter_files: Sequence[bytes | None],
        timeout_s: float,
    ) -> Generator[ProcessOutcome, None, None]:
        number, count = 0, len(parameter_files)
        while number < count:
            suspect = yield from self._run_from(invocation, folder, range(number, count), timeout_s)
            if suspect is None:
                return
            # Nothing else runs on the phone now.
            number = suspect.process.number
            parameters = None if parameter_files[number] is None else f"{folder}/{number}"
            yield self._blame(invocation, suspect, timeout_s, parameters)
            number += 1

    def _folder_of(self, turn: int) -> str:
        """Not the one that the processes under way read."""
        return f"{self._folder}.{turn % 2}"

    def _prepare(self, invocation: Invocation) -> None:
        if not self._prepared:
            expected = invocation.expected_outputs()
            device_files.prepare(self._device, invocation, expected, self._root)
            self._prepared = True

    def _send(self, parameter_files: Sequence[bytes | None], folder: str) -> None:
        """All files in one archive; the script unpacks it."""
        packed = io.BytesIO()
        # USTAR is what toybox of every Android release reads.
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for number, data in enumerate(parameter_files):
                if data is not None:
                    member = tarfile.TarInfo(str(number))
                    member.size, member.mode = len(data), 0o644
                    archive.addfile(member, io.BytesIO(data))
        self._device.push(packed.getvalue(), f"{folder}.tar")

    def _command(self, invocation: Invocation, folder: str, numbers: range) -> str:
        variables = [f"{name}={value}" for name, value in invocation.environment().items()]
        words = ["sh", "-c", device_script("series.sh"), "series.sh", invocation.cwd, folder]
        words += [str(numbers[0]), str(numbers[-1]), *variables, "--"]
        return shlex.join([*words, *invocation.argv()])

    def _run_from(
        self, invocation: Invocation, folder: str, numbers: range, timeout_s: float
    ) -> Generator[ProcessOutcome, None, _Suspect | None]:
        """Yield outcomes; return the process that has to be looked at, and at which this ended."""
        reader = SeriesReader(numbers)
        missing = len(numbers)
        total_s = missing * timeout_s + _MARGIN_S
        watch = _Watch(self._limits, self._clock)
        # Leaving the context early, by whatever exception, stops the processes on the device.
        with self._device.start(
            self._command(invocation, folder, numbers),
            timeout_s=total_s,
            silence_s=self._limits.heartbeat_s,
        ) as command:
            for chunk in command.chunks():
                lines, through = reader.feed(chunk)
                for ended in through:
                    outcome = self._judge(ended, watch.wall_s(ended))
                    if isinstance(outcome, _Suspect):
                        return outcome
                    missing -= 1
                    yield outcome
                if (running := reader.running) is not None:
                    watch.saw(running, printed=bool(lines))
                    if (kind := watch.verdict(running, timeout_s)) is not None:
                        # One stream may be ahead: what has ended is not to go down with this one.
                        for ended in reader.take_ended(running.number):
                            outcome = self._judge(ended, watch.wall_s(ended))
                            if isinstance(outcome, _Suspect):
                                return outcome
                            yield outcome
                        return self._stopped(running, kind, watch.wall_s(running))
        if missing:
            raise self._ended_early(reader, command.exit_code)
        return None

    def _judge(self, ended: ProcessOutput, wall_s: float) -> ProcessOutcome | _Suspect:
        """What a process that ended by itself told, or that it has to be looked at."""
        parser, status = ended.parser, ended.exit_status or 0
        if (error := failures.not_started(parser, status, self._device.serial)) is not None:
            raise error
        if parser.fatal or failures.signal_of(status) is not None:
            crash = failures.crash(
                status, first=parser, second=parser, recovery="", serial=self._device.serial
            )
            if parser.fatal or failures.crashed_by_itself(status):
                return _Suspect(ended, FailureKind.CRASHED, crash.message, wall_s)
            return ProcessFailure(FailureKind.KILLED, crash.message, wall_s)
        if parser.table_count and parser.op_table_complete:
            odd = (f"exit status {status}",) if status else ()
            return parser.result(wall_s=wall_s, extra_warnings=odd)
        reason = failures.no_table(parser, self._device.serial).message
        return ProcessFailure(FailureKind.INCOMPLETE, reason, wall_s)

    def _stopped(self, running: ProcessOutput, kind: FailureKind, wall_s: float) -> _Suspect:
        parser = running.parser
        if parser.retry is None:
            reason = f"mace_run did not end within {wall_s:.0f} s"
            return _Suspect(running, kind, reason, wall_s)
        error = failures.endless_retry(parser.retry, parser, self._device.serial)
        if parser.retry.step is RetryStep.CREATE_ENGINE:
            raise error  # no kernel ran yet: no parameter is to blame
        return _Suspect(running, kind, error.message, wall_s)

    def _blame(
        self, invocation: Invocation, suspect: _Suspect, timeout_s: float, parameters: str | None
    ) -> ProcessFailure:
        """Run it once more, with a log that names each kernel before it runs, through a terminal.

        A terminal gets every line as it is printed, whatever becomes of the process.
        """
        began_s = self._clock()
        failure = ProcessFailure(suspect.kind, suspect.reason, suspect.wall_s)
        if parameters is None:
            return failure
        last_key: str | None = None
        guilty: str | None = None

        def on_line(line: OutputLine) -> None:
            nonlocal last_key, guilty
            if isinstance(line.event, ParametersApplied):
                last_key = line.event.key
            elif guilty is None and isinstance(line.event, RetryNoticed | FatalNoticed):
                guilty = last_key

        named = replace(
            invocation,
            rounds=min(invocation.rounds, 1),
            vlog_level=BLAME_VLOG,
            opencl_parameter_file=parameters,
        )
        try:
            self._session.run(named, timeout_s=timeout_s, on_line=on_line, pty=True)
        except (MaceRunError, DeviceTimeoutError) as error:
            failure = replace(failure, wall_s=suspect.wall_s + self._clock() - began_s)
            reason = suspect.reason if isinstance(error, DeviceTimeoutError) else error.message
            return replace(failure, reason=reason, guilty_key=guilty or last_key)
        return replace(
            failure,
            reason=f"{suspect.reason} (but not when it was run again)",
            wall_s=suspect.wall_s + self._clock() - began_s,
        )

    def _ended_early(self, reader: SeriesReader, status: int) -> DroidmaceError:
        if reader.failed is not None:
            return DeviceStorageError(
                "the phone cannot unpack the parameters of a series"
                if reader.failed == "parameters"
                else "the phone's run folder is gone",
                serial=self._device.serial,
                stderr=reader.stray.tail(),
                hint="free some space on the device, and run the command again",
            )
        running = reader.running
        parser = running.parser if running is not None else reader.stray
        return failures.cut_off(status, parser, self._device.serial)


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A process that crashed or was stopped: one of its parameters may be to blame."""

    process: ProcessOutput
    kind: FailureKind
    reason: str
    wall_s: float


class _Watch:
    """Knows since when the process under way runs, and when it last said something."""

    def __init__(self, limits: WatchLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._began_s = self._spoke_s = clock()
        self._process: ProcessOutput | None = None

    def saw(self, process: ProcessOutput, *, printed: bool) -> None:
        """Something came while this process ran."""
        if process is not self._process:
            self._process = process
            self._began_s = self._spoke_s = self._clock()
        elif printed:
            self._spoke_s = self._clock()

    def wall_s(self, process: ProcessOutput) -> float:
        """By the phone's clock, or else by ours."""
        return process.wall_s if process.wall_s is not None else self._clock() - self._began_s

    def verdict(self, process: ProcessOutput, timeout_s: float) -> FailureKind | None:
        """Why the process is to be stopped now, or None."""
        now_s = self._clock()
        retry = process.parser.retry
        if retry is not None and self._limits.endless(retry, now_s - self._spoke_s):
            return FailureKind.RETRIED
        return FailureKind.TIMED_OUT if now_s - self._began_s >= timeout_s else None
