"""Faults, the link, the configuration and the counters: values and arithmetic."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.emulator.adbd.config import FEATURES, parse_config, read_config
from droidmace.emulator.adbd.errors import DaemonConfigError, FaultError
from droidmace.emulator.adbd.faults import (
    FaultState,
    Freeze,
    Offline,
    SlowLink,
    Unauthorized,
    Unplug,
    parse_fault,
)
from droidmace.emulator.adbd.link import Link
from droidmace.emulator.adbd.stats import Stats


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"kind": "unplug", "now": True}, Unplug()),
        ({"kind": "unplug", "after_bytes": 5}, Unplug(after_bytes=5)),
        (
            {"kind": "unplug", "on_command": "mace_run", "delay_s": 0.5, "refuse_s": 3},
            Unplug(on_command="mace_run", delay_s=0.5, refuse_s=3),
        ),
        ({"kind": "unplug", "now": True, "refuse": True}, Unplug(refuse_s=math.inf)),
        ({"kind": "unauthorized"}, Unauthorized()),
        ({"kind": "offline"}, Offline()),
        ({"kind": "freeze"}, Freeze()),
        ({"kind": "link", "bytes_per_s": 1000}, SlowLink(1000.0)),
    ],
)
def test_faults_as_json(value, expected):
    assert parse_fault(value) == expected


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, "JSON object"),
        ({}, "kind"),
        ({"kind": "earthquake"}, "earthquake"),
        ({"kind": "unplug"}, "exactly one"),
        ({"kind": "unplug", "now": True, "after_bytes": 1}, "exactly one"),
        ({"kind": "unplug", "now": 1}, "now"),
        ({"kind": "unplug", "after_bytes": -1}, "after_bytes"),
        ({"kind": "unplug", "after_bytes": "1"}, "after_bytes"),
        ({"kind": "unplug", "on_command": ""}, "on_command"),
        ({"kind": "unplug", "now": True, "refuse": "yes"}, "refuse"),
        ({"kind": "offline", "for": 3}, "for"),
        ({"kind": "link"}, "bytes_per_s"),
        ({"kind": "link", "bytes_per_s": 0}, "bytes_per_s"),
        ({"kind": "link", "bytes_per_s": float("nan")}, "bytes_per_s"),
        ({"kind": "link", "bytes_per_s": True}, "bytes_per_s"),
    ],
)
def test_faults_that_do_not_exist(value, names):
    with pytest.raises(FaultError, match=names):
        parse_fault(value)


@given(st.integers(1, 1000), st.lists(st.integers(0, 300), max_size=20))
def test_an_unplug_passes_exactly_its_bytes(after_bytes, amounts):
    state = FaultState()
    fault = Unplug(after_bytes=after_bytes)
    state.arm(fault)
    passed = 0
    for amount in amounts:
        passing, due = state.take(amount)
        passed += passing
        if due is not None:
            assert due == fault
            assert passed == after_bytes
            assert state.take(99) == (99, None), "it happens once"
            return
    assert passed == sum(amounts) < after_bytes


def test_an_unplug_waits_for_its_command():
    state = FaultState()
    fault = Unplug(on_command="mace_run")
    state.arm(fault)
    assert state.command_started("ls") is None
    assert state.command_started("cd /data; ./mace_run --round=1") == fault
    assert state.command_started("./mace_run") is None


def test_refusing_ends_by_itself_or_when_cleared():
    clock = Clock()
    state = FaultState(clock)
    state.refuse_for(3.0)
    assert state.refuses
    clock.now_s += 3.1
    assert not state.refuses
    state.refuse_for(math.inf)
    clock.now_s += 1e9
    assert state.refuses
    state.clear()
    assert not state.refuses


def test_link_paces_both_directions_together():
    clock = Clock()
    link = Link(clock)
    link.charge(10**9)
    assert link.delay_s() == 0.0, "no limit, no delay"
    link.set_rate(1000.0)
    link.charge(500)
    link.charge(250)
    assert link.delay_s() == pytest.approx(0.75)
    clock.now_s += 1.0
    assert link.delay_s() == 0.0
    link.charge(100)
    assert link.delay_s() == pytest.approx(0.1), "an idle link saves nothing up"
    link.set_rate(None)
    assert link.delay_s() == 0.0
    assert link.slice_bytes is None


def test_configuration(tmp_path):
    value = {
        "banner_properties": {"ro.product.name": "emu", "ro.product.model": "M 1"},
        "environment": {"PATH": "/system/bin"},
        "shell": "/system/bin/sh",
        "home": "/data",
        "features": ["shell_v2"],
        "tmp_suffix": ".part",
        "sweep": [],
        "link_bytes_per_s": 1e6,
    }
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(value))
    config = read_config(path)
    assert config.banner() == b"device::ro.product.name=emu;ro.product.model=M 1;features=shell_v2"
    assert (config.home, config.link_bytes_per_s) == ("/data", 1e6)
    assert parse_config({}).features == FEATURES


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ([], "object"),
        ({"colour": 1}, "colour"),
        ({"shell": "sh"}, "shell: an absolute path"),
        ({"environment": {"A": 1}}, "environment"),
        ({"features": "shell_v2"}, "features"),
        ({"tmp_suffix": "a/b"}, "tmp_suffix"),
        ({"link_bytes_per_s": 0}, "link_bytes_per_s"),
        ({"banner_properties": {"a": "b;features=evil"}}, "banner_properties"),
        ({"banner_properties": {"a": "b" * 5000}}, "banner"),
    ],
)
def test_configuration_errors_name_the_key(value, names):
    with pytest.raises(DaemonConfigError, match=names):
        parse_config(value)


def test_a_configuration_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing", tmp_path / "bad"):
        (tmp_path / "bad").write_bytes(b"{nope")
        with pytest.raises(DaemonConfigError, match=path.name):
            read_config(path)


def test_stats_by_prefix():
    stats = Stats()
    stats.add_pushed("/data/local/tmp/model", 10)
    stats.add_pushed("/data/local/tmp/model", 5)
    stats.add_pushed("/sdcard/x", 1)
    stats.add_pulled("/data/local/tmp/out", 7)
    report = stats.report(["/data/", "/nowhere"])
    assert report["pushed_bytes"] == 16
    assert report["prefixes"] == {
        "/data/": {"pushed_bytes": 15, "pulled_bytes": 7},
        "/nowhere": {"pushed_bytes": 0, "pulled_bytes": 0},
    }


def test_stats_stay_bounded():
    stats = Stats()
    for number in range(10_100):
        stats.add_pushed(f"/{number}", 1)
    report = stats.report(["/1", "/10050"])
    assert report["pushed_bytes"] == 10_100
    assert report["prefixes"]["/1"]["pushed_bytes"] == 1111
    assert report["prefixes"]["/10050"]["pushed_bytes"] == 0, "beyond what is remembered by path"
