"""What ``droidmace bench`` found out about one model on one phone.

A *sample* of the latency is the average of one fresh process over its rounds: ``mace_run`` tells no
time of a single inference. Times are in ms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from droidmace.results.tuning import DeviceInfo, OpTime

SCHEMA = "droidmace bench 1"
"""What a document of this kind says of itself."""

SINGLE = "single_ms"
"""The one figure whose samples are all of one process."""

_MAX_BINS = 16


@dataclass(frozen=True, slots=True)
class Distribution:
    """Some samples, summed up.

    A quantile is the smallest sample that so many of 100 do not exceed; ``p90`` is None with fewer
    than 10 samples and ``p99`` with fewer than 100: it would be the maximum by another name.
    ``spread`` is the distance of the quartiles as a share of the median.
    """

    count: int
    minimum: float
    p50: float
    p90: float | None
    p99: float | None
    maximum: float
    mean: float
    spread: float
    histogram: tuple[tuple[float, float, int], ...]
    """Bins of equal width, each with its lower end, upper end and count."""

    @classmethod
    def of(cls, samples: Sequence[float]) -> Distribution:
        """Sum up at least one sample, all finite and positive or zero."""
        if not samples or not all(0 <= sample < math.inf for sample in samples):
            raise ValueError("a distribution needs finite samples, at least one")
        ordered = sorted(samples)
        count = len(ordered)
        median = statistics.median(ordered)
        q1, _, q3 = (
            statistics.quantiles(ordered, n=4, method="inclusive") if count > 1 else ordered * 3
        )
        return cls(
            count=count,
            minimum=ordered[0],
            p50=median,
            p90=_quantile(ordered, 90),
            p99=_quantile(ordered, 99),
            maximum=ordered[-1],
            mean=statistics.fmean(ordered),
            spread=(q3 - q1) / median if median else 0.0,
            histogram=_histogram(ordered),
        )

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "count": self.count,
            "min": self.minimum,
            "p50": self.p50,
            "p90": self.p90,
            "p99": self.p99,
            "max": self.maximum,
            "mean": self.mean,
            "spread": self.spread,
            "histogram": [list(one) for one in self.histogram],
        }


def _quantile(ordered: Sequence[float], percent: int) -> float | None:
    if len(ordered) * (100 - percent) < 100:
        return None
    return ordered[-(-len(ordered) * percent // 100) - 1]


def _histogram(ordered: Sequence[float]) -> tuple[tuple[float, float, int], ...]:
    """About as many bins as the square root of the count, and no more than fit a terminal."""
    low, high = ordered[0], ordered[-1]
    bins = min(_MAX_BINS, math.isqrt(len(ordered) - 1) + 1)
    width = (high - low) / bins
    if width <= 0:
        return ((low, high, len(ordered)),)
    counts = [0] * bins
    for sample in ordered:
        counts[min(int((sample - low) / width), bins - 1)] += 1
    edges = [low + width * index for index in range(bins)] + [high]
    return tuple(zip(edges, edges[1:], counts, strict=False))


@dataclass(frozen=True, slots=True)
class BenchProcess:
    """One fresh process. ``run_avg_ms`` is None where it was started for its first result alone.

    The chip's temperature and the GPU's clock when it ended, where the phone shows them.
    """

    init_ms: float
    warmup_ms: float
    run_avg_ms: float | None = None
    hottest_c: float | None = None
    gpu_mhz: float | None = None

    @property
    def first_result_ms(self) -> float:
        """Init and first run: how long a user waits."""
        return self.init_ms + self.warmup_ms


@dataclass(frozen=True, slots=True)
class OpTypeStat:
    """All ops of one type in one inference. ``macs`` are multiply-accumulates."""

    op_type: str
    count: int
    avg_ms: float
    macs: int


@dataclass(frozen=True, slots=True)
class OpProfile:
    """What ``--benchmark`` says, from a process of its own: profiling slows it down.

    The totals are sums of op times over one inference: the first, the shortest, the longest and
    the average of ``rounds``; None where the tables do not tell.
    """

    ops: tuple[OpTime, ...] = ()
    by_type: tuple[OpTypeStat, ...] = ()
    macs: int | None = None
    rounds: int | None = None
    first_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    avg_ms: float | None = None


class CurrentUnit(StrEnum):
    """What a phone's ``current_now`` counts."""

    AUTO = "auto"
    """By its size."""
    MICROAMPERE = "ua"
    MILLIAMPERE = "ma"


@dataclass(frozen=True, slots=True)
class Energy:
    """What an inference draws from the battery. ``why_not`` says why there are no figures.

    ``joules`` is what it draws beyond the idle phone, ``joules_gross`` includes that. ``taken_as``
    tells how the phone's readings were understood (unit and sign).
    """

    joules: float | None = None
    joules_gross: float | None = None
    idle_w: float | None = None
    load_w: float | None = None
    idle_readings: int = 0
    load_readings: int = 0
    latency_ms: float | None = None
    """Average of the process that was watched."""
    taken_as: str = ""
    why_not: str = ""


class Change(StrEnum):
    """What a comparison of one figure shows."""

    FASTER = "faster"
    SLOWER = "slower"
    OPEN = "no difference shown"


@dataclass(frozen=True, slots=True)
class FigureComparison:
    """One figure of two sessions: medians (ms), their ratio, and the interval that holds it.

    ``low`` and ``high`` are 0 and infinity where there are too few samples, or all of them are of
    one process.
    """

    name: str
    before_ms: float
    after_ms: float
    before_count: int
    after_count: int
    ratio: float
    low: float
    high: float
    confidence: float
    change: Change

    def as_document(self) -> dict[str, object]:
        """For JSON, which has no infinity."""
        known = math.isfinite(self.high)
        return asdict(self) | {
            "low": self.low if known else None,
            "high": self.high if known else None,
        }


@dataclass(frozen=True, slots=True)
class BenchComparison:
    """This session against an earlier one.

    ``differences`` tell what else is not the same; ``tolerance`` is the share by which a figure has
    to change to count.
    """

    against: str
    tolerance: float
    figures: tuple[FigureComparison, ...]
    differences: tuple[str, ...] = ()

    @property
    def slower(self) -> tuple[str, ...]:
        """Names of the figures that got worse."""
        return tuple(one.name for one in self.figures if one.change is Change.SLOWER)

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "against": self.against,
            "tolerance": self.tolerance,
            "figures": [one.as_document() for one in self.figures],
            "differences": list(self.differences),
        }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything that one session found out.

    ``identity`` and ``settings`` say what the figures belong to. ``cold`` are processes that start
    without any compiled program, ``processes`` those that start as the second start of an app does;
    ``singles_ms`` are times of single inferences, each the first after a warm-up.
    """

    device: DeviceInfo
    model: str
    identity: Mapping[str, str]
    settings: Mapping[str, int | bool]
    processes: tuple[BenchProcess, ...]
    cold: tuple[BenchProcess, ...] = ()
    singles_ms: tuple[float, ...] = ()
    programs_from_source: int = 0
    programs_from_cache: int = 0
    """Of a start like those of ``processes``."""
    kernels_with_parameters: int = 0
    profile: OpProfile | None = None
    peak_kib: int | None = None
    """Most resident memory of a process that was looked at ten times a second."""
    energy: Energy | None = None
    wall_s: float = 0.0
    warnings: tuple[str, ...] = ()
    comparison: BenchComparison | None = field(default=None)

    @property
    def latencies_ms(self) -> tuple[float, ...]:
        """Average latency of each process."""
        return tuple(one.run_avg_ms for one in self.processes if one.run_avg_ms is not None)

    @property
    def figures(self) -> dict[str, tuple[float, ...]]:
        """Samples by name; a figure without any is left out."""
        named = {
            "cold_init_ms": tuple(one.init_ms for one in self.cold),
            "cold_first_run_ms": tuple(one.warmup_ms for one in self.cold),
            "cold_first_result_ms": tuple(one.first_result_ms for one in self.cold),
            "init_ms": tuple(one.init_ms for one in self.processes),
            "first_run_ms": tuple(one.warmup_ms for one in self.processes),
            "first_result_ms": tuple(one.first_result_ms for one in self.processes),
            "latency_ms": self.latencies_ms,
            SINGLE: self.singles_ms,
        }
        return {name: samples for name, samples in named.items() if samples}

    def as_document(self) -> dict[str, object]:
        """The result as JSON: figures first, raw samples below."""
        return {
            "schema": SCHEMA,
            "serial": self.device.serial,
            "model": self.model,
            "identity": dict(self.identity),
            "settings": dict(self.settings),
            **{
                name: Distribution.of(samples).as_document()
                for name, samples in self.figures.items()
            },
            "programs": {"source": self.programs_from_source, "cache": self.programs_from_cache},
            "kernels_with_parameters": self.kernels_with_parameters,
            "peak_kib": self.peak_kib,
            "energy": None if self.energy is None else asdict(self.energy),
            "profile": None if self.profile is None else asdict(self.profile),
            "comparison": None if self.comparison is None else self.comparison.as_document(),
            "wall_s": self.wall_s,
            "warnings": list(self.warnings),
            "raw_samples": {
                "cold": [asdict(one) for one in self.cold],
                "processes": [asdict(one) for one in self.processes],
                "singles_ms": list(self.singles_ms),
            },
        }
