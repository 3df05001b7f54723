"""MACE's own rules: will this runtime on this GPU take a stored compiled program?

As of MACE 1.0.3 and later (``OpenclExecutor::Init``, ``IsCacheCompatible`` and the helpers beside
them in ``mace/runtimes/opencl/core/opencl_executor.cc``), quirks included. Pure functions: the
engine obeys them, the bundle's oracle predicts by them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

_ADRENO_CL_DEVICE_NAME = "QUALCOMM Adreno(TM)"
_CPP_WHITESPACE = " \t\f\v\n\r"
_REMOTE_BRANCH = "Remote Branch:"
_DATE = "Date:"


class GpuType(StrEnum):
    """The GPU families that MACE tells apart."""

    ADRENO = "adreno"
    MALI = "mali"
    POWERVR = "powervr"
    UNKNOWN = "unknown"


class ReusePolicy(IntEnum):
    """``--opencl_cache_reuse_policy``."""

    REUSE_NONE = 0
    REUSE_SAME_GPU = 1


class CacheOutcome(Enum):
    """What MACE does with a cache file, and by which rule. The value says whether it is kept."""

    SAME_PLATFORM_INFO = ("same platform info", True)
    SAME_PLATFORM_VERSION = ("same OpenCL platform version", True)
    SAME_REMOTE_BRANCH = ("same driver branch", True)
    DRIVER_NOT_OLDER = ("driver date is the same or newer", True)
    NOTHING_TO_COMPARE = ("the file has no platform info, so nothing is compared", True)
    GPU_NAME_EMPTY = ("MACE has no name for this GPU", False)
    GPU_NAME_MISSING = ("the file has no GPU name", False)
    GPU_NAME_DIFFERS = ("another GPU", False)
    POLICY_REUSES_NONE = ("platform info differs and the policy is REUSE_NONE", False)
    PLATFORM_VERSION_DIFFERS = ("another OpenCL platform version", False)
    DRIVER_OLDER = ("the driver is older than the one it was compiled with", False)
    DRIVER_DATE_UNKNOWN = ("another driver branch, and no build dates to compare", False)

    @property
    def rule(self) -> str:
        """The rule in words."""
        return self.value[0]

    @property
    def accepted(self) -> bool:
        """Whether the cache is kept, rather than cleared."""
        return self.value[1]


def gpu_type(cl_device_name: str) -> GpuType:
    """The GPU family by ``CL_DEVICE_NAME`` (MACE's ``ParseGPUType``)."""
    if cl_device_name == _ADRENO_CL_DEVICE_NAME:
        return GpuType.ADRENO
    if "Mali" in cl_device_name:
        return GpuType.MALI
    if "PowerVR" in cl_device_name:
        return GpuType.POWERVR
    return GpuType.UNKNOWN


def mace_gpu_name(cl_device_name: str, cl_device_version: str) -> str:
    """The name MACE gives a GPU; empty for families it does not know.

    Adreno: what follows the second blank of ``CL_DEVICE_VERSION`` (``OpenCL 2.0 Adreno(TM) 640``).
    """
    family = gpu_type(cl_device_name)
    if family is GpuType.UNKNOWN:
        return ""
    if family is GpuType.ADRENO:
        parts = cl_device_version.split(" ", 2)
        return parts[2] if len(parts) == 3 else ""
    return cl_device_name


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """What a running MACE knows of its GPU and driver, and its own version."""

    gpu_type: GpuType
    device_name: str
    """As :func:`mace_gpu_name` gives it."""
    platform_name: str
    platform_profile: str
    platform_version: str
    mace_version: str

    @property
    def platform_info(self) -> str:
        """The text that MACE stores and compares."""
        return ", ".join(
            (self.platform_name, self.platform_profile, self.platform_version, self.mace_version)
        )

    @classmethod
    def from_opencl(
        cls,
        *,
        platform_name: str,
        platform_profile: str,
        platform_version: str,
        cl_device_name: str,
        cl_device_version: str,
        mace_version: str,
    ) -> GpuIdentity:
        """From what OpenCL answers for the platform and the device."""
        return cls(
            gpu_type=gpu_type(cl_device_name),
            device_name=mace_gpu_name(cl_device_name, cl_device_version),
            platform_name=platform_name,
            platform_profile=platform_profile,
            platform_version=platform_version,
            mace_version=mace_version,
        )


def cache_outcome(
    stored_platform_info: str | None,
    stored_device_name: str | None,
    gpu: GpuIdentity,
    policy: ReusePolicy = ReusePolicy.REUSE_SAME_GPU,
) -> CacheOutcome:
    """What becomes of a cache file with these two values (None: the file lacks the key)."""
    if stored_platform_info is None:
        return CacheOutcome.NOTHING_TO_COMPARE
    if not gpu.device_name:
        return CacheOutcome.GPU_NAME_EMPTY
    if not stored_device_name:
        return CacheOutcome.GPU_NAME_MISSING
    if gpu.device_name != stored_device_name:
        return CacheOutcome.GPU_NAME_DIFFERS
    if gpu.platform_info == stored_platform_info:
        return CacheOutcome.SAME_PLATFORM_INFO
    if policy is not ReusePolicy.REUSE_SAME_GPU:
        return CacheOutcome.POLICY_REUSES_NONE
    return _by_platform_version(gpu, stored_platform_version(stored_platform_info))


def stored_platform_version(platform_info: str) -> str:
    """The platform version as MACE takes it out of a stored platform info: the third of the parts
    between commas, stripped. A version that has commas itself comes out cut.

    Empty when there is no third part (where MACE reads past the end of its list).
    """
    parts = platform_info.split(",")
    return parts[2].strip(_CPP_WHITESPACE) if len(parts) > 2 else ""


def _by_platform_version(gpu: GpuIdentity, cached_version: str) -> CacheOutcome:
    if gpu.gpu_type is not GpuType.ADRENO:
        if gpu.platform_version and gpu.platform_version == cached_version:
            return CacheOutcome.SAME_PLATFORM_VERSION
        return CacheOutcome.PLATFORM_VERSION_DIFFERS
    branch = qualcomm_remote_branch(gpu.platform_version)
    if branch and branch == qualcomm_remote_branch(cached_version):
        return CacheOutcome.SAME_REMOTE_BRANCH
    date = qualcomm_build_date(gpu.platform_version)
    cached_date = qualcomm_build_date(cached_version)
    if date is None or cached_date is None:
        return CacheOutcome.DRIVER_DATE_UNKNOWN
    return CacheOutcome.DRIVER_NOT_OLDER if date >= cached_date else CacheOutcome.DRIVER_OLDER


def qualcomm_remote_branch(platform_version: str) -> str:
    """The word after ``Remote Branch:`` in a Qualcomm platform version; empty if there is none."""
    return _word_after(platform_version, _REMOTE_BRANCH)


def qualcomm_build_date(platform_version: str) -> tuple[int, int, int] | None:
    """Year, month and day of ``Date: mm/dd/yy`` in a Qualcomm platform version, or None.

    Numbers are read as C's ``atoi`` reads them: what is not a number counts as 0.
    """
    parts = _word_after(platform_version, _DATE).split("/")
    if parts[-1] == "":
        parts.pop()  # MACE's Split drops what is empty at the end
    if len(parts) != 3:
        return None
    month, day, year = parts
    if len(year) == 2:
        year = f"20{year}"
    return _atoi(year), _atoi(month), _atoi(day)


def _word_after(text: str, pattern: str) -> str:
    """The next word after the first ``pattern`` (MACE's ``GetStrAfterPattern``)."""
    _, found, rest = text.partition(pattern)
    if not found:
        return ""
    rest = rest.lstrip(_CPP_WHITESPACE)
    word = re.match(f"[^{_CPP_WHITESPACE}]*", rest)
    return word.group() if word else ""


def _atoi(text: str) -> int:
    number = re.match(r"[ \t\f\v\n\r]*([+-]?[0-9]{1,18})", text)
    return int(number.group(1)) if number else 0


def precompiled_is_consulted(cached_platform_info: str | None, gpu: GpuIdentity) -> bool:
    """Whether MACE opens the precompiled file at all.

    It does not when the cache file (None: there is none) has the very platform info of this
    device, even if that cache was cleared because of its GPU name.
    """
    return cached_platform_info != gpu.platform_info


def precompiled_accepted(stored_platform_info: str | None, gpu: GpuIdentity) -> bool:
    """Whether programs of a precompiled file are used: its whole platform info must be equal."""
    return stored_platform_info == gpu.platform_info


def source_hash_accepted(stored_hash: str | None, runtime_hash: str) -> bool:
    """Whether the cache's binary of one program is used: it was built from the same source."""
    return bool(stored_hash) and stored_hash == runtime_hash
