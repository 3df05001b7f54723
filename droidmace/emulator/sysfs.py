"""What a phone shows of itself in ``/sys``: battery, thermal zones, clocks and their governors.

Host files that are bound into the phone, read-only. On a ``rooted`` one the governors' files, and
those alone, may be written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from droidmace.emulator.folder import PhoneFolder
from droidmace.emulator.mounts import WritableFile
from droidmace.emulator.profile import GpuClock, PhoneProfile
from droidmace.errors import EmulatorError

CPUFREQ = "/sys/devices/system/cpu/cpufreq"

_CLASS = "/sys/class"
_ADRENO_NODE = "kgsl-3d0"
_CPU_GOVERNORS = ("performance", "powersave", "userspace")
_GPU_GOVERNORS = ("performance", "powersave", "simple_ondemand")


def build(folder: PhoneFolder, profile: PhoneProfile) -> None:
    """Write it all anew, while the phone is off."""
    shutil.rmtree(folder.sys_class.parent, ignore_errors=True)
    folder.sys_cpufreq.mkdir(parents=True)
    write_sensors(folder, profile)
    for path, value, others in _governors(folder, profile):
        _sensor(path, value)
        available = f"{path.name.removesuffix('governor')}available_governors"
        _sensor(path.with_name(available), " ".join(dict.fromkeys((value, *others))))


def write_sensors(folder: PhoneFolder, profile: PhoneProfile) -> None:
    """Write what the phone measures as its profile has it; its governors stay as they are."""
    battery = profile.battery
    set_battery(
        folder,
        level=battery.level,
        temperature_c=battery.temperature_c,
        usb_powered=battery.usb_powered,
    )
    supply = folder.sys_class / "power_supply"
    _sensor(supply / "battery/health", "Good")
    _sensor(supply / "battery/present", "1")
    _sensor(supply / "battery/technology", "Li-ion")
    _sensor(supply / "battery/type", "Battery")
    _sensor(supply / "usb/type", "USB")
    for index, (zone, temperature_c) in enumerate(profile.thermal_zones.items()):
        _sensor(folder.sys_class / f"thermal/thermal_zone{index}/type", zone)
        _sensor(folder.sys_class / f"thermal/thermal_zone{index}/temp", _milli(temperature_c))
    clock = profile.gpu.clock
    if clock is not None:
        for path in _gpu_clock_files(folder, clock.node):
            _sensor(path, _hertz(clock.mhz))
    for name, policy in profile.cpu_policies.items():
        _sensor(folder.sys_cpufreq / name / "scaling_cur_freq", _kilohertz(policy.mhz))


def knobs(folder: PhoneFolder, profile: PhoneProfile) -> list[WritableFile]:
    """The files that a phone of this profile may write."""
    if not profile.rooted:
        return []
    roots = ((folder.sys_cpufreq, CPUFREQ), (folder.sys_class, _CLASS))
    return [
        WritableFile(path, f"{target}/{path.relative_to(root)}")
        for path, _, _ in _governors(folder, profile)
        for root, target in roots
        if path.is_relative_to(root)
    ]


def set_battery(
    folder: PhoneFolder,
    *,
    level: int | None = None,
    temperature_c: float | None = None,
    usb_powered: bool | None = None,
    current_now: int | None = None,
    voltage_now: int | None = None,
) -> None:
    """Change a phone's battery; a running phone sees it at once.

    ``current_now`` and ``voltage_now`` are what those files hold: µA that are positive while it
    charges and µV, or whatever a phone's driver makes of them.
    """
    battery = folder.sys_class / "power_supply/battery"
    if usb_powered is not None:
        _sensor(battery / "status", "Charging" if usb_powered else "Discharging")
        _sensor(folder.sys_class / "power_supply/usb/online", str(int(usb_powered)))
        # µA; a positive current charges.
        _sensor(battery / "current_now", "450000" if usb_powered else "-650000")
    if level is not None:
        _sensor(battery / "capacity", str(level))
        # A 4000 mAh battery whose voltage falls from 4.35 V to 3.5 V: µAh and µV, as Linux has it.
        _sensor(battery / "charge_counter", str(level * 40_000))
        _sensor(battery / "voltage_now", str(3_500_000 + level * 8_500))
    # Last, so that they win over what follows from the rest.
    if current_now is not None:
        _sensor(battery / "current_now", str(current_now))
    if voltage_now is not None:
        _sensor(battery / "voltage_now", str(voltage_now))
    if temperature_c is not None:
        _sensor(battery / "temp", str(round(temperature_c * 10)))


def set_temperature(folder: PhoneFolder, temperature_c: float, *, zone: str | None = None) -> None:
    """Set one thermal zone (by its type), or all. Raises ``EmulatorError``: no such zone."""
    types = {
        path.read_text("utf-8").strip(): path.with_name("temp")
        for path in sorted(folder.sys_class.glob("thermal/*/type"))
    }
    if zone is not None and zone not in types:
        raise EmulatorError(
            f"no thermal zone {zone!r}", where=folder.name, hint=f"one of {', '.join(types)}"
        )
    for name, path in types.items():
        if zone in (None, name):
            _sensor(path, _milli(temperature_c))


def set_gpu_clock(folder: PhoneFolder, mhz: float) -> None:
    """Set the clock that the GPU shows. Raises ``EmulatorError``: it shows none."""
    found = [
        *folder.sys_class.glob("kgsl/*/gpuclk"),
        *folder.sys_class.glob("kgsl/*/devfreq/cur_freq"),
        *folder.sys_class.glob("devfreq/*/cur_freq"),
    ]
    if not found:
        raise EmulatorError(
            "the phone's GPU shows no clock", where=folder.name, hint="profile key gpu.clock"
        )
    for path in found:
        _sensor(path, _hertz(mhz))


def set_cpu_clock(folder: PhoneFolder, mhz: float, *, policy: str | None = None) -> None:
    """Set the clock of one group of cores, or all. Raises ``EmulatorError``: no such group."""
    found = {path.parent.name: path for path in folder.sys_cpufreq.glob("*/scaling_cur_freq")}
    if not found or (policy is not None and policy not in found):
        raise EmulatorError(
            f"no CPU policy {policy!r}" if policy else "the phone's CPU shows no clock",
            where=folder.name,
            hint=f"one of {', '.join(sorted(found))}" if found else "profile key cpu_policies",
        )
    for name, path in found.items():
        if policy in (None, name):
            _sensor(path, _kilohertz(mhz))


def _governors(
    folder: PhoneFolder, profile: PhoneProfile
) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """The files of the governors, what they are set to, and what else they may be set to."""
    for name, policy in profile.cpu_policies.items():
        yield folder.sys_cpufreq / name / "scaling_governor", policy.governor, _CPU_GOVERNORS
    clock: GpuClock | None = profile.gpu.clock
    if clock is not None:
        frequency = _gpu_clock_files(folder, clock.node)[-1]
        yield frequency.with_name("governor"), clock.governor, _GPU_GOVERNORS


def _gpu_clock_files(folder: PhoneFolder, node: str) -> list[Path]:
    """Where the GPU's clock stands; the last is beside its governor."""
    if node == _ADRENO_NODE:
        gpu = folder.sys_class / "kgsl" / node
        return [gpu / "gpuclk", gpu / "devfreq/cur_freq"]
    return [folder.sys_class / "devfreq" / node / "cur_freq"]


def _sensor(path: Path, value: str) -> None:
    """Write a sysfs-like file in one step: a reader never sees it empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(value + "\n", "utf-8")
    new.replace(path)


def _milli(temperature_c: float) -> str:
    return str(round(temperature_c * 1000))


def _hertz(mhz: float) -> str:
    return str(round(mhz * 1e6))


def _kilohertz(mhz: float) -> str:
    return str(round(mhz * 1e3))
