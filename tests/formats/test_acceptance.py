from __future__ import annotations

import dataclasses

import pytest

from droidmace.formats.acceptance import (
    CacheOutcome,
    GpuIdentity,
    GpuType,
    ReusePolicy,
    cache_outcome,
    gpu_type,
    mace_gpu_name,
    precompiled_accepted,
    precompiled_is_consulted,
    qualcomm_build_date,
    qualcomm_remote_branch,
    source_hash_accepted,
    stored_platform_version,
)


def qualcomm(date: str = "11/11/20 Wed", remote_branch: str = "") -> str:
    return (
        f"OpenCL 2.0 QUALCOMM build: commit #3dad7f8ed7 Date: {date}"
        f" Local Branch:  Remote Branch: {remote_branch}"
    )


def adreno(version: str, mace_version: str = "v1.1.1") -> GpuIdentity:
    return GpuIdentity.from_opencl(
        platform_name="QUALCOMM Snapdragon(TM)",
        platform_profile="FULL_PROFILE",
        platform_version=version,
        cl_device_name="QUALCOMM Adreno(TM)",
        cl_device_version="OpenCL 2.0 Adreno(TM) 640",
        mace_version=mace_version,
    )


def mali(version: str = "OpenCL 2.1 v1.r26p0-01eac0", mace_version: str = "v1.1.1") -> GpuIdentity:
    return GpuIdentity.from_opencl(
        platform_name="ARM Platform",
        platform_profile="FULL_PROFILE",
        platform_version=version,
        cl_device_name="Mali-G78",
        cl_device_version="OpenCL 2.1 v1.r26p0",
        mace_version=mace_version,
    )


@pytest.mark.parametrize(
    ("device_name", "device_version", "family", "name"),
    [
        ("QUALCOMM Adreno(TM)", "OpenCL 2.0 Adreno(TM) 640", GpuType.ADRENO, "Adreno(TM) 640"),
        ("QUALCOMM Adreno(TM)", "OpenCL 2.0 ", GpuType.ADRENO, ""),
        ("QUALCOMM Adreno(TM)", "OpenCL", GpuType.ADRENO, ""),
        # Only the exact name counts for Adreno.
        ("QUALCOMM Adreno(TM) 640", "OpenCL 2.0 Adreno(TM) 640", GpuType.UNKNOWN, ""),
        ("Mali-G78 pocl", "OpenCL 3.0", GpuType.MALI, "Mali-G78 pocl"),
        ("PowerVR Rogue GE8320", "OpenCL 1.2 ", GpuType.POWERVR, "PowerVR Rogue GE8320"),
        ("pthread-Intel(R)", "OpenCL 1.2 pocl", GpuType.UNKNOWN, ""),
    ],
)
def test_gpu_names(device_name: str, device_version: str, family: GpuType, name: str) -> None:
    assert gpu_type(device_name) is family
    assert mace_gpu_name(device_name, device_version) == name


def test_platform_info_is_joined_as_mace_stores_it() -> None:
    assert mali().platform_info == (
        "ARM Platform, FULL_PROFILE, OpenCL 2.1 v1.r26p0-01eac0, v1.1.1"
    )
    assert stored_platform_version(mali().platform_info) == mali().platform_version


ANOTHER_MACE = "v1.0.4"


@pytest.mark.parametrize(
    ("stored", "stored_name", "gpu", "outcome"),
    [
        # Mali: the platform version decides once the names are equal.
        (mali(), "Mali-G78", mali(), CacheOutcome.SAME_PLATFORM_INFO),
        (mali(mace_version=ANOTHER_MACE), "Mali-G78", mali(), CacheOutcome.SAME_PLATFORM_VERSION),
        (mali("OpenCL 2.1 v1.r32"), "Mali-G78", mali(), CacheOutcome.PLATFORM_VERSION_DIFFERS),
        (mali(), "Mali-G77", mali(), CacheOutcome.GPU_NAME_DIFFERS),
        (mali(), "", mali(), CacheOutcome.GPU_NAME_MISSING),
        (mali(), None, mali(), CacheOutcome.GPU_NAME_MISSING),
        # A blank at the end is stripped from the stored version, not from the device's own.
        (
            mali("OpenCL 2.1 ", ANOTHER_MACE),
            "Mali-G78",
            mali("OpenCL 2.1 "),
            CacheOutcome.PLATFORM_VERSION_DIFFERS,
        ),
        # A comma in the version cuts it.
        (
            mali("OpenCL 3.0 PoCL 3.1, RELOC, LLVM 14", ANOTHER_MACE),
            "Mali-G78",
            mali("OpenCL 3.0 PoCL 3.1, RELOC, LLVM 14"),
            CacheOutcome.PLATFORM_VERSION_DIFFERS,
        ),
        (
            mali("OpenCL 3.0 PoCL 3.1, RELOC"),
            "Mali-G78",
            mali("OpenCL 3.0 PoCL 3.1, RELOC"),
            CacheOutcome.SAME_PLATFORM_INFO,
        ),
        # Adreno: the branch, else the date.
        (
            adreno(qualcomm("01/01/19 Tue", "refs/tags/AU_1")),
            "Adreno(TM) 640",
            adreno(qualcomm("01/01/18 Mon", "refs/tags/AU_1")),
            CacheOutcome.SAME_REMOTE_BRANCH,
        ),
        (
            adreno(qualcomm("11/11/20 Wed", "refs/tags/AU_1")),
            "Adreno(TM) 640",
            adreno(qualcomm("11/12/20 Thu", "refs/tags/AU_2")),
            CacheOutcome.DRIVER_NOT_OLDER,
        ),
        (
            adreno(qualcomm("11/11/20 Wed"), ANOTHER_MACE),
            "Adreno(TM) 640",
            adreno(qualcomm("11/11/2020 Wed")),
            CacheOutcome.DRIVER_NOT_OLDER,
        ),
        (
            adreno(qualcomm("01/31/21 Sun")),
            "Adreno(TM) 640",
            adreno(qualcomm("12/31/20 Thu")),
            CacheOutcome.DRIVER_OLDER,
        ),
        (
            adreno("OpenCL 2.0 Adreno(TM) 640"),
            "Adreno(TM) 640",
            adreno(qualcomm()),
            CacheOutcome.DRIVER_DATE_UNKNOWN,
        ),
    ],
)
def test_cache_outcomes(
    stored: GpuIdentity, stored_name: str | None, gpu: GpuIdentity, outcome: CacheOutcome
) -> None:
    assert cache_outcome(stored.platform_info, stored_name, gpu) is outcome


def test_a_gpu_without_a_name_never_reuses() -> None:
    gpu = dataclasses.replace(mali(), gpu_type=GpuType.UNKNOWN, device_name="")
    assert cache_outcome(gpu.platform_info, "", gpu) is CacheOutcome.GPU_NAME_EMPTY


def test_policy_none_wants_everything_equal() -> None:
    other = mali(mace_version=ANOTHER_MACE)
    for policy, outcome in (
        (ReusePolicy.REUSE_NONE, CacheOutcome.POLICY_REUSES_NONE),
        (ReusePolicy.REUSE_SAME_GPU, CacheOutcome.SAME_PLATFORM_VERSION),
    ):
        assert cache_outcome(other.platform_info, "Mali-G78", mali(), policy) is outcome
    same = cache_outcome(mali().platform_info, "Mali-G78", mali(), ReusePolicy.REUSE_NONE)
    assert same is CacheOutcome.SAME_PLATFORM_INFO


def test_without_platform_info_nothing_is_compared() -> None:
    assert cache_outcome(None, "another GPU", mali()).accepted


def test_outcomes_say_whether_they_accept() -> None:
    accepting = {outcome for outcome in CacheOutcome if outcome.accepted}
    assert accepting == {
        CacheOutcome.SAME_PLATFORM_INFO,
        CacheOutcome.SAME_PLATFORM_VERSION,
        CacheOutcome.SAME_REMOTE_BRANCH,
        CacheOutcome.DRIVER_NOT_OLDER,
        CacheOutcome.NOTHING_TO_COMPARE,
    }
    assert len({outcome.rule for outcome in CacheOutcome}) == len(CacheOutcome)


@pytest.mark.parametrize("info", ["", "a", "a, b", "a,b,"])
def test_platform_info_without_a_third_part_has_no_version(info: str) -> None:
    assert stored_platform_version(info) == ""
    assert not cache_outcome(info, "Mali-G78", mali()).accepted


@pytest.mark.parametrize(
    ("version", "date"),
    [
        (qualcomm("11/01/16 Fri"), (2016, 11, 1)),
        (qualcomm("11/01/2016 Fri"), (2016, 11, 1)),
        ("Date: 11/01/16", (2016, 11, 1)),
        ("Date: x/1y/16/", (2016, 0, 1)),
        ("Date: 11/01", None),
        ("Date: 1/2/3/4", None),
        ("Date: 1/" + "1" * 5000 + "/16", (2016, 1, int("1" * 18))),
        ("Date:", None),
        ("OpenCL 2.0", None),
    ],
)
def test_qualcomm_dates(version: str, date: tuple[int, int, int] | None) -> None:
    assert qualcomm_build_date(version) == date


def test_qualcomm_branches() -> None:
    assert qualcomm_remote_branch(qualcomm(remote_branch="refs/x  more")) == "refs/x"
    assert qualcomm_remote_branch(qualcomm()) == ""
    assert qualcomm_remote_branch("OpenCL 2.0") == ""


def test_precompiled_files_need_the_whole_platform_info() -> None:
    gpu = mali()
    assert precompiled_accepted(gpu.platform_info, gpu)
    assert not precompiled_accepted(mali(mace_version=ANOTHER_MACE).platform_info, gpu)
    assert not precompiled_accepted(None, gpu)
    assert precompiled_is_consulted(None, gpu)
    assert precompiled_is_consulted("another", gpu)
    assert not precompiled_is_consulted(gpu.platform_info, gpu)


def test_source_hashes_must_be_there_and_equal() -> None:
    assert source_hash_accepted("abc", "abc")
    for stored, runtime in (("abc", "abd"), ("", ""), (None, "abc"), ("abc", "")):
        assert not source_hash_accepted(stored, runtime)
