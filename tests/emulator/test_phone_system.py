"""The phone's own system, as a host sees it over adb."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from droidmace.emulator.manager import Phone
from droidmace.errors import EmulatorError

if TYPE_CHECKING:
    from conftest import PhoneLab


def test_properties_follow_the_profile(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    listing = phone_lab.output(adreno_phone, "getprop").splitlines()
    assert listing == sorted(listing)
    assert "[ro.product.model]: [MI 9]" in listing
    expected = {
        "ro.board.platform": "msmnile",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.build.version.release": "11",
        "ro.serialno": adreno_phone.serialno,
        "ro.vendor.mace_run": "/vendor/bin/mace_run",
        "sys.boot_completed": "1",
    }
    for name, value in expected.items():
        assert phone_lab.output(adreno_phone, f"getprop {name}") == value
    assert phone_lab.output(adreno_phone, "getprop no.such.property") == ""
    assert phone_lab.output(adreno_phone, "getprop no.such.property else") == "else"


def test_setprop(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    value = "two words, a 'quote' and a $dollar \\ backslash"
    phone_lab.output(adreno_phone, "setprop debug.test \"$(cat <<'E'\n" + value + '\nE\n)"')
    assert phone_lab.output(adreno_phone, "getprop debug.test") == value
    assert f"[debug.test]: [{value}]" in phone_lab.output(adreno_phone, "getprop").splitlines()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ro.product.model", "x"),
        ("../escape", "x"),
        (".hidden", "x"),
        ("a/b", "x"),
        ("''", "x"),
        ("debug.long", "x" * 92),
    ],
)
def test_setprop_refuses(phone_lab: PhoneLab, adreno_phone: Phone, name: str, value: str) -> None:
    before = phone_lab.output(adreno_phone, "getprop")
    result = phone_lab.shell(adreno_phone, f"setprop {name} {value}")
    assert result.returncode == 1
    assert "Failed to set property" in result.stderr
    assert phone_lab.output(adreno_phone, "getprop") == before


def test_battery_and_heat(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    assert "  level: 84\n" in phone_lab.output(adreno_phone, "dumpsys battery")
    assert "  temperature: 305\n" in phone_lab.output(adreno_phone, "dumpsys battery")
    zones = "for z in /sys/class/thermal/thermal_zone*; do echo $(cat $z/type $z/temp); done"
    assert "gpuss-0-usr 39400" in phone_lab.output(adreno_phone, zones).splitlines()
    try:
        adreno_phone.set_battery(level=3, temperature_c=51.2)
        adreno_phone.set_temperature(97.5, zone="gpuss-0-usr")
        battery = phone_lab.output(adreno_phone, "dumpsys battery")
        assert "  level: 3\n" in battery
        assert "  temperature: 512\n" in battery
        heat = phone_lab.output(adreno_phone, zones).splitlines()
        assert "gpuss-0-usr 97500" in heat
        assert "cpu-0-0-usr 41200" in heat
    finally:
        adreno_phone.set_battery(level=84, temperature_c=30.5)
        adreno_phone.set_temperature(39.4, zone="gpuss-0-usr")


def test_unknown_thermal_zone(adreno_phone: Phone) -> None:
    with pytest.raises(EmulatorError, match="no thermal zone 'gpu'"):
        adreno_phone.set_temperature(50, zone="gpu")


def test_clocks_and_governors(phone_lab: PhoneLab, adreno_phone: Phone, mali_phone: Phone) -> None:
    cpu = "/sys/devices/system/cpu/cpufreq"
    command = f"cat {cpu}/*/scaling_cur_freq {cpu}/*/scaling_governor"
    assert phone_lab.output(adreno_phone, command).split() == [
        "1785600", "2419200", "2841600", "schedutil", "schedutil", "schedutil",
    ]  # fmt: skip
    kgsl, mali = "/sys/class/kgsl/kgsl-3d0", "/sys/class/devfreq/18500000.mali"
    gpu = f"cat {kgsl}/gpuclk {kgsl}/devfreq/cur_freq {kgsl}/devfreq/governor"
    assert phone_lab.output(adreno_phone, gpu).split() == [
        "585000000", "585000000", "msm-adreno-tz",
    ]  # fmt: skip
    gpu = f"cat {mali}/cur_freq {mali}/governor"
    try:
        mali_phone.set_gpu_clock(377)
        mali_phone.set_cpu_clock(1100)
        assert phone_lab.output(mali_phone, gpu).split() == ["377000000", "simple_ondemand"]
        assert phone_lab.output(mali_phone, f"cat {cpu}/*/scaling_cur_freq") == "\n".join(
            ["1100000"] * 3
        )
    finally:
        mali_phone.clear_faults()
    assert phone_lab.output(mali_phone, gpu).split()[0] == "848000000"
    with pytest.raises(EmulatorError, match="no CPU policy 'policy9'"):
        mali_phone.set_cpu_clock(1, policy="policy9")
    for path in (f"{cpu}/policy0/scaling_governor", f"{mali}/governor"):
        result = phone_lab.shell(mali_phone, f"echo performance > {path}")
        assert "Read-only file system" in result.stderr
    # The host's processors are still there to be counted.
    assert phone_lab.output(mali_phone, "ls -d /sys/devices/system/cpu/cpu0")


def test_gpu_is_told_by_surfaceflinger(
    phone_lab: PhoneLab, adreno_phone: Phone, mali_phone: Phone
) -> None:
    command = "dumpsys SurfaceFlinger | grep GLES:"
    assert "Adreno (TM) 640" in phone_lab.output(adreno_phone, command)
    assert "Mali-G78" in phone_lab.output(mali_phone, command)


def test_opencl_library_is_where_mace_looks(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    magic = phone_lab.output(adreno_phone, "head -c 4 /system/vendor/lib64/libOpenCL.so | xxd -p")
    assert magic == "7f454c46"


def test_gpu_identity_names_the_real_driver(phone_lab: PhoneLab, mali_phone: Phone) -> None:
    path = phone_lab.output(mali_phone, "echo $DROIDMACE_GPU_IDENTITY")
    identity = json.loads(phone_lab.output(mali_phone, f"cat {path}"))
    assert set(identity) == {
        "platform_name", "platform_profile", "platform_version", "device_name", "device_version",
    }  # fmt: skip
    assert identity["device_name"] == "Mali-G78 r0p1"
    assert "pocl-" in identity["platform_version"]
    assert "," not in identity["platform_version"]


def test_applets_and_shell(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    output = phone_lab.output
    assert "MIRBSD KSH" in output(adreno_phone, "echo $KSH_VERSION")
    assert output(adreno_phone, "printf 'b\\na\\n' | sort | tr a-z A-Z") == "A\nB"
    assert output(adreno_phone, "echo hi | md5sum") == "764efa883dda1e11db47671c4a3bbd9e  -"
    assert output(adreno_phone, "dd if=/dev/zero bs=1024 count=3 2>/dev/null | wc -c") == "3072"
    assert output(adreno_phone, "whoami") == "shell"
    assert phone_lab.shell(adreno_phone, "exit 3").returncode == 3


def test_df_names_the_data_partition(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    for path in ("/data/local/tmp", "/sdcard"):
        assert phone_lab.output(adreno_phone, f"df {path} | tail -n 1").split()[-1] == "/data"


def test_the_terminal_can_be_asked(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    asked = phone_lab.run_adb("-s", adreno_phone.serial, "shell", "-t", "-t", "stty size")
    assert (asked.returncode, len(asked.stdout.split())) == (0, 2), asked


def test_sdcard_is_one_place(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    phone_lab.output(adreno_phone, "echo here > /sdcard/where")
    assert (
        phone_lab.output(adreno_phone, "cat /storage/emulated/0/where; rm /sdcard/where") == "here"
    )


def test_log(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    write = "logcat -c; log -t MACE -p e broken; log -t MACE fine; log -t other 'x: MACE: y'"
    phone_lab.output(adreno_phone, write)
    everything = phone_lab.output(adreno_phone, "logcat -d").splitlines()
    assert [line.split(": ", 1)[1] for line in everything] == ["broken", "fine", "x: MACE: y"]
    mace = phone_lab.output(adreno_phone, "logcat -d -s MACE").splitlines()
    assert [line.split(": ", 1)[1] for line in mace] == ["broken", "fine"]
    errors = phone_lab.output(adreno_phone, "logcat -d MACE:E '*:S'").splitlines()
    assert [line.split(": ", 1)[1] for line in errors] == ["broken"]
    assert phone_lab.output(adreno_phone, "logcat -t 1").endswith("x: MACE: y")
    pid = everything[0].split()[2]
    assert phone_lab.output(adreno_phone, f"logcat -d --pid={pid}").splitlines() == everything
    assert phone_lab.output(adreno_phone, f"logcat -d --pid={pid} -s MACE").splitlines() == mace
    assert phone_lab.output(adreno_phone, "logcat -d --pid=1") == ""
    assert phone_lab.shell(adreno_phone, "logcat -d --pid=x").returncode == 1
    assert phone_lab.output(adreno_phone, "logcat -c; logcat -d") == ""


def test_logcat_follows(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    phone_lab.output(adreno_phone, "logcat -c")
    command = [phone_lab.adb, "-s", adreno_phone.serial, "logcat", "-s", "MACE"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=phone_lab.environment) as logcat:
        assert logcat.stdout is not None
        phone_lab.output(adreno_phone, "log -t other no; log -t MACE yes")
        assert logcat.stdout.readline().endswith(b"MACE: yes\n")
        phone_lab.output(adreno_phone, "log -t MACE again")
        assert logcat.stdout.readline().endswith(b"MACE: again\n")
        logcat.terminate()


@pytest.mark.parametrize("command", [["shell", "reboot"], ["reboot"]])
def test_reboot_reboots_the_phone(
    phone_lab: PhoneLab, start_phone: Callable[..., Phone], command: list[str]
) -> None:
    phone = start_phone()
    assert phone.boots == 1
    phone_lab.output(phone, "setprop debug.gone 1; setprop persist.kept 1; echo 1 > /sdcard/kept")
    phone_lab.run_adb("-s", phone.serial, *command)
    phone.wait_for_boot(2)
    state = "echo $(getprop debug.gone) $(getprop persist.kept) $(cat /sdcard/kept)"
    assert phone_lab.output(phone, state) == "1 1"
    phone.reboot()
    assert phone_lab.output(phone, state) == "1 1"
