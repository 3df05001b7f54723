"""What ``mace_run`` tells line by line, as values.

The texts are those of MACE v1.1.1: ``mace/tools/mace_run.cc``, ``mace/utils/tuner.h``,
``mace/core/kv_storage.cc``, ``mace/runtimes/opencl/core/opencl_executor.cc``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from droidmace.results import RunTimes


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line written by MACE's logger: ``I source:line] text``; level is one of I, W, E, F."""

    level: str
    source: str
    line: int
    text: str


class Stage(StrEnum):
    """How far the process is."""

    ENGINE_CREATED = "engine created"
    WARMING_UP = "warming up"
    WARMED_UP = "warmed up"
    RUNNING = "running"
    RAN = "ran"


@dataclass(frozen=True, slots=True)
class StageReached:
    """A stage began or ended; ``latency_ms`` where MACE tells one."""

    stage: Stage
    latency_ms: float | None = None


class ProgramOrigin(StrEnum):
    """Where an OpenCL program came from."""

    SOURCE = "source"
    CACHE = "cache"
    PRECOMPILED = "precompiled"


@dataclass(frozen=True, slots=True)
class ProgramReady:
    """An OpenCL program was built (VLOG 3)."""

    origin: ProgramOrigin
    key: str


@dataclass(frozen=True, slots=True)
class KernelTuned:
    """A kernel's search ended (VLOG 3); ``key`` is readable even in an obfuscated build."""

    key: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParametersApplied:
    """A kernel runs with tuned parameters that were read from a file (VLOG 3)."""

    key: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OperatorRan:
    """An op was carried out, or is in the queue (VLOG 3); ``name`` as in ``--benchmark``'s table.

    Its kernels were named before it. Source: ``mace/core/net/serial_net.cc``.
    """

    name: str


@dataclass(frozen=True, slots=True)
class FellBack:
    """An op of a GPU's net runs on the CPU (level I). Source: ``mace/core/net_def_adapter.cc``."""

    name: str


@dataclass(frozen=True, slots=True)
class OutputWritten:
    """An output file was written; ``values`` counts elements, not bytes."""

    path: str
    values: int


@dataclass(frozen=True, slots=True)
class ResultTable:
    """The table with which one round of the process ends."""

    times: RunTimes


class RetryStep(StrEnum):
    """The steps that MACE repeats for ever when they fail."""

    CREATE_ENGINE = "Create engine"
    WARM_UP = "Warmup"
    RUN = "Mace run model"


@dataclass(frozen=True, slots=True)
class RetryNoticed:
    """A step failed and starts over. ``count`` counts since the step last succeeded."""

    step: RetryStep
    error_code: str
    count: int


class WarningKind(StrEnum):
    """What a warning or error line of a run that went on means."""

    STORE_MISSING = "stored programs missing"
    STORE_DAMAGED = "stored programs damaged"
    STORE_NOT_LOADED = "stored programs not loaded"
    STORE_NOT_WRITTEN = "stored programs not written"
    PROGRAM_REFUSED = "stored program refused by the driver"
    PARAMETERS_MISSING = "tuned parameters missing"
    PARAMETERS_DAMAGED = "tuned parameters damaged"
    PARAMETERS_NOT_WRITTEN = "tuned parameters not written"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class WarningNoticed:
    """A line of level W or E that is not noise."""

    kind: WarningKind
    text: str


@dataclass(frozen=True, slots=True)
class FatalNoticed:
    """``LOG(FATAL)``: the process aborts after this."""

    text: str


Event = (
    StageReached
    | ProgramReady
    | KernelTuned
    | ParametersApplied
    | OperatorRan
    | FellBack
    | OutputWritten
    | ResultTable
    | RetryNoticed
    | WarningNoticed
    | FatalNoticed
)


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of output, what MACE's logger said in it, and what that means."""

    text: str
    log: LogLine | None = None
    event: Event | None = None
