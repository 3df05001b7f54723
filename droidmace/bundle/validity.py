"""The offline oracle: will a phone take this compiled program, by which route, and if not, why?

It phrases verdicts from MACE's own rules (:mod:`droidmace.formats.acceptance`). It speaks of what
MACE checks before the driver sees a binary; whether the driver takes it shows on the phone only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from droidmace.formats.acceptance import (
    CacheOutcome,
    GpuIdentity,
    GpuType,
    ReusePolicy,
    cache_outcome,
    precompiled_accepted,
    qualcomm_build_date,
    qualcomm_remote_branch,
    stored_platform_version,
)
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.kvstore import Generation

FIRST_CURRENT_VERSION = (1, 0, 3)
"""The first MACE release that reads and writes the current layout."""


class Route(StrEnum):
    """The two ways in which ``mace_run`` is given a compiled program."""

    CACHE = "cache"
    """In the storage path, or by ``--opencl_cache_full_path``."""
    PRECOMPILED = "precompiled"
    """By ``--opencl_binary_file``."""


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """Whether MACE takes the file by this route, and the rule that decides, as a sentence."""

    route: Route
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """The verdicts on one file and one phone."""

    cache: RouteVerdict
    precompiled: RouteVerdict

    @property
    def usable(self) -> bool:
        """Whether any route takes it."""
        return self.cache.accepted or self.precompiled.accepted


def forecast(
    program: CompiledProgram,
    gpu: GpuIdentity,
    policy: ReusePolicy = ReusePolicy.REUSE_SAME_GPU,
) -> Forecast:
    """Predict both routes for ``program`` on the phone that ``gpu`` describes."""
    return Forecast(cache_verdict(program, gpu, policy), precompiled_verdict(program, gpu))


def cache_verdict(
    program: CompiledProgram,
    gpu: GpuIdentity,
    policy: ReusePolicy = ReusePolicy.REUSE_SAME_GPU,
) -> RouteVerdict:
    """Predict the cache route.

    Accepted means that MACE keeps the file; each program in it is then used only if the hash of
    its source equals that of the runtime's own kernel.
    """
    unreadable = _layout_mismatch(program, gpu)
    if unreadable:
        return RouteVerdict(Route.CACHE, accepted=False, reason=unreadable)
    if program.generation is Generation.LEGACY:
        # MACE before 1.0.3 knew neither GPU names nor reuse policies.
        return _whole_info_verdict(Route.CACHE, program, gpu)
    outcome = cache_outcome(program.platform_info, program.device_name, gpu, policy)
    return RouteVerdict(Route.CACHE, outcome.accepted, _phrase(outcome, program, gpu))


def precompiled_verdict(program: CompiledProgram, gpu: GpuIdentity) -> RouteVerdict:
    """Predict the precompiled route: the whole platform info decides, MACE version included.

    Neither the GPU's name nor source hashes are looked at there.
    """
    unreadable = _layout_mismatch(program, gpu)
    if unreadable:
        return RouteVerdict(Route.PRECOMPILED, accepted=False, reason=unreadable)
    return _whole_info_verdict(Route.PRECOMPILED, program, gpu)


def _whole_info_verdict(route: Route, program: CompiledProgram, gpu: GpuIdentity) -> RouteVerdict:
    if precompiled_accepted(program.platform_info, gpu):
        return RouteVerdict(route, accepted=True, reason="the platform info is the same")
    return RouteVerdict(
        route,
        accepted=False,
        reason="the whole platform info must be equal: the file has"
        f" {program.platform_info!r}, the phone {gpu.platform_info!r}",
    )


def _layout_mismatch(program: CompiledProgram, gpu: GpuIdentity) -> str | None:
    """Why this MACE cannot read the file's layout; None if it can or its version is unknown."""
    version = release_of(gpu.mace_version)
    if version is None:
        return None
    reads = Generation.CURRENT if version >= FIRST_CURRENT_VERSION else Generation.LEGACY
    if reads is program.generation:
        return None
    return (
        f"MACE {gpu.mace_version} reads the {reads.value} layout only, this file has the"
        f" {program.generation.value} one"
    )


def release_of(mace_version: str) -> tuple[int, int, int] | None:
    """The release in a MACE version (``v1.1.1-23-gabcdef``), or None."""
    found = re.match(r"v?([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})", mace_version)
    if found is None:
        return None
    major, minor, patch = (int(number) for number in found.groups())
    return major, minor, patch


def _phrase(outcome: CacheOutcome, program: CompiledProgram, gpu: GpuIdentity) -> str:
    cached = stored_platform_version(program.platform_info)
    match outcome:
        case CacheOutcome.SAME_PLATFORM_INFO:
            return "the GPU and the platform info are the same"
        case CacheOutcome.SAME_PLATFORM_VERSION:
            return f"the GPU and the OpenCL platform version {cached!r} are the same"
        case CacheOutcome.SAME_REMOTE_BRANCH:
            return (
                "the GPU and the driver's remote branch"
                f" {qualcomm_remote_branch(cached)!r} are the same"
            )
        case CacheOutcome.DRIVER_NOT_OLDER:
            return (
                f"the GPU is the same, and the phone's driver of {_date(gpu.platform_version)} is"
                f" not older than that of {_date(cached)} in the file"
            )
        case CacheOutcome.NOTHING_TO_COMPARE:
            return "the file has no platform info, and MACE then compares nothing"
        case CacheOutcome.GPU_NAME_EMPTY:
            return _no_gpu_name(gpu)
        case CacheOutcome.GPU_NAME_MISSING:
            return "the file has no GPU name, which MACE never matches"
        case CacheOutcome.GPU_NAME_DIFFERS:
            return (
                f"the file was compiled for the GPU {program.device_name!r}, the phone has"
                f" {gpu.device_name!r}"
            )
        case CacheOutcome.POLICY_REUSES_NONE:
            return "the platform info differs, and policy 0 (REUSE_NONE) then reuses nothing"
        case CacheOutcome.PLATFORM_VERSION_DIFFERS:
            return _other_version(cached, gpu)
        case CacheOutcome.DRIVER_OLDER:
            return (
                f"the phone's driver of {_date(gpu.platform_version)} is older than that of"
                f" {_date(cached)} in the file"
            )
        case CacheOutcome.DRIVER_DATE_UNKNOWN:
            return (
                "the driver's remote branch differs, and the platform versions have no two dates to"
                f" compare: the file has {cached!r}, the phone {gpu.platform_version!r}"
            )


def _no_gpu_name(gpu: GpuIdentity) -> str:
    if gpu.gpu_type is GpuType.UNKNOWN:
        return (
            "the phone's GPU is neither Adreno, Mali nor PowerVR: MACE gives it no name and never"
            " reuses a cache on it"
        )
    return "the phone's CL_DEVICE_VERSION names no GPU, and MACE never matches an empty name"


def _other_version(cached: str, gpu: GpuIdentity) -> str:
    reason = (
        f"the OpenCL platform version differs: the file has {cached!r}, the phone"
        f" {gpu.platform_version!r}"
    )
    if "," in gpu.platform_version:
        reason += " (MACE cuts a stored version at its first comma, so this one never matches)"
    return reason


def _date(platform_version: str) -> str:
    date = qualcomm_build_date(platform_version)
    return "{:04d}-{:02d}-{:02d}".format(*date) if date else "an unknown date"
