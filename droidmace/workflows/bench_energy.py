"""What an inference draws from the battery: the idle phone watched, then the phone at work.

The battery's current and voltage come once a second; so both times are long, and the first seconds
of each are left out: a fuel gauge averages, and the idle phone has just been at work. An
inference's share is the power beyond idle times its latency.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from droidmace.devices.battery_power import NoPower, power_draw, readiness
from droidmace.devices.monitor import Monitor
from droidmace.devices.samples import ThermalSample
from droidmace.macerun.events import Stage
from droidmace.results.bench import Energy
from droidmace.workflows.bench_request import BenchSettings
from droidmace.workflows.bench_runs import BenchRuns
from droidmace.workflows.measure import Progress

_PATIENCE_S = 15.0
"""How much longer than they should the samples may take to arrive."""
_MAX_ROUNDS = 10_000_000
_ATTEMPTS = 2
_SPARE = 1.25
"""A long run is quicker for each inference than a short one."""
_ENOUGH = 0.9
"""Share of the time under load that must be there."""


def measure_energy(
    runs: BenchRuns,
    monitor: Monitor,
    settings: BenchSettings,
    latency_ms: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Energy:
    """Watch, load, watch. A phone that gives no figure is a result with a reason.

    ``latency_ms`` says how many rounds fill the time. Raises ``MaceRunError`` s and the device's
    errors.
    """
    watched_s = settings.settle_s + settings.idle_s
    total_s = watched_s + settings.load_s
    if not monitor.wait_for_samples(1, _PATIENCE_S):
        return Energy(why_not=monitor.note or "the phone's battery was not seen")
    if (refusal := readiness(monitor.samples[-1])) is not None:
        return Energy(why_not=refusal.reason)
    progress("idle", 0, total_s)
    seen = len(monitor.samples)
    if not monitor.wait_for_samples(seen + watched_s, watched_s + _PATIENCE_S):
        return Energy(why_not="the samples of the idle phone did not come in time")
    idle = monitor.samples[seen + settings.settle_s :]
    progress("under load", watched_s, total_s)
    load: tuple[ThermalSample, ...] = ()
    for _ in range(_ATTEMPTS):
        wanted_ms = _SPARE * (settings.load_s + settings.settle_s) * 1e3
        reached: dict[Stage, float] = {}
        average_ms = runs.load(
            min(math.ceil(wanted_ms / latency_ms), _MAX_ROUNDS),
            lambda stage, reached=reached: reached.setdefault(stage, clock()),  # type: ignore[misc]
        )
        if Stage.RUNNING not in reached or Stage.RAN not in reached:
            return Energy(why_not="mace_run did not tell when its rounds began and ended")
        begin_s, end_s = reached[Stage.RUNNING] + settings.settle_s, reached[Stage.RAN]
        # The last sample of that time may still be on its way.
        monitor.wait_for_samples(len(monitor.samples) + 1, 3.0)
        load = monitor.so_far.during(begin_s, end_s)
        if end_s - begin_s >= _ENOUGH * settings.load_s:
            break
        latency_ms = average_ms  # in a row they take less time than a few take each
    draw = power_draw(idle, load, settings.current_unit)
    if isinstance(draw, NoPower):
        return Energy(why_not=draw.reason)
    return Energy(
        joules=(draw.load_w - draw.idle_w) * average_ms / 1e3,
        joules_gross=draw.load_w * average_ms / 1e3,
        idle_w=draw.idle_w,
        load_w=draw.load_w,
        idle_readings=draw.idle_readings,
        load_readings=draw.load_readings,
        latency_ms=average_ms,
        taken_as=draw.taken_as,
    )
