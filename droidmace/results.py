"""The values that travel: what a step found out, ready to be shown or written.

Nothing in here computes on a device or prints. Times are in milliseconds unless a name says
otherwise; a failed check is a value of this module, not an exception.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What a tuning run found worth shipping."""

    SHIP = "ship"
    """Compiled program and tuned parameters."""
    PARAMS_ONLY = "params-only"
    """The compiled program does not survive a fresh process, or brings no start-up gain."""
    PROGRAM_ONLY = "program-only"
    """The tuned parameters bring no gain."""
    NOTHING = "nothing"
    """Untuned is as good."""
    REJECT = "reject"
    """The tuned run gives wrong answers."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample's size, median, extremes and quartiles."""

    count: int
    median: float
    minimum: float
    maximum: float
    q1: float
    q3: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Summarise at least one sample; quartiles by linear interpolation."""
        if not samples:
            raise ValueError("a spread needs at least one sample")
        ordered = sorted(samples)
        if len(ordered) == 1:
            q1 = q3 = ordered[0]
        else:
            q1, _, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(
            count=len(ordered),
            median=statistics.median(ordered),
            minimum=ordered[0],
            maximum=ordered[-1],
            q1=q1,
            q3=q3,
        )


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device as ``droidmace devices`` shows it.

    ``state`` is adb's word; ``reason`` says why the device cannot be used, None if it can.
    ``device_name`` and ``soc`` are what MACE puts into file names.
    """

    serial: str
    state: str
    model: str = ""
    device_name: str = ""
    soc: str = ""
    abi: str = ""
    abis: tuple[str, ...] = ()
    gpu: str = ""
    android_release: str = ""
    reason: str | None = None

    @property
    def usable(self) -> bool:
        """Whether work can be done on it."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class RunTimes:
    """The result table of one ``mace_run`` process, in ms. ``run_avg_ms`` is None after round 0."""

    init_ms: float
    warmup_ms: float
    run_avg_ms: float | None

    @property
    def first_result_ms(self) -> float:
        """Time to the first result: init plus first warm-up."""
        return self.init_ms + self.warmup_ms


@dataclass(frozen=True, slots=True)
class ProgramSources:
    """Where a process took its OpenCL programs from, as its log lines at VLOG 3 say (keys)."""

    source: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    precompiled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpTime:
    """One row of ``--benchmark``'s run-order table."""

    name: str
    op_type: str
    start_ms: float
    first_ms: float
    avg_ms: float
    gmacps: float
    output_shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MaceRunResult:
    """What one finished ``mace_run`` process said."""

    times: RunTimes | None
    mace_version: str
    runtimes: str
    programs: ProgramSources
    tuned: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Winners logged while tuning (VLOG 3): readable key to parameters."""
    ops: tuple[OpTime, ...] = ()
    warnings: tuple[str, ...] = ()
    written_outputs: tuple[str, ...] = ()
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 over ``samples`` labelled images, as shares of 1.

    ``agreement`` is the share of images on which tuned and reference give the same label.
    """

    samples: int
    reference: float | None
    untuned: float | None
    tuned: float | None
    agreement: float | None


@dataclass(frozen=True, slots=True)
class PhaseNote:
    """One line of a workflow's story: a phase began, moved on, or ended."""

    serial: str
    phase: str
    text: str = ""
    done: int = 0
    total: int = 0
    finished: bool = False
