"""The processes of a bench session: cold and warm starts, latency, profile, memory, single times.

Every figure comes from fresh ``mace_run`` processes, and no two kinds of figure from one process.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace

from droidmace.devices.base import Device
from droidmace.errors import MaceRunOutputError
from droidmace.macerun.events import OutputLine, ResultTable, Stage, StageReached
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.memory import MemoryReader, memory_shell
from droidmace.macerun.op_summary import OpSummaryReader
from droidmace.macerun.session import LineCallback, MaceRunSession
from droidmace.results import MaceRunResult, RunTimes
from droidmace.results.bench import OpProfile
from droidmace.workflows.bench_request import BenchFiles, BenchSettings
from droidmace.workflows.measure import (
    PROVE_SOURCES_VLOG,
    Layout,
    average_ms,
    emptied_storage,
    refuse_other_run,
    times_of,
)
from droidmace.workflows.shipped_files import check_taken


@dataclass(frozen=True, slots=True)
class Prepared:
    """How a second start of this kind goes: told by a process at VLOG 3, which is not timed."""

    result: MaceRunResult
    warning: str = ""


class BenchRuns:
    """Runs the processes of one model on one phone; all that they need is there already."""

    def __init__(
        self,
        device: Device,
        layout: Layout,
        base: Invocation,
        settings: BenchSettings,
        session: MaceRunSession | None = None,
    ) -> None:
        self._device = device
        self._layout = layout
        self._base = base
        self._settings = settings
        self._session = session or MaceRunSession(device, layout.root)
        self._parameters = ""
        self._starts_warm = False
        """Whether all programs come from what is stored."""

    def prepare(self, files: BenchFiles) -> Prepared:
        """Give the phone what the bundle ships, or let it store what it compiles.

        Raises ``MaceRunOutputError`` where it does not run with the bundle's parameters.
        """
        self._emptied("bench")
        if files.parameters is not None:
            path = posixpath.join(self._emptied("bench_parameters"), "tuned_parameters")
            self._device.push(files.parameters, path)
            self._parameters = path
        shipped = files.program is not None
        if files.program is not None:
            self._device.push(files.program, self._layout.compiled_program("bench"))
        proof = replace(self._warm(rounds=1), vlog_level=PROVE_SOURCES_VLOG)
        first = self._run(proof)
        sources = first.programs
        warning = check_taken(
            program=shipped,
            parameters=bool(self._parameters),
            first=first,
            serial=self._device.serial,
        )
        if warning:
            warning += "; what is measured is a start after that one"
        # What was built has been stored by now: this one shows whether it is used.
        second = self._run(proof) if sources.source else first
        if not shipped and sources.source and not second.programs.cache:
            warning = "the phone does not use what it stored: every start is a cold one"
        self._starts_warm = bool(second.programs.cache) and not second.programs.source
        return Prepared(second, warning)

    def cold(self) -> RunTimes:
        """A start of a phone that has nothing stored: no compiled program, no parameters."""
        storage = self._emptied("bench_cold")
        return self._times(replace(self._base, storage_dir=storage, rounds=1))

    def latency(self) -> RunTimes:
        """One sample."""
        times = self._times(self._warm(rounds=self._settings.rounds))
        average_ms(times, self._device)
        return times

    def singles_ms(self) -> tuple[float, ...]:
        """Times of single inferences, from one process that makes an engine for each of them."""
        found: list[float] = []

        def on_line(line: OutputLine) -> None:
            if isinstance(line.event, ResultTable):
                found.append(average_ms(line.event.times, self._device))

        count = self._settings.singles
        self._run(replace(self._warm(rounds=1), restart_rounds=count), on_line)
        if len(found) != count:
            raise MaceRunOutputError(
                f"mace_run printed {len(found)} result tables, {count} were asked for",
                where=self._device.serial,
            )
        return tuple(found)

    def profile(self) -> OpProfile:
        """What each op takes, from a process that does nothing else."""
        reader = OpSummaryReader()

        def on_line(line: OutputLine) -> None:
            if line.log is not None and line.log.level == "I":
                reader.line(line.log.text)

        result = self._run(
            replace(self._warm(rounds=self._settings.rounds), benchmark=True), on_line
        )
        return OpProfile(
            ops=result.ops,
            by_type=reader.by_type,
            macs=reader.macs,
            rounds=reader.rounds,
            first_ms=reader.total_ms("first"),
            min_ms=reader.total_ms("min"),
            max_ms=reader.total_ms("max"),
            avg_ms=reader.total_ms("avg"),
        )

    def peak_kib(self) -> int | None:
        """The largest resident set of a process that is looked at; None if nothing was seen."""
        reader = MemoryReader()
        watched = MaceRunSession(self._device, self._layout.root, launcher=memory_shell)
        watched.run(
            self._warm(rounds=self._settings.rounds),
            timeout_s=self._settings.timeout_s,
            on_line=reader,
        )
        return reader.peak_kib

    def load(self, rounds: int, on_stage: Callable[[Stage], object]) -> float:
        """Keep the phone busy for so many rounds; returns their average latency (ms).

        ``on_stage`` hears of the process's stages as they are reached.
        """

        def on_line(line: OutputLine) -> None:
            if isinstance(line.event, StageReached):
                on_stage(line.event.stage)

        # Through a terminal its lines come as they are printed.
        result = self._run(self._warm(rounds=rounds), on_line, pty=True)
        return average_ms(times_of(result, self._device), self._device)

    def _warm(self, *, rounds: int) -> Invocation:
        return replace(
            self._base,
            storage_dir=self._layout.storage("bench"),
            opencl_parameter_file=self._parameters,
            rounds=rounds,
        )

    def _times(self, invocation: Invocation) -> RunTimes:
        return times_of(self._run(invocation), self._device)

    def _run(
        self, invocation: Invocation, on_line: LineCallback | None = None, *, pty: bool = False
    ) -> MaceRunResult:
        result = self._session.run(
            invocation, timeout_s=self._settings.timeout_s, on_line=on_line, pty=pty
        )
        refuse_other_run(
            result,
            self._device.serial,
            parameters=bool(invocation.opencl_parameter_file),
            program=self._starts_warm and invocation.storage_dir == self._layout.storage("bench"),
        )
        return result

    def _emptied(self, name: str) -> str:
        return emptied_storage(self._device, self._layout, name)
