"""Finding the OpenCL device, and what it says it is.

Source of the rules: ``mace/runtimes/opencl/core/opencl_executor.cc``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pyopencl as cl

from droidmace.engine.attributes import OUT_OF_RESOURCES
from droidmace.engine.macelog import MaceLog
from droidmace.engine.opencl.opening import OpenedDriver, begin_opening, open_context
from droidmace.engine.version import MACE_VERSION
from droidmace.errors import EngineError
from droidmace.formats.acceptance import GpuIdentity

IDENTITY_VARIABLE = "DROIDMACE_GPU_IDENTITY"
"""Names a JSON file whose strings replace what the driver says (never what it does)."""
_EXECUTOR = "runtimes/opencl/core/opencl_executor.cc"
_MIN_WORK_GROUP_SIZE = 64
# a CPU's vectors hold 16 floats at most; a GPU's work-item loads 4 at once
_CPU_ALIGNMENT, _GPU_ALIGNMENT = 16, 4
_NOT_SUPPORTED_AT = "runtimes/opencl/opencl_runtime.cc:41"
_NOT_LOADED_AT = "runtimes/opencl/core/opencl_wrapper.cc:348"


@dataclass(frozen=True)
class Device:
    """An opened device: context and in-order queue, and the limits that kernels need.

    ``cache_bytes`` is the global memory cache; ``profiling`` tells whether events carry times;
    ``channel_alignment``: to which multiple a buffer's channels are rounded up, in elements;
    ``max_work_item_sizes``: of a work-group, axis by axis; ``is_cpu``: the driver runs kernels on
    the host's own cores.
    """

    identity: GpuIdentity
    device: cl.Device
    context: cl.Context
    queue: cl.CommandQueue
    profiling: bool
    cache_bytes: int
    compute_units: int
    max_image_size: tuple[int, int]
    max_allocation_bytes: int
    channel_alignment: int
    max_work_item_sizes: tuple[int, ...]
    is_cpu: bool


def open_device(
    log: MaceLog,
    environ: Mapping[str, str],
    *,
    profiling: bool,
    device: cl.Device | None = None,
    opening: Future[OpenedDriver | None] | None = None,
) -> Device:
    """Open ``device``, else the first GPU, else the first device of another kind.

    ``opening``: what :func:`begin_opening` has begun. ``profiling``: events are to carry times.
    Raises ``EngineError`` when there is no driver, the device has no images, or it refuses.
    """
    context: cl.Context | None = None
    if device is None:
        opened = _opened(log, opening)
        device, context = opened.device, opened.context
    says = _what_the_driver_says(device) | _claims(environ.get(IDENTITY_VARIABLE))
    identity = GpuIdentity.from_opencl(
        platform_name=says["platform_name"],
        platform_profile=says["platform_profile"],
        platform_version=says["platform_version"],
        cl_device_name=says["device_name"],
        cl_device_version=says["device_version"],
        mace_version=MACE_VERSION,
    )
    log.vlog(1, f"{_EXECUTOR}:441", f"Using platform: {identity.platform_info}")
    log.vlog(1, f"{_EXECUTOR}:613", f"Using device: {says['device_name']}")
    timed = (cl.command_queue_properties.PROFILING_ENABLE,) if profiling else ()
    try:
        context = context or open_context(device)
        queue = cl.CommandQueue(context, device, *timed)
    except cl.Error as exc:
        raise _no_context(log, exc) from exc
    if device.max_work_group_size < _MIN_WORK_GROUP_SIZE or not device.image_support:
        log.warning(_NOT_SUPPORTED_AT, "The device does not support OpenCL")
        raise EngineError(OUT_OF_RESOURCES, details=f"{device.name} cannot run image kernels")
    is_cpu = bool(device.type & cl.device_type.CPU)
    return Device(
        identity=identity,
        device=device,
        context=context,
        queue=queue,
        profiling=profiling,
        cache_bytes=device.global_mem_cache_size,
        compute_units=device.max_compute_units,
        max_image_size=(device.image2d_max_width, device.image2d_max_height),
        max_allocation_bytes=device.max_mem_alloc_size,
        channel_alignment=_CPU_ALIGNMENT if is_cpu else _GPU_ALIGNMENT,
        max_work_item_sizes=tuple(device.max_work_item_sizes),
        is_cpu=is_cpu,
    )


def describe_error(error: cl.Error) -> str:
    """The error's OpenCL name, e.g. ``CL_INVALID_BINARY``."""
    return f"CL_{_status_names().get(error.code, error.code)}"


@functools.cache
def _status_names() -> dict[int, str]:
    names = (name for name in dir(cl.status_code) if name.isupper())
    return {int(getattr(cl.status_code, name)): name for name in names}


def _opened(log: MaceLog, opening: Future[OpenedDriver | None] | None) -> OpenedDriver:
    """What the thread opened; raises ``EngineError`` when there is nothing to open."""
    try:
        opened = (opening or begin_opening()).result()
    except cl.Error as exc:
        raise _no_context(log, exc) from exc
    if opened is None:
        log.error(
            _NOT_LOADED_AT,
            "Failed to load OpenCL library, please make sure there exists OpenCL library on your"
            " device, and your APP have right to access the library.",
        )
        raise EngineError(OUT_OF_RESOURCES, details="no OpenCL driver")
    return opened


def _no_context(log: MaceLog, error: cl.Error) -> EngineError:
    log.error(f"{_EXECUTOR}:488", f"Failed to create OpenCL Context: {describe_error(error)}")
    return EngineError(OUT_OF_RESOURCES, details=str(error))


def _what_the_driver_says(device: cl.Device) -> dict[str, str]:
    platform = device.platform
    return {
        "platform_name": platform.name,
        "platform_profile": platform.profile,
        "platform_version": platform.version,
        "device_name": device.name,
        "device_version": device.version,
    }


_CLAIMABLE = (
    "platform_name",
    "platform_profile",
    "platform_version",
    "device_name",
    "device_version",
)


def _claims(path: str | None) -> dict[str, str]:
    """The strings of the JSON file at ``path``; none when there is no path."""
    if not path:
        return {}
    try:
        claims = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise EngineError("the GPU identity cannot be read", where=path, details=str(exc)) from exc
    if not isinstance(claims, dict) or not all(
        key in _CLAIMABLE and isinstance(value, str) for key, value in claims.items()
    ):
        raise EngineError(
            "a GPU identity is a JSON object of strings", where=path, hint=", ".join(_CLAIMABLE)
        )
    return claims
