"""What a phone draws from its battery, from the samples of a monitor.

Linux documents ``current_now`` as microamperes that are negative while the battery discharges
(Documentation/ABI/testing/sysfs-class-power), and drivers differ: some count milliamperes, some
write the discharge as a positive number. Neither is guessed silently: the unit follows from the
size of the figures, or is given, the sign from the kernel's own word that the battery discharges,
and the reading says how it was taken. On a cable there is no figure: what the battery gives then
is not what the phone takes.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from droidmace.devices.samples import ThermalSample
from droidmace.results.bench import CurrentUnit

MIN_READINGS = 5
"""Samples of each side; fewer say too little."""
MIN_CHANGES = 2
"""Different readings under load: a fuel gauge that stands still has not looked."""

# No phone that talks to a host lives on 8 mA, and none gives 20 A: figures below the first are
# milliamperes, those above the second microamperes, and in between nobody can tell.
_MOST_MA = 8_000.0
_LEAST_UA = 20_000.0


@dataclass(frozen=True, slots=True)
class PowerDraw:
    """Mean power from the battery, in watts: of the idle phone, and under load."""

    idle_w: float
    load_w: float
    idle_readings: int
    load_readings: int
    taken_as: str
    """Unit and sign, as a sentence."""


@dataclass(frozen=True, slots=True)
class NoPower:
    """There is no figure, and why."""

    reason: str


def readiness(sample: ThermalSample) -> NoPower | None:
    """Why a phone that looks like this will give no figure; None if it may."""
    if sample.battery_ma is None or sample.battery_v is None:
        return NoPower("the phone does not show its battery's current and voltage")
    if sample.battery_status is None:
        return NoPower("the phone does not say whether its battery discharges")
    if sample.battery_status != "discharging":
        return NoPower(
            f"the battery is {sample.battery_status}: what flows says nothing of the phone's use; "
            "unplug it and use adb over Wi-Fi"
        )
    return None


def power_draw(
    idle: Sequence[ThermalSample],
    load: Sequence[ThermalSample],
    unit: CurrentUnit = CurrentUnit.AUTO,
) -> PowerDraw | NoPower:
    """Mean power of the samples of an idle phone and of one at work.

    All of them must come from a battery that discharges, and have a current of one sign; the phone
    at work must draw more.
    """
    for sample in (*idle, *load):
        if (refusal := readiness(sample)) is not None:
            return refusal
    if min(len(idle), len(load)) < MIN_READINGS:
        return NoPower(
            f"{len(idle)} readings of the idle phone and {len(load)} under load are too few, "
            f"{MIN_READINGS} of each are needed"
        )
    # The reader takes it for µA.
    raw = [(sample.battery_ma or 0.0) * 1e3 for sample in (*idle, *load)]
    signs = {value > 0 for value in raw if value}
    if not signs:
        return NoPower("the phone shows a current of 0 all the time")
    if len(signs) != 1:
        return NoPower("the current changes its sign while the battery discharges")
    changes = len({sample.battery_ma for sample in load})
    if changes < MIN_CHANGES:
        return NoPower(f"the current stood still through {len(load)} readings under load")
    size = statistics.median(abs(value) for value in raw)
    if unit is CurrentUnit.AUTO:
        if _MOST_MA < size < _LEAST_UA:
            return NoPower(
                f"current_now is {size:.0f}, which may be microamperes or milliamperes: say which"
            )
        found = CurrentUnit.MILLIAMPERE if size <= _MOST_MA else CurrentUnit.MICROAMPERE
        how = "by its size"
    else:
        found, how = unit, "as given"
    amperes = 1e-6 if found is CurrentUnit.MICROAMPERE else 1e-3
    name = "microamperes" if found is CurrentUnit.MICROAMPERE else "milliamperes"
    sign = "positive" if signs == {True} else "negative"

    def watts(samples: Sequence[ThermalSample]) -> float:
        return statistics.fmean(
            abs((one.battery_ma or 0.0) * 1e3) * amperes * (one.battery_v or 0.0) for one in samples
        )

    idle_w, load_w = watts(idle), watts(load)
    if load_w <= idle_w:
        return NoPower(
            f"the phone drew {idle_w:.2f} W idle and {load_w:.2f} W under load: it was not "
            "idle, or its gauge averages for longer than it was watched"
        )
    return PowerDraw(
        idle_w=idle_w,
        load_w=load_w,
        idle_readings=len(idle),
        load_readings=len(load),
        taken_as=f"current_now in {name} ({how}), {sign} while discharging (by its status)",
    )
