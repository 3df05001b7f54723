"""Can this phone run it? Checks as values; the caller decides what to do about a failed one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from droidmace.devices.probe import ProbeReport

_MIB = 1 << 20
_64_BIT = ("arm64-v8a", "aarch64-linux-gnu", "x86_64")
_HOT_ZONES = ("cpu", "gpu", "soc", "big", "mid", "little", "g3d", "tsens")
"""Parts of the names that vendors give to the zones on the chip itself."""


@dataclass(frozen=True, slots=True)
class PreflightLimits:
    """What a phone must satisfy. Temperatures in degrees Celsius."""

    min_battery_percent: float = 20.0
    """Unless it is charging."""
    max_battery_c: float = 45.0
    max_chip_c: float = 80.0
    """A hotter chip throttles: what is measured then is the heat."""
    reserve_bytes: int = 16 * _MIB
    """Space that must stay free beyond what is pushed: results, and Android's own needs."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, whether it holds, what was found, and the fix if it does not."""

    name: str
    ok: bool
    text: str
    fix: str = ""


def check(
    report: ProbeReport,
    *,
    abi: str,
    needed_bytes: int,
    limits: PreflightLimits | None = None,
) -> tuple[Check, ...]:
    """Check a phone for a ``mace_run`` of ``abi`` that brings ``needed_bytes`` of files.

    What the phone does not tell (no battery, no thermal zones) does not fail.
    """
    limits = limits or PreflightLimits()
    return (
        _abi(report, abi),
        _space(report, needed_bytes + limits.reserve_bytes),
        _opencl(report, abi),
        _battery(report, limits),
        _temperature(report, limits),
    )


def failed(checks: Collection[Check]) -> tuple[Check, ...]:
    """Those that do not hold."""
    return tuple(one for one in checks if not one.ok)


def _abi(report: ProbeReport, abi: str) -> Check:
    offered = ", ".join(report.abis) or "nothing that it tells"
    return Check(
        "abi",
        abi in report.abis,
        f"{abi} is needed, the phone runs {offered}",
        f"give a mace_run built for {report.abi or 'the phone'}",
    )


def _space(report: ProbeReport, needed_bytes: int) -> Check:
    if report.free_bytes is None:
        return Check("space", True, "the phone does not tell its free space")
    return Check(
        "space",
        report.free_bytes >= needed_bytes,
        f"{report.free_bytes / _MIB:,.0f} MiB free, {needed_bytes / _MIB:,.0f} MiB needed "
        "in /data/local/tmp",
        "delete something from the phone's storage",
    )


def _opencl(report: ProbeReport, abi: str) -> Check:
    is_64_bit = abi in _64_BIT
    fitting = [path for path in report.opencl_libraries if _is_64_bit_path(path) == is_64_bit]
    others = [path for path in report.opencl_libraries if path not in fitting]
    width = "64" if is_64_bit else "32"
    if fitting:
        text = fitting[0]
    elif others:
        text = f"no {width}-bit library; {others[0]} is for the other word size"
    else:
        text = "no library in any of the places where mace_run looks"
    return Check(
        "opencl",
        bool(fitting),
        text,
        "use a mace_run of the other word size"
        if others
        else "this phone's vendor ships no OpenCL driver: use another phone, or runtime cpu",
    )


def _is_64_bit_path(path: str) -> bool:
    return "/lib64/" in path or "/aarch64-" in path or "/x86_64-" in path


def _battery(report: ProbeReport, limits: PreflightLimits) -> Check:
    battery = report.battery
    if battery is None or battery.level_percent is None:
        return Check("battery", True, "the phone tells nothing of a battery")
    charging = ", charging" if battery.charging else ""
    return Check(
        "battery",
        battery.charging or battery.level_percent >= limits.min_battery_percent,
        f"{battery.level_percent:.0f} %{charging}",
        f"charge it to {limits.min_battery_percent:.0f} % or plug it in",
    )


def _temperature(report: ProbeReport, limits: PreflightLimits) -> Check:
    chip = [
        zone for zone in report.thermal if any(word in zone.name.lower() for word in _HOT_ZONES)
    ]
    hottest = max(chip, key=lambda zone: zone.temperature_c, default=None)
    battery_c = report.battery.temperature_c if report.battery else None
    parts = []
    ok = True
    if hottest is not None:
        ok = hottest.temperature_c <= limits.max_chip_c
        parts.append(
            f"{hottest.name} {hottest.temperature_c:.1f} °C (limit {limits.max_chip_c:.0f})"
        )
    if battery_c is not None:
        ok = ok and battery_c <= limits.max_battery_c
        parts.append(f"battery {battery_c:.1f} °C (limit {limits.max_battery_c:.0f})")
    return Check(
        "temperature",
        ok,
        ", ".join(parts) or "the phone tells no temperatures",
        "let the phone cool down",
    )
