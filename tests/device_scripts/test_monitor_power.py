"""monitor.sh: the battery's current, voltage and status."""

from __future__ import annotations

import shlex

import pytest

from droidmace.devices.samples import parse_monitor


@pytest.fixture
def one_sample(shell_device, scripts, tmp_path):
    """What a monitor that ends after one sample has seen."""

    def call():
        line = shlex.join([str(scripts / "monitor.sh"), str(tmp_path / "samples"), "1"])
        result = shell_device.run(f'"$SHELL_UNDER_TEST" {line}')
        assert result.exit_code == 0, result
        (sample,) = parse_monitor((tmp_path / "samples").read_text()).samples
        return sample

    return call


def battery(sys, **files):
    for name, text in files.items():
        sys.write(f"class/power_supply/battery/{name}", text)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Charging", "charging"),
        ("Discharging", "discharging"),
        ("Not charging", "not charging"),
        ("Full", "full"),
    ],
)
def test_what_the_battery_does(one_sample, fake_sys, word, status):
    battery(fake_sys, capacity="84", current_now="-650000", voltage_now="4214000", status=word)
    sample = one_sample()
    assert sample.battery_status == status
    assert (sample.battery_ma, sample.battery_v) == (-650.0, 4.214)


def test_a_battery_that_tells_less(one_sample, fake_sys):
    battery(fake_sys, capacity="84", status="Unknown", voltage_now="4214")
    sample = one_sample()
    assert (sample.battery_status, sample.battery_ma, sample.battery_v) == (None, None, 4.214)


def test_a_battery_behind_a_service_has_no_such_columns(one_sample, fake_sys):
    battery(fake_sys, status="Discharging", current_now="-1")
    sample = one_sample()
    assert (sample.battery_status, sample.battery_ma) == (None, None)
