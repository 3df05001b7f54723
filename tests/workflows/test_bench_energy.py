"""Energy from a fuel gauge that averages: what is left out, without a phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from droidmace.devices.samples import MonitorLog, ThermalSample
from droidmace.macerun.events import Stage
from droidmace.results.bench import Energy
from droidmace.workflows.bench_energy import measure_energy
from droidmace.workflows.bench_request import BenchSettings

LATENCY_MS = 10.0
VOLTS = 4.0
SETTINGS = BenchSettings(idle_s=15, load_s=20, settle_s=3)


class Phone:
    """A monitor and a ``mace_run`` whose seconds pass when they are waited for.

    ``gauge`` says what a second's reading is (µA), from the seconds since the phone last became
    idle or busy and which of these it is.
    """

    note = None

    def __init__(self, gauge: Callable[[float, bool], float]) -> None:
        self._gauge = gauge
        self._since = 0
        self._busy = False
        self._samples: list[ThermalSample] = []
        self._second()

    def _second(self) -> None:
        # Readings differ by a little, as those of a gauge that looks do.
        microamperes = self._gauge(self._since, self._busy) + len(self._samples) % 2
        self._samples.append(
            ThermalSample(
                float(len(self._samples)),
                battery_ma=-microamperes / 1e3,
                battery_v=VOLTS,
                battery_status="discharging",
            )
        )
        self._since += 1

    @property
    def samples(self) -> tuple[ThermalSample, ...]:
        return tuple(self._samples)

    @property
    def so_far(self) -> MonitorLog:
        return MonitorLog(self.samples, clock_offset_s=0.0)

    def wait_for_samples(self, count: int, timeout_s: float) -> bool:
        while len(self._samples) < count:
            self._second()
        return True

    def clock(self) -> float:
        return float(len(self._samples))

    def load(self, rounds: int, on_stage: Callable[[Stage], object]) -> float:
        self._busy, self._since = True, 0
        on_stage(Stage.RUNNING)
        for _ in range(round(rounds * LATENCY_MS / 1e3)):
            self._second()
        on_stage(Stage.RAN)
        return LATENCY_MS


def measured(gauge: Callable[[float, bool], float]) -> Energy:
    phone = Phone(gauge)
    return measure_energy(phone, phone, SETTINGS, LATENCY_MS, lambda *_: None, phone.clock)


def test_what_a_gauge_carries_over_is_in_neither_side() -> None:
    # Three seconds after a change it has forgotten what was before.
    def gauge(since: float, busy: bool) -> float:
        return 1_250_000.0 if busy == (since >= 3) else 250_000.0

    energy = measured(gauge)
    assert energy.why_not == ""
    assert (energy.idle_readings, energy.load_w) == (15, pytest.approx(5.0, rel=1e-5))
    assert energy.idle_w == pytest.approx(1.0, rel=1e-5)
    assert energy.joules == pytest.approx(4.0 * LATENCY_MS / 1e3, rel=1e-4)


def test_a_phone_that_was_busier_before_has_no_figure() -> None:
    energy = measured(lambda _, busy: 300_000.0 if busy else 900_000.0)
    assert energy.joules is None
    assert "3.60 W idle and 1.20 W under load" in energy.why_not
