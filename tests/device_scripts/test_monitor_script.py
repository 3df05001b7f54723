"""monitor.sh under mksh and dash with toybox: what it sees, and every way in which it ends."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from droidmace.devices.monitor import Monitor
from droidmace.devices.phone_script import script_command
from droidmace.devices.samples import parse_monitor


@pytest.fixture
def monitor_path(tmp_path):
    return tmp_path / "samples"


@pytest.fixture
def run_monitor(shell_device, scripts, monitor_path):
    """Runs it to its own end, and reads its file."""

    def call(*limits: str):
        line = shlex.join([str(scripts / "monitor.sh"), str(monitor_path), *limits])
        result = shell_device.run(f'"$SHELL_UNDER_TEST" {line}')
        assert result.exit_code == 0, result
        return parse_monitor(monitor_path.read_text())

    return call


def adreno(sys):
    sys.zone(0, "cpu-0-0-usr", 41200)
    sys.zone(1, "gpuss-0-usr", 61400)
    sys.zone(2, "pm8150-tz", 37000)
    sys.zone(3, "battery", 30500)
    sys.write("class/kgsl/kgsl-3d0/gpuclk", "585000000")
    sys.policy(0, "schedutil")
    sys.policy(4, "schedutil")
    for name, value in (("capacity", "84"), ("temp", "305"), ("current_now", "-450000")):
        sys.write(f"class/power_supply/battery/{name}", value)


def test_samples_arrive_once_a_second_and_lie_in_a_file(shell_device, fake_sys, monitor_path):
    adreno(fake_sys)
    heard = []
    with Monitor(shell_device, path=str(monitor_path), on_sample=heard.append) as monitor:
        assert monitor.wait_for_samples(1, 20)
        fake_sys.write("class/kgsl/kgsl-3d0/gpuclk", "257000000")
        fake_sys.zone(1, "gpuss-0-usr", 88000)
        assert monitor.wait_for_samples(3, 20)
        assert monitor.so_far.samples == monitor.samples
    log = monitor.log
    assert (log.end, log.unreadable_lines, monitor.note) == ("stopped", 0, None)
    assert list(log.samples) == heard
    first, last = log.samples[0], log.samples[-1]
    assert first.zones_c == {"cpu-0-0-usr": 41.2, "gpuss-0-usr": 61.4, "battery": 30.5}
    assert (first.gpu_mhz, first.cpu_mhz) == (585.0, (1785.6, 1785.6))
    assert (first.battery_percent, first.battery_c, first.battery_ma) == (84.0, 30.5, -450.0)
    assert (last.gpu_mhz, last.hottest_c) == (257.0, 88.0)
    # Its own count of seconds; what the machine is late by is not added up.
    span_s = last.uptime_s - first.uptime_s
    assert span_s >= len(log.samples) - 1.5
    assert log.clock_offset_s is not None
    assert log.during(first.uptime_s + log.clock_offset_s, float("inf")) == log.samples
    assert not monitor_path.exists()


def test_a_phone_that_shows_nothing(shell_device, monitor_path):
    with Monitor(shell_device, path=str(monitor_path)) as monitor:
        assert monitor.wait_for_samples(1, 20)
    assert monitor.log.samples[0].zones_c == {}
    assert monitor.log.samples[0].gpu_mhz is None


def test_ends_after_its_time(run_monitor, fake_sys):
    fake_sys.zone(0, "G3D", 41000)
    log = run_monitor("2")
    assert (log.end, len(log.samples)) == ("time", 2)


def test_ends_when_its_file_is_large_enough(run_monitor, fake_sys, monitor_path):
    fake_sys.zone(0, "G3D", 41000)
    log = run_monitor("1000", "70")  # the head has 63
    assert (log.end, len(log.samples)) == ("size", 1)
    assert monitor_path.stat().st_size < 100


def test_ends_when_the_host_is_gone(shell_device, fake_sys, monitor_path):
    adreno(fake_sys)
    with subprocess.Popen(
        [shell_device._shell, "-c", script_command("monitor.sh", str(monitor_path))],
        env=shell_device._environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.stdout.readline() != "samples\n":
            pass
        process.stdout.close()
        assert process.stderr.read() == ""
    log = parse_monitor(monitor_path.read_text())
    assert log.end == "host-gone"
    assert log.samples


def test_a_file_that_cannot_be_written(shell_device, tmp_path):
    result = shell_device.run(script_command("monitor.sh", str(tmp_path / "nowhere" / "file")))
    assert (result.exit_code, result.text) == (73, "")
    assert "cannot write" in result.error_text
    with Monitor(shell_device, path=str(tmp_path / "nowhere" / "file")) as monitor:
        assert not monitor.wait_for_samples(1, 20)
    assert monitor.note is not None


def test_what_cannot_be_read_is_left_out(run_monitor, fake_sys):
    for number, value in enumerate(("", "hot", "9" * 30, "-", "4 1", "-5000"), start=1):
        fake_sys.zone(number, f"cpu-{number}", value)
    fake_sys.zone(7, "cpu 7; reboot $(reboot)", 43000)
    fake_sys.write("class/thermal/thermal_zone8/type", "cpu-8")
    log = run_monitor("1")
    assert log.unreadable_lines == 0
    assert log.samples[0].zones_c == {"cpu-5": 4.0, "cpu-6": -5.0, "unnamed": 43.0}


def test_a_zone_that_goes_away(shell_device, fake_sys, monitor_path):
    adreno(fake_sys)
    with Monitor(shell_device, path=str(monitor_path)) as monitor:
        assert monitor.wait_for_samples(1, 20)
        (fake_sys.root / "class/thermal/thermal_zone0/temp").unlink()
        assert monitor.wait_for_samples(3, 20)
    assert set(monitor.log.samples[-1].zones_c) == {"gpuss-0-usr", "battery"}
    assert monitor.log.unreadable_lines == 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("class/kgsl/kgsl-3d0/devfreq/cur_freq", "585000000"),
        ("class/devfreq/5000000.qcom,kgsl-3d0/cur_freq", "585000000"),
        ("class/devfreq/18500000.mali/cur_freq", "585000000"),
        ("class/devfreq/gpufreq/cur_freq", "585000000"),
        ("kernel/gpu/gpu_clock", "585"),
    ],
)
def test_finds_the_gpu_clock(run_monitor, fake_sys, path, value):
    fake_sys.write("class/devfreq/17000010.devfreq_mif/cur_freq", "421000000")
    fake_sys.write(path, value)
    assert run_monitor("1").samples[0].gpu_mhz == 585.0


def test_asks_the_battery_service_where_the_files_are_hidden(run_monitor, shell_device, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dumpsys").write_text('#!/bin/sh\necho "  level: 71"; echo "  temperature: 290"\n')
    (tools / "dumpsys").chmod(0o755)
    shell_device._environment["PATH"] = f"{tools}:{shell_device._environment['PATH']}"
    sample = run_monitor("1").samples[0]
    assert (sample.battery_percent, sample.battery_c, sample.battery_ma) == (71.0, 29.0, None)
