"""Commands that are prepared once and then only enqueued: what a run costs beside its kernels.

One call into the OpenCL library per command, with arguments made beforehand: no event, no wait,
and nothing allocated in the loop.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable

import pyopencl as cl

from droidmace.engine.opencl.kernel import Kernel, Launch, opencl_function, raise_status


class LaunchList:
    """Kernels with all their arguments set, in the order they are to run."""

    def __init__(self, queue: cl.CommandQueue, launches: Iterable[tuple[Kernel, Launch]]) -> None:
        # whoever holds the list holds the kernels: the calls know only their addresses
        self._launches = list(launches)
        self._calls = [_bound_call(queue, kernel, launch) for kernel, launch in self._launches]

    def enqueue(self) -> None:
        """Enqueue every command. Raises ``cl.Error`` for one that the driver refuses."""
        for call in self._calls:
            status = call()
            if status:
                raise_status("clEnqueueNDRangeKernel", status)


def _bound_call(queue: cl.CommandQueue, kernel: Kernel, launch: Launch) -> Callable[[], int]:
    return functools.partial(
        opencl_function("clEnqueueNDRangeKernel"),
        *map(_passed, (ctypes.c_void_p(queue.int_ptr), *kernel.launch_arguments(launch), None)),
    )


def _passed(argument: object) -> object:
    """``argument`` as ctypes hands it over, so that no call has to convert it."""
    if isinstance(argument, ctypes.Array):
        return ctypes.byref(argument)
    if isinstance(argument, (ctypes.c_void_p, ctypes.c_uint)):
        return type(argument).from_param(argument.value)
    return argument
