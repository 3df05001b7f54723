"""What tuning, searching and the processes of ``mace_run`` found out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    filter_shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MaceRunResult:
    """What one finished ``mace_run`` process said."""

    times: RunTimes | None
    mace_version: str
    runtimes: str
    programs: ProgramSources
    tuned: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Winners logged while tuning (VLOG 3): readable key to parameters."""
    applied: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Tuned parameters that kernels ran with, as read from a file (VLOG 3)."""
    ops: tuple[OpTime, ...] = ()
    warnings: tuple[str, ...] = ()
    written_outputs: tuple[str, ...] = ()
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 over ``samples`` labelled images, as shares of 1.

    ``agreement`` is the share of images on which tuned and reference give the same label,
    ``untuned_agreement`` that of untuned and reference, ``unchanged`` that of tuned and untuned.
    """

    samples: int
    reference: float | None
    untuned: float | None
    tuned: float | None
    agreement: float | None
    untuned_agreement: float | None = None
    unchanged: float | None = None


@dataclass(frozen=True, slots=True)
class PhaseNote:
    """One line of a workflow's story: a phase began, moved on, or ended."""

    serial: str
    phase: str
    text: str = ""
    done: int = 0
    total: int = 0
    finished: bool = False


def _ratio_document(ratio: tuple[float, float, float, float]) -> dict[str, float | None]:
    """A ratio for JSON, which has no infinity: the ends of an unknown interval are null."""
    median, low, high, confidence = ratio
    known = math.isfinite(high)
    return {
        "median": median,
        "low": low if known else None,
        "high": high if known else None,
        "confidence": confidence,
    }


@dataclass(frozen=True, slots=True)
class LatencyBlock:
    """Four fresh processes in a row: average latencies (ms) of two untuned and two tuned ones.

    One variant stands outside, the other inside: ``tuned_outside`` says which. ``thrown_out`` says
    why the block does not count, empty if it does.
    """

    untuned_ms: tuple[float, float]
    tuned_ms: tuple[float, float]
    tuned_outside: bool = False
    thrown_out: str = ""
    hottest_c: float | None = None
    """The chip's hottest zone when the block ended, where the phone shows it."""
    gpu_mhz: float | None = None

    @property
    def ratio(self) -> float:
        """Tuned / untuned."""
        return sum(self.tuned_ms) / sum(self.untuned_ms)

    @property
    def drift(self) -> float:
        """By what share the last process was slower than the first, which is of its kind."""
        first, last = self.tuned_ms if self.tuned_outside else self.untuned_ms
        return last / first - 1.0

    def as_thrown_out(self, reason: str) -> LatencyBlock:
        """The same block, not to count."""
        return replace(self, thrown_out=reason)

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "untuned_ms": list(self.untuned_ms),
            "tuned_ms": list(self.tuned_ms),
            "tuned_outside": self.tuned_outside,
            "ratio": self.ratio,
            "drift": self.drift,
            "thrown_out": self.thrown_out or None,
            "hottest_c": self.hottest_c,
            "gpu_mhz": self.gpu_mhz,
        }


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """How far a search was: seconds since it began, evaluations, the best total known (ms)."""

    wall_s: float
    evaluations: int
    best_ms: float


@dataclass(frozen=True, slots=True)
class KernelWinner:
    """What a search chose for one tuning key.

    ``params`` is None where MACE's default won. ``origin``: who proposed it, one of ``default``,
    ``phone`` (MACE's own tuner) and ``search``. Times are those of the ops that run the key, per
    inference. ``stability``: the share of repeats and phones that voted for it, None with one vote.
    """

    key: str
    params: tuple[int, ...] | None
    origin: str
    default_ms: float
    best_ms: float
    stability: float | None = None
    votes: int = 1

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "key": self.key,
            "params": None if self.params is None else list(self.params),
            "origin": self.origin,
            "default_ms": self.default_ms,
            "best_ms": self.best_ms,
            "stability": self.stability,
            "votes": self.votes,
        }


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """What a host-guided search did and found.

    ``untuned_ms``, ``mace_ms`` (the phone's own winners; None if its tuner did not run) and
    ``best_ms`` are totals of the op times per inference. ``mace_run_s`` is the part of ``wall_s``
    in which a process ran on the phone. ``resumed_runs`` came from the journal.
    """

    strategy: str
    processes: int
    evaluations: int
    refused: int
    failed: int
    resumed_runs: int
    wall_s: float
    mace_run_s: float
    untuned_ms: float
    mace_ms: float | None
    best_ms: float
    curve: tuple[SearchPoint, ...]
    winners: tuple[KernelWinner, ...]
    repeats: int = 1

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "strategy": self.strategy,
            "processes": self.processes,
            "evaluations": self.evaluations,
            "refused": self.refused,
            "failed": self.failed,
            "resumed_runs": self.resumed_runs,
            "wall_s": self.wall_s,
            "mace_run_s": self.mace_run_s,
            "untuned_ms": self.untuned_ms,
            "mace_ms": self.mace_ms,
            "best_ms": self.best_ms,
            "curve": [[point.wall_s, point.evaluations, point.best_ms] for point in self.curve],
            "winners": [winner.as_document() for winner in self.winners],
            "repeats": self.repeats,
        }


@dataclass(frozen=True, slots=True)
class TuneResult:
    """Everything one phone's tuning run found out about one model.

    ``cold`` and ``warm`` are processes without and with the compiled program, in pairs;
    ``untuned_run_ms`` and ``tuned_run_ms`` are the averages of the processes of the blocks that
    count.
    """

    device: DeviceInfo
    model: str
    verdict: Verdict
    reasons: tuple[str, ...]
    cold: tuple[RunTimes, ...]
    warm: tuple[RunTimes, ...]
    untuned_run_ms: tuple[float, ...]
    tuned_run_ms: tuple[float, ...]
    latency_ratio: tuple[float, float, float, float]
    """Tuned / untuned: median of the blocks, lower and upper end of its interval (infinite with
    fewer than six blocks), and the confidence of that."""
    startup_ratio: tuple[float, float, float, float]
    """Warm / cold time to the first result: median of the pairs, ends of its interval, and the
    confidence of that: 0.95, less with fewer than six pairs."""
    latency_blocks: tuple[LatencyBlock, ...]
    """All of them, in order; what does not count says why."""
    accuracy: Accuracy
    programs: int
    programs_from_cache: int
    tuned_entries: int
    kernels_proved: int
    """Kernels that a fresh process ran with exactly the parameters that won on the phone."""
    tuning_s: float
    wall_s: float
    pushed_bytes: int
    pushed_model_bytes: int
    mace_version: str
    platform_info: str
    rounds: int
    """Inferences that each figure of ``untuned_run_ms`` and ``tuned_run_ms`` averages."""
    warnings: tuple[str, ...] = ()
    bundle: str | None = None
    latency_bootstrap: tuple[float, float] | None = None
    """A bootstrap interval of ``latency_ratio``'s median: it describes, and decides nothing."""
    search: SearchSummary | None = None
    """The host-guided search; None when the phone's own tuner alone chose."""

    def as_document(self) -> dict[str, object]:
        """The content of ``results.json``: medians first, the raw samples below."""

        def median(values: Sequence[float]) -> float:
            return statistics.median(values)

        return {
            "schema": 1,
            "serial": self.device.serial,
            "device": {
                "model": self.device.model,
                "device_name": self.device.device_name,
                "soc": self.device.soc,
                "abi": self.device.abi,
                "gpu": self.device.gpu,
                "android_release": self.device.android_release,
            },
            "model": self.model,
            "mace_version": self.mace_version,
            "platform_info": self.platform_info,
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "init_ms": {
                "cold": median([run.init_ms for run in self.cold]),
                "warm": median([run.init_ms for run in self.warm]),
            },
            "warmup_ms": {
                "cold": median([run.warmup_ms for run in self.cold]),
                "warm": median([run.warmup_ms for run in self.warm]),
            },
            "run_ms": {
                "untuned": median(self.untuned_run_ms),
                "tuned": median(self.tuned_run_ms),
            },
            "latency_ratio": _ratio_document(self.latency_ratio),
            "latency_bootstrap": list(self.latency_bootstrap) if self.latency_bootstrap else None,
            "startup_ratio": _ratio_document(self.startup_ratio),
            "top1": {
                "reference": self.accuracy.reference,
                "untuned": self.accuracy.untuned,
                "tuned": self.accuracy.tuned,
            },
            "agreement": self.accuracy.agreement,
            "untuned_agreement": self.accuracy.untuned_agreement,
            "unchanged_labels": self.accuracy.unchanged,
            "samples": self.accuracy.samples,
            "programs": self.programs,
            "programs_from_cache": self.programs_from_cache,
            "tuned_entries": self.tuned_entries,
            "kernels_proved": self.kernels_proved,
            "rounds": self.rounds,
            "tuning_s": self.tuning_s,
            "wall_s": self.wall_s,
            "pushed_bytes": self.pushed_bytes,
            "pushed_model_bytes": self.pushed_model_bytes,
            "warnings": list(self.warnings),
            "bundle": self.bundle,
            "search": self.search.as_document() if self.search else None,
            "raw_samples": {
                "cold": [{"init_ms": run.init_ms, "warmup_ms": run.warmup_ms} for run in self.cold],
                "warm": [{"init_ms": run.init_ms, "warmup_ms": run.warmup_ms} for run in self.warm],
                "untuned_run_ms": list(self.untuned_run_ms),
                "tuned_run_ms": list(self.tuned_run_ms),
                "latency_blocks": [block.as_document() for block in self.latency_blocks],
            },
        }


@dataclass(frozen=True, slots=True)
class TuneFailure:
    """One phone of several that failed: in which phase, why, and the device's own output."""

    serial: str
    phase: str
    message: str
    where: str | None = None
    hint: str | None = None
    details: str | None = None

    def as_document(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "serial": self.serial,
            "error": {
                "phase": self.phase,
                "message": self.message,
                "where": self.where,
                "hint": self.hint,
                "details": self.details,
            },
        }
