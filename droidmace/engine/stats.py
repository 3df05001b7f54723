"""The statistics that ``--benchmark`` prints.

Columns, order and arithmetic: ``mace/utils/statistics.cc``; tables: ``mace/utils/string_util.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from droidmace.engine.macelog import MaceLog
from droidmace.engine.net import OpTiming

_WHERE = "utils/statistics.cc:343"
_TOP = 10
_OP_HEADER = (
    "Op Type",
    "Start",
    "First",
    "Avg(ms)",
    "%",
    "cdf%",
    "GMACPS",
    "Stride",
    "Pad",
    "Filter Shape",
    "Output Shape",
    "Dilation",
    "name",
)
_TYPE_HEADER = ("Op Type", "Count", "Avg(ms)", "%", "cdf%", "MACs", "GMACPS", "Called times")
_MACS_HEADER = ("total", "round", "first(G/s)", "avg(G/s)", "std")
_SUMMARY_HEADER = ("round", "first(ms)", "curr(ms)", "min(ms)", "max(ms)", "avg(ms)", "std")
_PADDING_NAMES = {0: "VALID", 1: "SAME", 2: "FULL"}


@dataclass
class _Series:
    """Times in microseconds, one per run."""

    values: list[int] = field(default_factory=list)

    @property
    def sum(self) -> int:
        return sum(self.values)

    @property
    def mean(self) -> float:
        return self.sum / len(self.values)

    @property
    def deviation(self) -> float:
        squares = sum(value * value for value in self.values) / len(self.values)
        return math.sqrt(max(squares - self.mean**2, 0.0))


@dataclass
class _Record:
    """One op over all runs."""

    timing: OpTiming
    macs: int
    start: _Series = field(default_factory=_Series)
    time: _Series = field(default_factory=_Series)


class OpStatistics:
    """Collects the ops' timings of each run and prints the tables."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._total = _Series()

    def add_run(self, timings: Sequence[OpTiming]) -> None:
        """Take one run's timings, in the order the ops ran."""
        if not timings:
            return
        for timing in timings:
            record = self._records.get(timing.name)
            if record is None:
                record = self._records[timing.name] = _Record(timing, multiply_adds(timing))
            record.start.values.append(timing.start_us - timings[0].start_us)
            record.time.values.append(timing.end_us - timing.start_us)
        self._total.values.append(sum(timing.end_us - timing.start_us for timing in timings))

    def log_tables(self, log: MaceLog) -> None:
        """Print everything."""
        if not self._records:
            return
        by_time = sorted(self._records.values(), key=lambda record: -record.time.mean)
        text = (
            f"{self._op_table('Sort by Run Order', self._records.values())}\n"
            f"{self._op_table('Sort by Computation Time', by_time[:_TOP])}\n"
            f"{self._type_table()}\n"
            f"{self._macs_table()}{self._summary_table()}\n"
            f"{len(self._records)} ops total.\n"
        )
        for line in text.splitlines():
            log.info(_WHERE, line)

    def _op_table(self, title: str, records: Iterable[_Record]) -> str:
        rows = []
        total_us = self._total.sum
        passed_us = 0
        for record in records:
            timing = record.timing
            passed_us += record.time.sum
            padding = (
                _vector(timing.paddings)
                if timing.padding_type == -1
                else _PADDING_NAMES.get(timing.padding_type, str(timing.padding_type))
            )
            rows.append(
                (
                    timing.type,
                    _ms(record.start.mean),
                    _ms(record.time.values[0]),
                    _ms(record.time.mean),
                    _fixed(_ratio(record.time.sum * 100, total_us)),
                    _fixed(_ratio(passed_us * 100, total_us)),
                    _fixed(_ratio(record.macs * 1e-3, record.time.mean)),
                    _vector(timing.strides),
                    padding,
                    _vector(timing.kernels),
                    _shapes(timing.output_shape, *timing.other_shapes),
                    _vector(timing.dilations),
                    timing.name,
                )
            )
        return format_table(title, _OP_HEADER, rows)

    def _type_table(self) -> str:
        rounds = len(self._total.values)
        times: dict[str, int] = {}
        macs: dict[str, int] = {}
        counts: dict[str, int] = {}
        calls: dict[str, int] = {}
        for record in self._records.values():
            kind = record.timing.type
            times[kind] = times.get(kind, 0) + record.time.sum // rounds
            macs[kind] = macs.get(kind, 0) + record.macs
            counts[kind] = counts.get(kind, 0) + 1
            calls[kind] = calls.get(kind, 0) + len(record.time.values) // rounds
        total_us = sum(times.values())
        passed = 0.0
        rows = []
        for kind in sorted(times, key=lambda kind: -times[kind]):
            share = _ratio(times[kind] * 100, total_us)
            passed += share
            rows.append(
                (
                    kind,
                    f"{counts[kind]:,}",
                    _ms(times[kind]),
                    _fixed(share),
                    _fixed(passed),
                    f"{macs[kind]:,}",
                    _fixed(_ratio(macs[kind] * 1e-3, times[kind])),
                    f"{calls[kind]:,}",
                )
            )
        return format_table("Stat by Op Type", _TYPE_HEADER, rows)

    def _macs_table(self) -> str:
        total = sum(record.macs for record in self._records.values())
        row = (
            f"{total:,}",
            f"{len(self._total.values):,}",
            _fixed(_ratio(total * 1e-3, self._total.values[0])),
            _fixed(_ratio(total * 1e-3, self._total.mean)),
            _fixed(self._total.deviation),
        )
        return format_table("Stat by MACs(Multiply-Accumulation)", _MACS_HEADER, [row])

    def _summary_table(self) -> str:
        values = self._total.values
        row = (
            f"{len(values):,}",
            _ms(values[0]),
            _ms(values[-1]),
            _ms(min(values)),
            _ms(max(values)),
            _ms(self._total.mean),
            _fixed(self._total.deviation),
        )
        return format_table("Summary of Ops' Stat", _SUMMARY_HEADER, [row])


def multiply_adds(timing: OpTiming) -> int:
    """Multiply-accumulate operations of one run of an op; 0 for ops that MACE does not count.

    MACE counts a transposed convolution by its output, as if each of its pixels had a whole
    window, and a depthwise one with a multiplier as often too much (``StatMACs`` in
    ``mace/utils/statistics.cc``).
    """
    outputs = math.prod(timing.output_shape)
    kernels = timing.kernels
    if timing.type in ("Conv2D", "Deconv2D"):
        return outputs * math.prod(kernels[1:])
    if timing.type == "DepthwiseConv2d":
        return outputs * kernels[0] * math.prod(kernels[2:])
    if timing.type == "DepthwiseDeconv2d":
        return outputs * math.prod(kernels[2:])
    if timing.type == "FullyConnected":
        return timing.output_shape[0] * math.prod(kernels)
    if timing.type == "MatMul":
        return outputs * kernels[-1] if kernels else 0
    if timing.type in ("ResizeBilinear", "ResizeBicubic"):
        return 3 * outputs
    return outputs if timing.type == "BatchNorm" else 0


def format_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table between dashed lines, its columns as wide as their widest cell."""
    widths = [
        max(len(name), *(len(row[column]) for row in rows)) for column, name in enumerate(header)
    ]
    length = sum(widths) + 3 * len(widths) + 1
    dashes = "-" * length

    def line(cells: Sequence[str]) -> str:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join(padded) + " |"

    middle = title.rjust(length // 2 + len(title) // 2)
    return "\n".join(
        (dashes, middle, dashes, line(header), dashes, *(line(row) for row in rows), dashes, "")
    )


def _vector(values: Sequence[int]) -> str:
    return f"[{','.join(str(value) for value in values)}]" if values else ""


def _shapes(*shapes: Sequence[int]) -> str:
    return f"[{':'.join(','.join(str(size) for size in shape) for shape in shapes)}]"


def _fixed(value: float) -> str:
    return f"{value:.3f}"


def _ms(microseconds: float) -> str:
    return _fixed(microseconds / 1000)


def _ratio(part: float, whole: float) -> float:
    """``part / whole``; an op too short for the clock counts as 0 where MACE prints ``inf``."""
    return part / whole if whole else 0.0
