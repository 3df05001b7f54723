"""A bench session against an earlier one: what differs, and what that makes of the figures.

The earlier one comes from a file and is not trusted. Sessions are only compared where they measured
the same thing: another model, another kind of phone or another number of rounds is refused unless
the caller says that this is what shall differ. Everything else that is not the same is told.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from droidmace.errors import FormatError, InputError
from droidmace.results.bench import (
    SCHEMA,
    SINGLE,
    BenchComparison,
    BenchResult,
    Change,
    FigureComparison,
)
from droidmace.tuning.unpaired import MAX_SAMPLES, unpaired_ratio

MAX_FILE_BYTES = 64 << 20
FEWEST_SAMPLES = 4
"""On each side: with fewer there is no interval, and so no verdict."""
TOLERANCE = 0.02
"""Sessions on one phone differ by a percent or two for no reason that anyone can name."""

_DRIFT = 0.10
"""By what share the last third of the samples may differ from the first before it is told."""
_WARMER_C = 8.0
_OTHER_CLOCK = 0.05
_MAX_TEXT = 4096
_HINT = "give a file that 'droidmace bench --out FILE' of this version wrote"


class Difference(StrEnum):
    """What may differ between two sessions only if it is meant to."""

    MODEL = "model"
    DEVICE = "device"
    ROUNDS = "rounds"


_REFUSED: dict[Difference, tuple[str, ...]] = {
    Difference.MODEL: ("model_graph", "model_data"),
    Difference.DEVICE: ("device_model", "soc", "gpu", "abi"),
    Difference.ROUNDS: ("rounds",),
}
_TOLD = {
    "serial": "another phone of its kind",
    "mace_run": "another mace_run",
    "mace_version": "another MACE version",
    "runtimes": "other runtimes",
    "compiled_program": "another compiled program",
    "tuned_parameters": "other tuned parameters",
    "driver": "another GPU driver",
    "build": "another build of Android",
    "input": "another input",
    "limit_opencl_kernel_time": "another limit_opencl_kernel_time",
    "opencl_queue_window_size": "another opencl_queue_window_size",
    "governors_pinned": "clocks held steady in one of them only",
}


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """What a comparison needs of a session. ``where`` names it for people."""

    where: str
    identity: Mapping[str, str]
    """What the figures belong to, settings included, as texts."""
    figures: Mapping[str, tuple[float, ...]]
    """Samples (ms) by name."""
    hottest_c: float | None = None
    """Median over the processes of the latency, as is the clock."""
    gpu_mhz: float | None = None


def record_of(result: BenchResult) -> BenchRecord:
    """This session as its document says it."""
    document = json.loads(json.dumps(result.as_document()))
    return parse_bench(document, where="this session")


def read_bench(path: Path) -> BenchRecord:
    """Read what ``droidmace bench --json`` or ``--out`` has written.

    Raises ``FormatError`` naming the key for a file that is none, or not one that this version
    reads, and ``InputError`` for one that cannot be read.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint=_HINT
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(f"is longer than {MAX_FILE_BYTES} bytes", where=str(path))
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        raise FormatError(
            f"not JSON: {error.msg}", offset=error.pos, where=str(path), hint=_HINT
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a huge number, too deep
        raise FormatError(f"not JSON: {error}", where=str(path), hint=_HINT) from error
    return parse_bench(document, where=str(path))


def parse_bench(document: object, *, where: str) -> BenchRecord:
    """Check a document. Raises ``FormatError``."""
    reader = _Reader(where)
    top = reader.mapping(document, "the document")
    if top.get("schema") != SCHEMA:
        raise reader.error(f"schema is not {SCHEMA!r}: not a result of droidmace bench")
    identity = {
        name: reader.text(value, f"identity.{name}")
        for name, value in reader.mapping(top.get("identity"), "identity").items()
    }
    for name, value in reader.mapping(top.get("settings"), "settings").items():
        if not isinstance(value, int) or abs(value) > 10**12:
            raise reader.error(f"settings.{name} is not a number")
        identity[name] = str(value)
    raw = reader.mapping(top.get("raw_samples"), "raw_samples")
    cold = reader.processes(raw.get("cold"), "raw_samples.cold")
    processes = reader.processes(raw.get("processes"), "raw_samples.processes")
    figures = {
        "cold_first_result_ms": _sums(cold),
        "first_result_ms": _sums(processes),
        "latency_ms": tuple(one["run_avg_ms"] for one in processes if "run_avg_ms" in one),
        SINGLE: tuple(
            reader.positive(value, "raw_samples.singles_ms")
            for value in reader.items(raw.get("singles_ms"), "raw_samples.singles_ms")
        ),
    }
    if not figures["latency_ms"]:
        raise reader.error("raw_samples.processes has no run_avg_ms")

    def median(key: str) -> float | None:
        # A clock of 0 is a GPU that slept again when it was looked at, and tells of no sample.
        seen = [one[key] for one in processes if one.get(key)]
        return statistics.median(seen) if seen else None

    return BenchRecord(
        where,
        identity,
        {name: samples for name, samples in figures.items() if samples},
        hottest_c=median("hottest_c"),
        gpu_mhz=median("gpu_mhz"),
    )


def compare(
    before: BenchRecord,
    after: BenchRecord,
    *,
    tolerance: float = TOLERANCE,
    meant: Collection[Difference] = (),
) -> BenchComparison:
    """Hold a session against an earlier one.

    A figure counts as faster or slower if its whole interval lies beyond the tolerance (a share of
    1); a figure without an interval never does. Raises ``InputError`` for sessions that measured
    different things, but for what is ``meant`` to differ.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"a tolerance of {tolerance}")
    differences = _differences(before, after, meant)
    figures = []
    for name, samples in after.figures.items():
        earlier = before.figures.get(name)
        if earlier is None:
            continue
        ratio = unpaired_ratio(earlier, samples)
        # Single inferences are one process's, whose scatter says nothing of the next process.
        if name == SINGLE or min(len(earlier), len(samples)) < FEWEST_SAMPLES:
            ratio = replace(ratio, low=0.0, high=math.inf, confidence=0.0)
        change = Change.OPEN
        if ratio.high < 1.0 - tolerance:
            change = Change.FASTER
        elif ratio.low > 1.0 + tolerance:
            change = Change.SLOWER
        figures.append(
            FigureComparison(
                name=name,
                before_ms=statistics.median(earlier),
                after_ms=statistics.median(samples),
                before_count=len(earlier),
                after_count=len(samples),
                ratio=ratio.median,
                low=ratio.low,
                high=ratio.high,
                confidence=ratio.confidence,
                change=change,
            )
        )
    return BenchComparison(before.where, tolerance, tuple(figures), tuple(differences))


def check_comparable(
    before: BenchRecord, identity: Mapping[str, str], meant: Collection[Difference] = ()
) -> tuple[str, ...]:
    """Raise ``InputError`` if a session of this identity measures something else than ``before``.

    Returns what differs and may, as sentences.
    """
    told: list[str] = []
    for kind, names in _REFUSED.items():
        other = [
            f"{name} was {_short(was)}, now {_short(now)}"
            for name in names
            if (was := before.identity.get(name, "")) != (now := identity.get(name, ""))
        ]
        if other and kind not in meant:
            raise InputError(
                f"measured something else: {'; '.join(other)}",
                where=before.where,
                hint=f"if the {kind} shall differ, say so: --allow-different {kind}",
            )
        told += [f"{kind} (as allowed): {one}" for one in other]
    return tuple(told)


def unsteadiness(latencies_ms: Sequence[float]) -> str:
    """Whether the phone changed its speed while it was measured, as a sentence; else empty.

    Samples in their order; with fewer than six there is nothing to hold against each other.
    """
    third = len(latencies_ms) // 3
    if third < 2:
        return ""
    first, last = latencies_ms[:third], latencies_ms[-third:]
    change = statistics.median(last) / statistics.median(first) - 1.0
    if abs(change) <= _DRIFT:
        return ""
    return (
        "the phone was not steady: the last third of the processes differs from the first by "
        f"{change:+.0%}"
    )


def _differences(
    before: BenchRecord, after: BenchRecord, meant: Collection[Difference]
) -> list[str]:
    """What is not the same, as sentences. Raises ``InputError`` for what must be."""
    told = list(check_comparable(before, after.identity, meant))
    told += [
        text
        for name, text in _TOLD.items()
        if before.identity.get(name, "") != after.identity.get(name, "")
    ]
    if before.hottest_c is not None and after.hottest_c is not None:
        warmer_c = after.hottest_c - before.hottest_c
        if abs(warmer_c) > _WARMER_C:
            told.append(
                f"the chip was {abs(warmer_c):.0f} °C {'warmer' if warmer_c > 0 else 'cooler'}"
            )
    if before.gpu_mhz and after.gpu_mhz:
        clock = after.gpu_mhz / before.gpu_mhz - 1.0
        if abs(clock) > _OTHER_CLOCK:
            told.append(f"the GPU's clock was {clock:+.0%}")
    for side, record in (("before", before), ("after", after)):
        if drift := unsteadiness(record.figures["latency_ms"]):
            told.append(f"{side}, {drift}")
    return told


def _short(value: str) -> str:
    """Hashes by their beginning."""
    return repr(value[:12] if len(value) == 64 else value[:80])


def _sums(processes: list[dict[str, float]]) -> tuple[float, ...]:
    return tuple(one["init_ms"] + one["warmup_ms"] for one in processes)


class _Reader:
    """Takes values of a document for what they should be, or says what is wrong."""

    def __init__(self, where: str) -> None:
        self._where = where

    def error(self, message: str) -> FormatError:
        return FormatError(
            message,
            where=self._where,
            hint=_HINT,
        )

    def mapping(self, value: object, key: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.error(f"{key} is not an object")
        return value

    def items(self, value: object, key: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_SAMPLES:
            raise self.error(f"{key} is not a list of at most {MAX_SAMPLES}")
        return value

    def text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise self.error(f"{key} is not a text")
        return value

    def number(self, value: object, key: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e12:
            raise self.error(f"{key} is not a number")
        return float(value)

    def positive(self, value: object, key: str) -> float:
        number = self.number(value, key)
        if number <= 0:
            raise self.error(f"{key} is not a positive number")
        return number

    def processes(self, value: object, key: str) -> list[dict[str, float]]:
        """Their numbers by name; what is null is left out."""
        found = []
        for index, one in enumerate(self.items(value, key)):
            numbers: dict[str, float] = {}
            place = f"{key}[{index}]"
            for name, number in self.mapping(one, place).items():
                if number is None:
                    continue
                if name in ("hottest_c", "gpu_mhz"):
                    numbers[name] = self.number(number, f"{place}.{name}")
                else:
                    numbers[name] = self.positive(number, f"{place}.{name}")
            if not {"init_ms", "warmup_ms"} <= set(numbers):
                raise self.error(f"{place} has no init_ms and warmup_ms")
            found.append(numbers)
        return found
