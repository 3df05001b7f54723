from __future__ import annotations

import dataclasses

import pytest

from droidmace.bundle.validity import Route, forecast, release_of
from droidmace.formats.acceptance import GpuIdentity, GpuType, ReusePolicy
from droidmace.formats.compiled_program import CompiledProgram, StoredProgram
from droidmace.formats.kvstore import Generation

ADRENO = GpuIdentity(
    gpu_type=GpuType.ADRENO,
    device_name="Adreno(TM) 640",
    platform_name="QUALCOMM Snapdragon(TM)",
    platform_profile="FULL_PROFILE",
    platform_version="OpenCL 2.0 QUALCOMM build: 1 Date: 11/11/20 Wed Remote Branch: refs/a",
    mace_version="v1.1.1",
)
MALI = GpuIdentity(
    gpu_type=GpuType.MALI,
    device_name="Mali-G78",
    platform_name="ARM Platform",
    platform_profile="FULL_PROFILE",
    platform_version="OpenCL 2.1 v1.r26p0",
    mace_version="v1.1.1",
)


def program_of(gpu: GpuIdentity, generation: Generation = Generation.CURRENT) -> CompiledProgram:
    built = CompiledProgram.build(
        platform_info=gpu.platform_info,
        device_name=gpu.device_name,
        programs=[StoredProgram("pooling", b"binary", "hash")],
        generation=generation,
    )
    return CompiledProgram.parse(built.serialize())


def with_version(gpu: GpuIdentity, platform_version: str) -> GpuIdentity:
    return dataclasses.replace(gpu, platform_version=platform_version)


def test_the_same_phone_takes_it_by_both_routes() -> None:
    for gpu in (ADRENO, MALI):
        found = forecast(program_of(gpu), gpu)
        assert found.cache.accepted
        assert found.precompiled.accepted
        assert (found.cache.route, found.precompiled.route) == (Route.CACHE, Route.PRECOMPILED)


def test_another_gpu_takes_it_by_no_route() -> None:
    found = forecast(program_of(ADRENO), MALI)
    assert not found.usable
    assert "'Adreno(TM) 640'" in found.cache.reason
    assert "'Mali-G78'" in found.cache.reason
    assert MALI.platform_info in found.precompiled.reason


def test_the_precompiled_route_does_not_look_at_the_gpu() -> None:
    found = forecast(program_of(MALI), dataclasses.replace(MALI, device_name="Mali-G77"))
    assert not found.cache.accepted
    assert found.precompiled.accepted
    assert found.usable


def test_another_mace_release_keeps_the_cache_only() -> None:
    found = forecast(program_of(MALI), dataclasses.replace(MALI, mace_version="v1.0.4"))
    assert found.cache.accepted
    assert not found.precompiled.accepted
    none = forecast(
        program_of(MALI),
        dataclasses.replace(MALI, mace_version="v1.0.4"),
        ReusePolicy.REUSE_NONE,
    )
    assert not none.cache.accepted
    assert "REUSE_NONE" in none.cache.reason


@pytest.mark.parametrize(
    ("version", "accepted", "reason"),
    [
        ("OpenCL 2.0 Date: 01/01/19 Tue Remote Branch: refs/a", True, "remote branch 'refs/a'"),
        ("OpenCL 2.0 Date: 12/01/20 Tue Remote Branch: refs/b", True, "2020-12-01 is not older"),
        ("OpenCL 2.0 Date: 11/10/20 Tue", False, "2020-11-10 is older than that of 2020-11-11"),
        ("OpenCL 2.0", False, "no two dates"),
    ],
)
def test_an_adreno_driver_is_judged_by_branch_and_date(
    version: str, accepted: bool, reason: str
) -> None:
    found = forecast(program_of(ADRENO), with_version(ADRENO, version))
    assert found.cache.accepted is accepted
    assert reason in found.cache.reason


def test_a_mali_driver_must_be_the_same_and_commas_defeat_it() -> None:
    found = forecast(program_of(MALI), with_version(MALI, "OpenCL 2.1 v1.r32p1"))
    assert not found.cache.accepted
    assert "'OpenCL 2.1 v1.r26p0'" in found.cache.reason
    assert "comma" not in found.cache.reason

    pocl = with_version(MALI, "OpenCL 3.0 PoCL 3.1, RELOC")
    assert forecast(program_of(pocl), pocl).cache.accepted
    found = forecast(program_of(pocl), dataclasses.replace(pocl, mace_version="v1.1.0"))
    assert not found.cache.accepted
    assert "at its first comma" in found.cache.reason


def test_a_gpu_that_mace_does_not_know_has_no_cache() -> None:
    unknown = dataclasses.replace(MALI, gpu_type=GpuType.UNKNOWN, device_name="")
    found = forecast(program_of(unknown), unknown)
    assert not found.cache.accepted
    assert "neither Adreno, Mali nor PowerVR" in found.cache.reason
    assert found.precompiled.accepted
    nameless = dataclasses.replace(ADRENO, device_name="")
    assert "CL_DEVICE_VERSION" in forecast(program_of(nameless), nameless).cache.reason


def test_a_file_without_a_gpu_name_is_refused_by_the_cache_route() -> None:
    program = program_of(dataclasses.replace(MALI, device_name=""))
    assert "no GPU name" in forecast(program, MALI).cache.reason


def test_layouts_and_releases_must_fit() -> None:
    old = dataclasses.replace(MALI, mace_version="v1.0.2")
    for program, gpu in (
        (program_of(MALI, Generation.LEGACY), MALI),
        (program_of(old), old),
    ):
        found = forecast(program, gpu)
        assert not found.usable
        assert "layout" in found.cache.reason
        assert found.precompiled.reason == found.cache.reason
    assert forecast(program_of(old, Generation.LEGACY), old).cache.accepted
    odd = dataclasses.replace(MALI, mace_version="custom")
    assert forecast(program_of(odd), odd).usable


def test_releases_are_read_from_versions() -> None:
    assert release_of("v1.1.1-23-g0fc55a54") == (1, 1, 1)
    assert release_of("1.0.10") == (1, 0, 10)
    assert release_of("unknown") is None
    assert release_of("1." + "1" * 5000 + ".1") is None
