"""Opening the driver beside other work: loading it and making a context is what a start waits for.

While a thread is in the driver's own code, the model can be parsed: the calls that take long are
made through ctypes, which lets other threads go on.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyopencl as cl

from droidmace.engine.opencl.kernel import opencl_function, raise_status


@dataclass(frozen=True)
class OpenedDriver:
    """A device and a context with it."""

    device: cl.Device
    context: cl.Context


def begin_opening() -> Future[OpenedDriver | None]:
    """Open the first GPU, else the first device of another kind, in a thread.

    The result is None when there is no driver; it raises ``cl.Error`` when the driver refuses.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="opencl")
    opening = executor.submit(_open)
    executor.shutdown(wait=False)
    return opening


def _open() -> OpenedDriver | None:
    devices = _all_devices()
    if not devices:
        return None
    gpus = (device for device in devices if device.type & cl.device_type.GPU)
    device = next(gpus, devices[0])
    return OpenedDriver(device, open_context(device))


def open_context(device: cl.Device) -> cl.Context:
    """A context with one device. Raises ``cl.Error``."""
    status = ctypes.c_int(0)
    address = opencl_function("clCreateContext", ctypes.c_void_p)(
        None,
        ctypes.c_uint(1),
        ctypes.byref(ctypes.c_void_p(device.int_ptr)),
        None,
        None,
        ctypes.byref(status),
    )
    if status.value:
        raise_status("clCreateContext", status.value)
    return cl.Context.from_int_ptr(address, retain=False)


def _all_devices() -> list[cl.Device]:
    # loads every driver, once per process; what follows only asks them
    opencl_function("clGetPlatformIDs")(ctypes.c_uint(0), None, ctypes.byref(ctypes.c_uint(0)))
    return list(_devices_of_platforms())


def _devices_of_platforms() -> Iterator[cl.Device]:
    """Every device of every platform; a platform that cannot list its devices has none."""
    try:
        platforms = cl.get_platforms()
    except cl.Error:
        return
    for platform in platforms:
        with contextlib.suppress(cl.Error):
            yield from platform.get_devices()
