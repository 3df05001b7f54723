"""What ``device_scripts/monitor.sh`` wrote down, as values.

It comes from a device and is not trusted: the reader takes any text, leaves out what it cannot
read (and counts it), keeps a bounded number of samples, and never raises.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

MAX_SAMPLES = 100_000
"""More than a day of them."""

_MAX_COLUMNS = 128
_MAX_LINE_CHARACTERS = 8192
_MAX_NAME_CHARACTERS = 64
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_UPTIME = re.compile(r"[0-9]{1,12}\.[0-9]{2}")
_COLUMN = re.compile(r"column ([a-z_]{1,24})(?: (\S.*))?")
_END = re.compile(r"end ([a-z-]{1,24})")
_HEADER = "droidmace monitor 1"
_MAX_CLOCK_MHZ = 20_000.0
_MAX_CURRENT_MA = 100_000.0
_MIN_PLAUSIBLE_C, _MAX_PLAUSIBLE_C = -50.0, 200.0
# One cell that is nearly empty, and two full ones in series.
_MIN_PLAUSIBLE_V, _MAX_PLAUSIBLE_V = 2.5, 10.0
_STATUS = {1: "charging", 2: "discharging", 3: "not charging", 4: "full"}

CHIP_ZONES = ("cpu", "gpu", "soc", "big", "mid", "little", "g3d", "tsens")
"""Parts of the names that vendors give to the zones on the chip itself."""
_OFF_CHIP = ("batt", "skin")


@dataclass(frozen=True, slots=True)
class ThermalSample:
    """One look at the phone. What it does not show is missing, or None.

    ``uptime_s`` is its monotonic clock. ``cpu_mhz`` has one value per group of cores, in the order
    of the kernel's policies; those that could not be read are left out. ``battery_ma`` has the sign
    and scale that the phone's driver gives it; ``battery_status`` is one of ``charging``,
    ``discharging``, ``not charging`` and ``full``.
    """

    uptime_s: float
    zones_c: Mapping[str, float] = field(default_factory=dict)
    gpu_mhz: float | None = None
    cpu_mhz: tuple[float, ...] = ()
    battery_percent: float | None = None
    battery_c: float | None = None
    battery_ma: float | None = None
    battery_v: float | None = None
    battery_status: str | None = None

    @property
    def hottest_c(self) -> float | None:
        """Temperature of the hottest zone on the chip; of any zone if none is known to be there."""
        chip = [
            value
            for name, value in self.zones_c.items()
            if any(part in name.lower() for part in CHIP_ZONES)
            and not any(part in name.lower() for part in _OFF_CHIP)
        ]
        return max(chip or self.zones_c.values(), default=None)


@dataclass(frozen=True, slots=True)
class MonitorLog:
    """All samples of a monitor, in the order of time.

    ``end`` says why it ended: ``stopped``, ``host-gone``, ``time``, ``size``, ``full`` (the phone's
    storage), ``no-clock``; empty when the log was cut off. ``unreadable_lines`` were left out.
    ``clock_offset_s`` is this computer's monotonic clock less the phone's uptime, as well as
    latency lets it be known (it is at most that much too large); None without a live connection.
    """

    samples: tuple[ThermalSample, ...] = ()
    end: str = ""
    unreadable_lines: int = 0
    clock_offset_s: float | None = None

    def between(self, start_s: float, end_s: float) -> tuple[ThermalSample, ...]:
        """The samples from ``start_s`` to ``end_s`` of the phone's uptime."""
        return tuple(one for one in self.samples if start_s <= one.uptime_s <= end_s)

    def during(self, start_s: float, end_s: float) -> tuple[ThermalSample, ...]:
        """The same by this computer's ``time.monotonic()``; none if the clocks are not known."""
        if self.clock_offset_s is None:
            return ()
        return self.between(start_s - self.clock_offset_s, end_s - self.clock_offset_s)


class SampleReader:
    """Reads a monitor's lines one by one."""

    def __init__(self) -> None:
        self._columns: list[tuple[str, str]] = []
        self._begun = False
        self._ready = False
        self._last_uptime_s = -math.inf
        self._count = 0
        self.end = ""
        self.unreadable_lines = 0

    def feed(self, line: str) -> ThermalSample | None:
        """Take one line; return the sample it holds, if it holds one."""
        line = line.rstrip("\r\n")
        if not self._begun:
            self._begun = line == _HEADER
            self.unreadable_lines += not self._begun
            return None
        if not self._ready:
            self._head(line)
            return None
        if match := _END.fullmatch(line):
            self.end = match[1]
            return None
        sample = self._sample(line)
        if sample is None:
            self.unreadable_lines += 1
        return sample

    def _head(self, line: str) -> None:
        match = _COLUMN.fullmatch(line) if len(line) <= _MAX_LINE_CHARACTERS else None
        if line == "samples":
            self._ready = True
        elif match is None or len(self._columns) >= _MAX_COLUMNS:
            self.unreadable_lines += 1
        else:
            self._columns.append((match[1], self._free_name(match[1], match[2] or "")))

    def _free_name(self, kind: str, name: str) -> str:
        """A name that no other column of its kind has: phones repeat them."""
        name = "".join(c if c.isprintable() else "?" for c in name)[:_MAX_NAME_CHARACTERS]
        taken = {other for other_kind, other in self._columns if other_kind == kind}
        numbers = (f"{name}#{number}" for number in range(2, len(taken) + 3))
        return name if name not in taken else next(n for n in numbers if n not in taken)

    def _sample(self, line: str) -> ThermalSample | None:
        words = line.split(" ", _MAX_COLUMNS) if len(line) <= _MAX_LINE_CHARACTERS else []
        # A torn line has fewer numbers, or a last one that is too short: the clock comes first.
        if len(words) != len(self._columns) or self._count >= MAX_SAMPLES:
            return None
        uptime_s: float | None = None
        zones: dict[str, float] = {}
        cpu: list[float] = []
        single: dict[str, float | None] = {}
        status: str | None = None
        for (kind, name), word in zip(self._columns, words, strict=True):
            if kind == "uptime_s":
                uptime_s = float(word) if _UPTIME.fullmatch(word) else None
                continue
            if not _NUMBER.fullmatch(word):
                if word != "-":
                    return None
                continue
            value = int(word)
            match kind:
                case "zone_mc":
                    # Some drivers count whole degrees.
                    degrees = _celsius(value / 1000 if abs(value) >= 1000 else float(value))
                    if degrees is not None:
                        zones[name] = degrees
                case "gpu_hz":
                    single["gpu_mhz"] = _within(value / 1e6, 0.0, _MAX_CLOCK_MHZ)
                case "gpu_mhz":
                    single["gpu_mhz"] = _within(float(value), 0.0, _MAX_CLOCK_MHZ)
                case "cpu_khz":
                    clock = _within(value / 1e3, 0.0, _MAX_CLOCK_MHZ)
                    if clock is not None:
                        cpu.append(clock)
                case "battery_percent":
                    single["battery_percent"] = _within(float(value), 0.0, 100.0)
                case "battery_dc":
                    single["battery_c"] = _celsius(value / 10)
                case "battery_ua":
                    single["battery_ma"] = _within(value / 1e3, -_MAX_CURRENT_MA, _MAX_CURRENT_MA)
                case "battery_uv":
                    single["battery_v"] = _volts(value)
                case "battery_status":
                    status = _STATUS.get(value)
        if uptime_s is None or uptime_s < self._last_uptime_s:
            return None
        self._last_uptime_s = uptime_s
        self._count += 1
        return ThermalSample(uptime_s, zones, cpu_mhz=tuple(cpu), battery_status=status, **single)


def parse_monitor(text: str) -> MonitorLog:
    """Read a monitor's whole file."""
    return read_monitor(text.splitlines())


def read_monitor(lines: Iterable[str]) -> MonitorLog:
    """Read a monitor's lines."""
    reader = SampleReader()
    samples = tuple(sample for line in lines if (sample := reader.feed(line)) is not None)
    return MonitorLog(samples, reader.end, reader.unreadable_lines)


def _within(value: float, low: float, high: float) -> float | None:
    return value if low <= value <= high else None


def _volts(value: int) -> float | None:
    """The kernel's unit is the microvolt; some drivers count millivolts."""
    volts = value / 1e6 if value >= 100_000 else value / 1e3
    return _within(volts, _MIN_PLAUSIBLE_V, _MAX_PLAUSIBLE_V)


def _celsius(value: float) -> float | None:
    """Sensors that are off report things like -273 or 2147483."""
    return value if _MIN_PLAUSIBLE_C < value < _MAX_PLAUSIBLE_C else None


def samples_text(samples: Iterable[ThermalSample]) -> str:
    """Samples as JSON lines, for a file on the host."""
    return "".join(json.dumps(asdict(one)) + "\n" for one in samples)
