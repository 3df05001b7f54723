"""Watts from a fuel gauge: units, signs, and every reason to give no figure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.battery_power import NoPower, PowerDraw, power_draw, readiness
from droidmace.devices.samples import ThermalSample
from droidmace.results.bench import CurrentUnit


def samples(*raw: float, volts: float = 4.0, status: str = "discharging"):
    """As the monitor reads ``current_now``: for µA."""
    return [
        ThermalSample(float(at), battery_ma=one / 1e3, battery_v=volts, battery_status=status)
        for at, one in enumerate(raw)
    ]


IDLE = (-250_000,) * 6
LOAD = (-1_250_000, -1_270_000, -1_230_000, -1_250_000, -1_250_000)


def test_watts_of_a_phone_as_linux_documents_it():
    draw = power_draw(samples(*IDLE), samples(*LOAD))
    assert isinstance(draw, PowerDraw)
    assert draw.idle_w == pytest.approx(1.0)
    assert draw.load_w == pytest.approx(5.0)
    assert (draw.idle_readings, draw.load_readings) == (6, 5)
    assert draw.taken_as == (
        "current_now in microamperes (by its size), negative while discharging (by its status)"
    )


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("factor", "name"), [(1.0, "micro"), (1e-3, "milli")])
def test_other_drivers_habits(sign, factor, name):
    idle, load = ([sign * factor * one for one in side] for side in (IDLE, LOAD))
    draw = power_draw(samples(*idle), samples(*load))
    assert isinstance(draw, PowerDraw)
    assert draw.load_w == pytest.approx(5.0)
    assert draw.taken_as.startswith(f"current_now in {name}amperes")
    assert ("positive" in draw.taken_as) == (sign < 0)


def test_what_the_user_says_of_the_unit_counts():
    raw = [-9_000, -10_000, -11_000, -10_000, -10_000]
    idle = samples(*[-9_000] * 5)
    refused = power_draw(idle, samples(*raw))
    assert isinstance(refused, NoPower)
    assert "microamperes or milliamperes" in refused.reason
    draw = power_draw(idle, samples(*raw), CurrentUnit.MILLIAMPERE)
    assert isinstance(draw, PowerDraw)
    assert draw.load_w == pytest.approx(40.0)
    assert "as given" in draw.taken_as


@pytest.mark.parametrize(
    ("idle", "load", "reason"),
    [
        (samples(*IDLE, status="charging"), samples(*LOAD), "battery is charging"),
        (samples(*IDLE), samples(*LOAD, status="full"), "battery is full"),
        (samples(*IDLE)[:3], samples(*LOAD), "too few"),
        (samples(*IDLE), [], "too few"),
        (samples(*IDLE), samples(*[-one for one in LOAD]), "changes its sign"),
        (samples(*IDLE), samples(*[-1_250_000] * 8), "stood still"),
        (samples(*[0] * 6), samples(*[0] * 6), "current of 0"),
        (samples(*LOAD), samples(*IDLE, -240_000), "5.00 W idle and 0.99 W under load"),
        (samples(*IDLE), [replace(one, battery_v=None) for one in samples(*LOAD)], "does not show"),
        ([replace(one, battery_status=None) for one in samples(*IDLE)], samples(*LOAD), "say"),
    ],
)
def test_no_figure_without_evidence(idle, load, reason):
    found = power_draw(idle, load)
    assert isinstance(found, NoPower)
    assert reason in found.reason


def test_a_phone_that_may_be_measured():
    assert readiness(samples(-1)[0]) is None
    assert "Wi-Fi" in readiness(samples(-1, status="not charging")[0]).reason


@given(
    st.lists(st.floats(-1e8, 1e8), max_size=12),
    st.lists(st.floats(-1e8, 1e8), max_size=12),
    st.floats(2.5, 10),
)
def test_any_readings_give_watts_or_a_reason(idle, load, volts):
    found = power_draw(samples(*idle, volts=volts), samples(*load, volts=volts))
    if isinstance(found, NoPower):
        assert found.reason
    else:
        assert 0 <= found.idle_w < found.load_w
        assert found.load_w <= max(map(abs, load)) * volts
