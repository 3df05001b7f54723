"""On a whole emulated phone: watched, pinned, unplugged, left by its host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bare_phone import wait_until

from droidmace.devices.cooldown import cool_down
from droidmace.devices.governors import STATE_PATH, pinned_governors, restore_governors
from droidmace.devices.monitor import MONITOR_PATH, Monitor
from droidmace.devices.phone_script import script_command
from droidmace.devices.samples import parse_monitor
from droidmace.devices.select import find_device
from droidmace.emulator import manager
from droidmace.emulator.manager import Phone

PINNED = {"performance"}
AS_IT_WAS = {"schedutil", "msm-adreno-tz"}


@pytest.fixture(scope="module")
def rooted_phone(phone_lab):
    phone = manager.start_phone("rooted", "adreno", overrides={"rooted": True})
    yield phone
    manager.delete_phone(phone.name)


@pytest.fixture
def phone(rooted_phone) -> Phone:
    yield rooted_phone
    rooted_phone.clear_faults()
    rooted_phone.wait_for_adb()


def governors(phone: Phone) -> set[str]:
    """All that the phone's governors are set to, seen past adb."""
    files = [*phone.folder.glob("sys/**/scaling_governor"), *phone.folder.glob("sys/**/governor")]
    assert len(files) == 4
    return {file.read_text().strip() for file in files}


def scripts_running(phone: Phone) -> str:
    """The lines of ``ps`` on the phone that name one of our scripts."""
    command = "ps -A -o ARGS | grep -E '(monitor|governor)[.]sh'"
    return find_device(phone.serial).run(command).text


def unplug(phone: Phone) -> None:
    phone.fault({"kind": "unplug", "now": True, "refuse": True})


def plug_in(phone: Phone) -> None:
    phone.clear_faults()
    phone.wait_for_adb()


def test_a_throttling_phone_is_seen(phone):
    device = find_device(phone.serial)
    with Monitor(device) as monitor:
        assert monitor.wait_for_samples(1, 20)
        phone.set_gpu_clock(257)
        phone.set_cpu_clock(1113.6, policy="policy7")
        phone.set_temperature(91.5, zone="gpuss-0-usr")
        assert monitor.wait_for_samples(3, 20)
    first, last = monitor.log.samples[0], monitor.log.samples[-1]
    assert (first.gpu_mhz, first.hottest_c) == (585.0, 42.6)
    assert first.cpu_mhz == (1785.6, 2419.2, 2841.6)
    assert (first.battery_percent, first.battery_ma) == (84.0, 450.0)
    assert (last.gpu_mhz, last.hottest_c) == (257.0, 91.5)
    assert last.cpu_mhz == (1785.6, 2419.2, 1113.6)
    assert (monitor.log.end, monitor.note) == ("stopped", None)
    assert device.stat(MONITOR_PATH) is None


def test_waits_while_the_phone_cools(phone):
    phone.set_temperature(70)

    def cooler(step):
        phone.set_temperature(step.hottest_c - 30)

    result = cool_down(find_device(phone.serial), 45, 60, cooler)
    assert result.end == "cool"
    assert result.first is not None
    assert result.first.hottest_c == 70


def test_governors_are_back_after_the_work(phone):
    device = find_device(phone.serial)
    with pinned_governors(device) as pin:
        assert governors(phone) == PINNED
        assert len(pin.pinned) == 4
    assert pin.restored is True
    assert governors(phone) == AS_IT_WAS
    assert device.stat(STATE_PATH) is None


def test_all_ends_when_the_cable_is_pulled(phone):
    device = find_device(phone.serial)
    with Monitor(device) as monitor, pinned_governors(device) as pin:
        assert monitor.wait_for_samples(1, 20)
        assert governors(phone) == PINNED
        unplug(phone)
        wait_until(lambda: governors(phone) == AS_IT_WAS, "the phone restores its governors")
    assert pin.restored is False
    assert monitor.note is not None
    assert monitor.log.samples, "what had arrived is kept"
    plug_in(phone)
    wait_until(lambda: not scripts_running(phone), "the scripts end")
    log = parse_monitor(device.run(f"cat {MONITOR_PATH}").text)
    assert log.end in ("stopped", "host-gone")
    assert restore_governors(device), "nothing is left to do"


_WORK = """
import sys, time
from droidmace.devices.governors import pinned_governors
from droidmace.devices.monitor import Monitor
from droidmace.devices.select import find_device

device = find_device(sys.argv[1])
with Monitor(device) as monitor, pinned_governors(device):
    monitor.wait_for_samples(1, 20)
    print("up", flush=True)
    time.sleep(60)
"""


def test_all_ends_when_the_host_is_killed(phone):
    with subprocess.Popen(
        [sys.executable, "-c", _WORK, phone.serial], stdout=subprocess.PIPE, text=True
    ) as work:
        assert work.stdout is not None
        assert work.stdout.readline() == "up\n"
        assert governors(phone) == PINNED
        work.kill()
    wait_until(lambda: governors(phone) == AS_IT_WAS, "the phone restores its governors")
    wait_until(lambda: not scripts_running(phone), "the scripts end")
    log = parse_monitor(find_device(phone.serial).run(f"cat {MONITOR_PATH}").text)
    assert log.end in ("stopped", "host-gone")
    assert log.samples


def test_a_phone_that_permits_nothing_says_so(adreno_phone):
    with pinned_governors(find_device(adreno_phone.serial)) as pin:
        assert governors(adreno_phone) == AS_IT_WAS
        assert pin.pinned == ()
        assert pin.note == "4 left alone: not permitted"
    assert pin.restored is True


@pytest.mark.parametrize(
    "su",
    [
        # As most phones that have one: su -c COMMAND.
        '[ "$1" = -c ] || exit 1; set -- sh -c "$2"',
        # As Android's own: su USER PROGRAM ARGUMENT...
        '[ "$1" = 0 ] || exit 1; shift',
    ],
    ids=["su -c", "su 0"],
)
def test_root_is_used_where_there_is_su(adreno_phone, su):
    """A su that can write what the shell cannot; the shell is no root here, so -w tells it."""
    folder = "/data/local/tmp/su_test"
    policy = f"{folder}/sys/devices/system/cpu/cpufreq/policy0"
    device = find_device(adreno_phone.serial)
    program = (
        f"#!/system/bin/sh\n{su}\n"
        'case $* in *"id -u") echo 0; exit ;; esac\n'
        f'echo "$*" >>{folder}/log\n'
        f'chmod u+w {policy}/scaling_governor; "$@"; chmod a-w {policy}/scaling_governor\n'
    )
    try:
        device.push(program.encode(), f"{folder}/bin/su", mode=0o755)
        device.push(b"walt\n", f"{policy}/scaling_governor", mode=0o444)
        result = device.run(
            f"chmod a-w {policy}/scaling_governor; "
            f"export PATH={folder}/bin:$PATH DROIDMACE_SYS={folder}/sys; "
            + script_command("governor.sh", "hold", f"{folder}/state", "1")
        )
        assert result.text.splitlines()[1:] == [
            f"pinned {policy}/scaling_governor walt", "ready", "restored",
        ]  # fmt: skip
        log = device.run(f"cat {folder}/log {policy}/scaling_governor").text
        assert log.count("echo 'performance'") == 1
        assert log.count("echo 'walt'") == 1
        assert log.endswith("walt\n")
    finally:
        device.remove(folder)


def test_the_scripts_leave_the_hosts_files_alone(rooted_phone, tmp_path):
    """What a rooted phone may write is the governors' content; not what lies beside them."""
    folder = "/sys/devices/system/cpu/cpufreq/policy0"
    device = find_device(rooted_phone.serial)
    for command in (
        f"echo 1 >{folder}/scaling_cur_freq",
        f"ln -s /etc/passwd {folder}/.scaling_cur_freq.new",
        f"rm {folder}/scaling_governor",
        f"mv {folder}/scaling_governor {folder}/x",
    ):
        assert device.run(command).exit_code != 0, command
    assert sorted(Path(rooted_phone.folder, "sys/cpufreq/policy0").iterdir()) == [
        rooted_phone.folder / "sys/cpufreq/policy0" / name
        for name in ("scaling_available_governors", "scaling_cur_freq", "scaling_governor")
    ]
