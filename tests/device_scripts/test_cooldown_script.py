"""cooldown.sh under mksh and dash with toybox: every way in which a wait ends."""

from __future__ import annotations

import pytest

from droidmace.devices.cooldown import cool_down
from droidmace.devices.phone_script import script_command
from droidmace.errors import DeviceError


def test_a_cool_phone_does_not_wait(shell_device, fake_sys):
    fake_sys.zone(0, "cpu-0-0-usr", 41200)
    fake_sys.zone(1, "GPU", 39)
    fake_sys.zone(2, "battery", 55000)
    fake_sys.zone(3, "cpu-skin", 60000)
    fake_sys.zone(4, "cpu-off", -274000)
    fake_sys.zone(5, "cpu-odd", "x")
    result = cool_down(shell_device, 45.0, 60.0)
    assert result.end == "cool"
    assert result.last is not None
    assert (result.last.hottest_c, result.last.zone, result.waited_s) == (41.2, "cpu-0-0-usr", 0.0)


def test_waits_until_it_is_cool(shell_device, fake_sys):
    fake_sys.zone(0, "G3D", 60000)
    steps = []

    def cooler(step):
        steps.append(step)
        fake_sys.zone(0, "G3D", 60000 - 10000 * len(steps))

    result = cool_down(shell_device, 45.0, 60.0, cooler)
    assert result.end == "cool"
    assert result.first == steps[0]
    assert result.last == steps[-1]
    assert steps[0].hottest_c == 60.0
    assert 1 <= result.waited_s < 20
    assert len(steps) >= 2


def test_stops_waiting_for_what_falls_no_more(shell_device, fake_sys):
    fake_sys.zone(0, "G3D", 60000)
    result = cool_down(shell_device, 45.0, 600.0, settled_s=1)
    assert result.end == "settled"
    assert result.last is not None
    assert result.last.hottest_c == 60.0


def test_stops_waiting_when_time_is_up(shell_device, fake_sys):
    fake_sys.zone(0, "G3D", 60000)
    assert cool_down(shell_device, 45.0, 0.0).end == "time"


def test_a_phone_that_shows_no_temperature(shell_device, fake_sys):
    fake_sys.zone(0, "battery", 30000)
    result = cool_down(shell_device, 45.0, 60.0)
    assert (result.end, result.last, result.waited_s) == ("blind", None, 0.0)


@pytest.mark.parametrize("words", [[], ["45000"], ["45000", "x"], ["45;reboot", "1"], ["1", "-2"]])
def test_refuses_what_is_no_number(shell_device, words):
    assert shell_device.run(script_command("cooldown.sh", *words)).exit_code == 2


def test_a_script_that_does_not_end_well_is_an_error(shell_device, fake_sys):
    fake_sys.zone(0, "G3D", 60000)
    shell_device._environment["PATH"] = "/nowhere"
    with pytest.raises(DeviceError, match="did not come to its end"):
        cool_down(shell_device, 45.0, 60.0)
