"""Kernels made, given arguments and enqueued by direct calls into the OpenCL library.

pyopencl writes and compiles Python code for every kernel object that is made, 0.3 ms for each of a
net's ops: a fifth of all it takes to start with compiled programs.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable, Iterable
from typing import NoReturn

import pyopencl as cl
from pyopencl import _cl

Launch = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Offset, global size, local size of one enqueued command, in work-items."""
Argument = cl.Image | cl.Buffer | int | float | bytes
"""``int`` and ``float`` are those of OpenCL C, 32 bits wide; ``bytes`` are a structure."""
_INT_LIMIT = 1 << 31


@functools.cache
def opencl_function(name: str, result: type[ctypes.c_void_p] | None = None) -> Callable[..., int]:
    """A function of the OpenCL library that pyopencl itself uses; ``result``: int unless given."""
    # looked up through pyopencl's extension, whose dependencies the search includes
    function = getattr(ctypes.CDLL(_cl.__file__), name)
    function.restype = result or ctypes.c_int
    found: Callable[..., int] = function
    return found


def raise_status(routine: str, status: int) -> NoReturn:
    """Raise ``cl.Error`` for a status that is not success."""
    raise cl.RuntimeError(_cl._ErrorRecord(msg="", code=status, routine=routine))


class Kernel:
    """A kernel of a built program, with arguments of its own. All methods raise ``cl.Error``."""

    def __init__(self, program: _cl._Program, name: str) -> None:
        status = ctypes.c_int()
        created = opencl_function("clCreateKernel", ctypes.c_void_p)(
            ctypes.c_void_p(program.int_ptr), name.encode(), ctypes.byref(status)
        )
        if status.value:
            raise_status("clCreateKernel", status.value)
        self.int_ptr = int(created)
        """The ``cl_kernel``, as pyopencl's own objects have it."""
        release = opencl_function("clReleaseKernel")
        weakref.finalize(self, release, ctypes.c_void_p(self.int_ptr)).atexit = False

    def work_group_size(self, device: cl.Device) -> int:
        """The largest work-group of this kernel on ``device``, in work-items."""
        size = ctypes.c_size_t()
        self._call(
            "clGetKernelWorkGroupInfo",
            ctypes.c_void_p(device.int_ptr),
            ctypes.c_uint(cl.kernel_work_group_info.WORK_GROUP_SIZE),
            ctypes.c_size_t(ctypes.sizeof(size)),
            ctypes.byref(size),
            None,
        )
        return size.value

    def set_args(self, values: Iterable[Argument]) -> None:
        """Set all arguments. Memory objects must be kept alive by the caller."""
        for index, value in enumerate(values):
            raw = _raw(value)
            self._call(
                "clSetKernelArg",
                ctypes.c_uint(index),
                ctypes.c_size_t(ctypes.sizeof(raw)),
                ctypes.byref(raw),
            )

    def enqueue(self, queue: cl.CommandQueue, launch: Launch) -> cl.Event:
        """Enqueue one command."""
        event = ctypes.c_void_p()
        status = opencl_function("clEnqueueNDRangeKernel")(
            ctypes.c_void_p(queue.int_ptr),
            *self.launch_arguments(launch),
            ctypes.byref(event),
        )
        if status:
            raise_status("clEnqueueNDRangeKernel", status)
        return cl.Event.from_int_ptr(event.value or 0, False)

    def launch_arguments(self, launch: Launch) -> tuple[object, ...]:
        """What ``clEnqueueNDRangeKernel`` takes between the queue and the event."""
        return (
            ctypes.c_void_p(self.int_ptr),
            ctypes.c_uint(len(launch[1])),
            *((ctypes.c_size_t * len(sizes))(*sizes) for sizes in launch),
            ctypes.c_uint(0),
            None,
        )

    def _call(self, routine: str, *arguments: object) -> None:
        status = opencl_function(routine)(ctypes.c_void_p(self.int_ptr), *arguments)
        if status:
            raise_status(routine, status)


def with_scalars_together(values: Iterable[Argument]) -> list[Argument]:
    """Memory objects as they are; after them all numbers as one structure.

    Raises ``cl.Error`` for a number that is too large.
    """
    memory: list[Argument] = []
    scalars = b""
    for value in values:
        if isinstance(value, (int, float)):
            scalars += bytes(_raw(value))
        else:
            memory.append(value)
    return [*memory, scalars]


def _raw(
    value: Argument,
) -> ctypes.c_void_p | ctypes.c_int | ctypes.c_float | ctypes.Array[ctypes.c_char]:
    if isinstance(value, int):
        if not -_INT_LIMIT <= value < _INT_LIMIT:  # ctypes would cut it off
            raise_status("clSetKernelArg", cl.status_code.INVALID_ARG_VALUE)
        return ctypes.c_int(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, bytes):
        return (ctypes.c_char * len(value)).from_buffer_copy(value)
    return ctypes.c_void_p(value.int_ptr)
