"""Incremental parser of ``mace_run``'s output.

Feed it bytes as they arrive; each complete line comes back as an :class:`OutputLine`, and the
parser keeps what a caller wants to know at the end. It holds no more than a bounded amount,
whatever it is fed, and never raises on content: the output is a device's.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from droidmace.macerun.events import (
    Event,
    FatalNoticed,
    FellBack,
    KernelTuned,
    LogLine,
    OperatorRan,
    OutputLine,
    OutputWritten,
    ParametersApplied,
    ProgramOrigin,
    ProgramReady,
    ResultTable,
    RetryNoticed,
    RetryStep,
    Stage,
    StageReached,
    WarningKind,
    WarningNoticed,
)
from droidmace.macerun.lines import LineFramer
from droidmace.macerun.op_table import OpTableReader
from droidmace.results import MaceRunResult, OpTime, ProgramSources, RunTimes

_Value = TypeVar("_Value")

MAX_KEPT_CHARACTERS = 16 << 20
"""How much text of program keys, parameter keys and output paths is kept of one process."""
MAX_WARNINGS = 200
MAX_FATAL_LINES = 10
TAIL_LINES = 80
TAIL_LINE_CHARACTERS = 600

_LOG = re.compile(r"([IWEF]) (\S.*?):(\d{1,9})\] (.*)\Z")
_TIME = r"(-?\d{1,15}\.\d{1,9})"
_TABLE_HEADER = re.compile(r"\s*capability\(CPU\)\s+init\s+warmup\s+run_avg\s*\Z")
_TABLE_ROW = re.compile(rf"time\s+{_TIME}\s+{_TIME}\s+{_TIME}\s+{_TIME}\s*\Z")
_PROGRAM = re.compile(r"Program from (source|Cache|precompiled binary): (.+)\Z")
_TUNED = re.compile(r"Tuning (.+) result: \[([0-9, ]*)\]\Z")
# The keys of weight transforms hold blanks: ``arg_buffer_to_image_[16, 3]``.
_APPLIED = re.compile(r"(.+): \[([0-9, ]+)\]\Z")
_WRITTEN = re.compile(r"Write output file (.+) with size (\d{1,18}) done\.\Z")
_RETRY = re.compile(
    r"(Create engine|Warmup|Mace run model) runtime error, retry \.\.\. errcode: ?(.*)\Z"
)
_OPERATOR = re.compile(r"Operator (.+) has shape: \[?[0-9, ]*\]?\Z")
_FELL_BACK = re.compile(r"Op (.+)\(\w+\) fall back to CPU\Z")
_STAGE = re.compile(
    r"(Create Mace Engine latency|Warm up run|1st warm up run latency|Run model|Average latency)"
    r"(?:: (\d{1,15}(?:\.\d+)?(?:e[+-]?\d{1,3})?) ms)?\Z"
)
_UNKNOWN_FLAG = re.compile(r"ERROR: unknown command line flag '(.*)'\Z")
_FLAG_ERROR = re.compile(r"ERROR: .*\bflag\b")

_ORIGINS = {
    "source": ProgramOrigin.SOURCE,
    "Cache": ProgramOrigin.CACHE,
    "precompiled binary": ProgramOrigin.PRECOMPILED,
}
_STAGES = {
    "Create Mace Engine latency": Stage.ENGINE_CREATED,
    "Warm up run": Stage.WARMING_UP,
    "1st warm up run latency": Stage.WARMED_UP,
    "Run model": Stage.RUNNING,
    "Average latency": Stage.RAN,
}
_ENDS_RETRY = {
    Stage.ENGINE_CREATED: RetryStep.CREATE_ENGINE,
    Stage.WARMED_UP: RetryStep.WARM_UP,
    Stage.RAN: RetryStep.RUN,
}
_WARNINGS: tuple[tuple[WarningKind, re.Pattern[str]], ...] = (
    (WarningKind.STORE_MISSING, re.compile(r"Failed to read kv store file: ")),
    (WarningKind.STORE_DAMAGED, re.compile(r"CRC32 value of .* is invalid")),
    (WarningKind.STORE_NOT_LOADED, re.compile(r"Load OpenCL .* kernel file failed")),
    (WarningKind.STORE_NOT_WRITTEN, re.compile(r"(Failed to open file to write|open file ).*")),
    (WarningKind.PROGRAM_REFUSED, re.compile(r"Build program .* from (Cache|precomp.*) failed")),
    (WarningKind.PARAMETERS_MISSING, re.compile(r"Failed to read tuned param file: ")),
    # MACE forgets the blank before "is".
    (WarningKind.PARAMETERS_DAMAGED, re.compile(r"CRC value of .*is invalid")),
    (
        WarningKind.PARAMETERS_NOT_WRITTEN,
        re.compile(r"Write run parameter file failed|Serialize protobuf to array failed"),
    ),
)
# Errors that MACE logs in every run on a device that hides its CPU frequencies.
_NOISE = re.compile(
    r"failed to open /sys/devices/system/cpu/|Fail to get cpu max frequencies|CPU core is empty"
)


def classify_warning(text: str) -> WarningKind:
    """What a warning's text (as in ``MaceRunResult.warnings``) means."""
    return next((kind for kind, pattern in _WARNINGS if pattern.match(text)), WarningKind.OTHER)


class OutputParser:
    """Reads one process's output; standard output and standard error are framed apart."""

    def __init__(self) -> None:
        self._framers = {"stdout": LineFramer(), "stderr": LineFramer()}
        self._characters_left = MAX_KEPT_CHARACTERS
        self._table_announced = False
        self._op_table = OpTableReader()
        self._programs: dict[ProgramOrigin, dict[str, None]] = {
            origin: {} for origin in ProgramOrigin
        }
        self._tuned: dict[str, tuple[int, ...]] = {}
        self._applied: dict[str, tuple[int, ...]] = {}
        self._written: dict[str, int] = {}
        self._warnings: dict[str, WarningKind] = {}
        self._complaints: deque[str] = deque(maxlen=8)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._fatal: list[str] = []
        self._retry_counts = dict.fromkeys(RetryStep, 0)
        self.mace_version = ""
        self.runtimes = ""
        self.times: RunTimes | None = None
        """The last result table."""
        self.table_count = 0
        self.retry: RetryNoticed | None = None
        """The retry under way: None once its step succeeded."""
        self.retry_complaints: tuple[str, ...] = ()
        """What MACE complained about before it began that step anew."""
        self.unknown_flag: str | None = None
        self.flag_error: str | None = None
        self.last_log: LogLine | None = None

    def feed(self, data: bytes, stream: Literal["stdout", "stderr"] = "stdout") -> list[OutputLine]:
        """Take more bytes of a stream; return the lines they complete."""
        return [self._line(text) for text in self._framers[stream].feed(data)]

    def finish(self) -> list[OutputLine]:
        """The output ended: return what an unfinished last line still holds."""
        return [self._line(text) for framer in self._framers.values() for text in framer.finish()]

    @property
    def fatal(self) -> tuple[str, ...]:
        """What ``LOG(FATAL)`` said, without the back-trace."""
        return tuple(self._fatal)

    @property
    def tuned(self) -> dict[str, tuple[int, ...]]:
        """Winners found so far."""
        return dict(self._tuned)

    @property
    def applied(self) -> dict[str, tuple[int, ...]]:
        """Tuned parameters that were read and are used (VLOG 3)."""
        return dict(self._applied)

    @property
    def written(self) -> dict[str, int]:
        """Path (as given to ``mace_run``) to number of values of the outputs it wrote."""
        return dict(self._written)

    @property
    def warnings(self) -> dict[str, WarningKind]:
        """Lines of level W or E that are not noise, each once."""
        return dict(self._warnings)

    @property
    def ops(self) -> tuple[OpTime, ...]:
        """The last run-order table of ``--benchmark``."""
        return self._op_table.rows

    @property
    def op_table_complete(self) -> bool:
        """Whether that table was printed to its end."""
        return self._op_table.complete

    @property
    def programs(self) -> ProgramSources:
        """Where the programs came from."""
        return ProgramSources(
            source=tuple(self._programs[ProgramOrigin.SOURCE]),
            cache=tuple(self._programs[ProgramOrigin.CACHE]),
            precompiled=tuple(self._programs[ProgramOrigin.PRECOMPILED]),
        )

    def tail(self, count: int = 30) -> str:
        """The last lines, for a person."""
        return "\n".join(list(self._tail)[-count:])

    def result(self, *, wall_s: float = 0.0, extra_warnings: Iterable[str] = ()) -> MaceRunResult:
        """Everything the process said, as one value."""
        return MaceRunResult(
            times=self.times,
            mace_version=self.mace_version,
            runtimes=self.runtimes,
            programs=self.programs,
            tuned=self.tuned,
            applied=self.applied,
            ops=self.ops,
            warnings=(*self._warnings, *extra_warnings),
            written_outputs=tuple(self._written),
            wall_s=wall_s,
        )

    def _line(self, text: str) -> OutputLine:
        self._tail.append(text[:TAIL_LINE_CHARACTERS])
        match = _LOG.match(text)
        if match is None:
            return OutputLine(text, event=self._plain(text))
        log = LogLine(match[1], match[2], int(match[3]), match[4])
        self.last_log = log
        return OutputLine(text, log, self._logged(log))

    def _plain(self, text: str) -> Event | None:
        """A line that is not the logger's: the result table, gflags, a driver's chatter."""
        if _TABLE_HEADER.match(text):
            self._table_announced = True
        elif self._table_announced and (row := _TABLE_ROW.match(text)):
            self._table_announced = False
            _, init_ms, warmup_ms, run_avg_ms = map(float, row.groups())
            self.times = RunTimes(init_ms, warmup_ms, run_avg_ms if run_avg_ms >= 0 else None)
            self.table_count += 1
            return ResultTable(self.times)
        elif _FLAG_ERROR.match(text):
            self.flag_error = text.removeprefix("ERROR: ")
            if flag := _UNKNOWN_FLAG.match(text):
                self.unknown_flag = flag[1]
        return None

    def _logged(self, log: LogLine) -> Event | None:
        if log.level == "F":
            return self._fatal_line(log.text)
        if log.level != "I":
            return self._complaint(log.text)
        self._op_table.line(log.text)
        if log.text.startswith("mace version: "):
            self.mace_version = log.text.removeprefix("mace version: ")
        elif log.text.startswith("runtimes: "):
            self.runtimes = log.text.removeprefix("runtimes: ").strip("[]")
        else:
            for reader in _INFORMATION:
                if (event := reader(log)) is not None:
                    self._note(event)
                    return event
        return None

    def _fatal_line(self, text: str) -> Event | None:
        if text == "backtrace:" or text.startswith(" "):
            return None
        if len(self._fatal) < MAX_FATAL_LINES:
            self._fatal.append(text)
        return FatalNoticed(text)

    def _complaint(self, text: str) -> Event | None:
        if match := _RETRY.match(text):
            step = RetryStep(match[1])
            self._retry_counts[step] += 1
            self.retry = RetryNoticed(step, match[2], self._retry_counts[step])
            if self._complaints:
                self.retry_complaints = tuple(dict.fromkeys(self._complaints))
                self._complaints.clear()
            return self.retry
        if _NOISE.match(text):
            return None
        kind = classify_warning(text)
        self._complaints.append(text[:TAIL_LINE_CHARACTERS])
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.setdefault(text, kind)
        return WarningNoticed(kind, text)

    def _note(self, event: Event) -> None:
        match event:
            case ProgramReady(origin, key):
                self._keep(self._programs[origin], key, None)
            case KernelTuned(key, values):
                self._keep(self._tuned, key, values)
            case ParametersApplied(key, values):
                self._keep(self._applied, key, values)
            case OutputWritten(path, count):
                self._keep(self._written, path, count)
            case StageReached(stage) if stage in _ENDS_RETRY:
                self._retry_counts[_ENDS_RETRY[stage]] = 0
                if self.retry is not None and self.retry.step is _ENDS_RETRY[stage]:
                    self.retry = None
            case _:
                pass

    def _keep(self, table: dict[str, _Value], key: str, value: _Value) -> None:
        if key not in table:
            self._characters_left -= len(key)
        if key in table or self._characters_left >= 0:
            table[key] = value


def _program(log: LogLine) -> Event | None:
    match = _PROGRAM.match(log.text)
    return ProgramReady(_ORIGINS[match[1]], match[2]) if match else None


def _tuned(log: LogLine) -> Event | None:
    match = _TUNED.match(log.text)
    values = _integers(match[2]) if match else None
    return KernelTuned(match[1], values) if match and values is not None else None


def _applied(log: LogLine) -> Event | None:
    # Too plain a shape to trust elsewhere: only the tuner writes it.
    if not log.source.endswith("tuner.h") or not (match := _APPLIED.match(log.text)):
        return None
    values = _integers(match[2])
    return ParametersApplied(match[1], values) if values else None


def _operator(log: LogLine) -> Event | None:
    match = _OPERATOR.match(log.text)
    return OperatorRan(match[1]) if match else None


def _fell_back(log: LogLine) -> Event | None:
    match = _FELL_BACK.match(log.text)
    return FellBack(match[1]) if match else None


def _written(log: LogLine) -> Event | None:
    match = _WRITTEN.match(log.text)
    return OutputWritten(match[1], int(match[2])) if match else None


def _stage(log: LogLine) -> Event | None:
    match = _STAGE.match(log.text)
    if match is None:
        return None
    return StageReached(_STAGES[match[1]], float(match[2]) if match[2] else None)


def _integers(text: str) -> tuple[int, ...] | None:
    """``MakeString`` of a vector: ``4, 4, 16, 0``; None if it is anything else."""
    words = text.split(", ") if text else []
    if not all(word.isascii() and word.isdigit() and len(word) <= 10 for word in words):
        return None
    return tuple(map(int, words))


_INFORMATION: tuple[Callable[[LogLine], Event | None], ...] = (
    _program,
    _tuned,
    _applied,
    _operator,
    _fell_back,
    _written,
    _stage,
)
