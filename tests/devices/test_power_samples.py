"""The battery's voltage and state in a monitor's lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.samples import parse_monitor

HEAD = """\
droidmace monitor 1
column uptime_s
column battery_ua unnamed
column battery_uv unnamed
column battery_status
samples
"""
WORD = st.just("-") | st.integers(-(10**18), 10**18).map(str)


def only(line: str):
    (sample,) = parse_monitor(f"{HEAD}1.00 {line}\n").samples
    return sample


@pytest.mark.parametrize(
    ("raw", "volts"),
    [(4214000, 4.214), (4214, 4.214), (8600000, 8.6), (0, None), (5, None), (42140000, None)],
)
def test_volts_in_either_unit(raw, volts):
    assert only(f"-650000 {raw} 2").battery_v == volts


def test_states():
    found = [only(f"- - {number}").battery_status for number in range(6)]
    assert found == [None, "charging", "discharging", "not charging", "full", None]


@given(WORD, WORD, WORD)
def test_any_numbers(current, voltage, status):
    log = parse_monitor(f"{HEAD}1.00 {current} {voltage} {status}\n")
    for sample in log.samples:
        assert sample.battery_v is None or 2.5 <= sample.battery_v <= 10
        assert sample.battery_ma is None or abs(sample.battery_ma) <= 1e5
    assert len(log.samples) + log.unreadable_lines == 1
