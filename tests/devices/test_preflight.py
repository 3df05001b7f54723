"""Preflight checks on reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from droidmace.devices.preflight import PreflightLimits, check, failed
from droidmace.devices.probe import Battery, ProbeReport, ThermalZone

PHONE = ProbeReport(
    serial="s",
    abis=("arm64-v8a", "armeabi-v7a"),
    free_bytes=1 << 30,
    opencl_libraries=("/vendor/lib64/libOpenCL.so", "/vendor/lib/libOpenCL.so"),
    battery=Battery(50.0, False, 30.0),
    thermal=(ThermalZone("cpu-0", 40.0), ThermalZone("pa-therm", 95.0)),
    complete=True,
)


def names_of_failed(report, **changes):
    arguments = {"abi": "arm64-v8a", "needed_bytes": 1 << 20, **changes}
    checks = check(report, **arguments)
    assert all(one.fix for one in checks if not one.ok)
    assert all(one.text for one in checks)
    return [one.name for one in failed(checks)]


def test_a_good_phone_passes():
    assert names_of_failed(PHONE) == []


def test_a_phone_that_tells_nothing_fails_only_on_what_must_be_known():
    assert names_of_failed(ProbeReport(serial="s")) == ["abi", "opencl"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"abis": ("armeabi-v7a",)}, "abi"),
        ({"free_bytes": 1 << 20}, "space"),
        ({"opencl_libraries": ()}, "opencl"),
        ({"opencl_libraries": ("/vendor/lib/libOpenCL.so",)}, "opencl"),
        ({"battery": Battery(19.4, False, 30.0)}, "battery"),
        ({"battery": Battery(50.0, True, 45.5)}, "temperature"),
        ({"thermal": (ThermalZone("gpuss-0-usr", 81.0),)}, "temperature"),
    ],
)
def test_what_fails(change, name):
    assert names_of_failed(replace(PHONE, **change)) == [name]


def test_a_low_battery_is_fine_while_charging():
    assert names_of_failed(replace(PHONE, battery=Battery(5.0, True, 30.0))) == []


def test_a_32_bit_program_needs_the_32_bit_driver():
    report = replace(PHONE, opencl_libraries=("/vendor/lib64/libOpenCL.so",))
    assert names_of_failed(report, abi="armeabi-v7a") == ["opencl"]
    assert names_of_failed(PHONE, abi="armeabi-v7a") == []


def test_limits_are_the_callers():
    strict = PreflightLimits(min_battery_percent=60, max_chip_c=35, reserve_bytes=1 << 30)
    assert names_of_failed(PHONE, limits=strict) == ["space", "battery", "temperature"]
