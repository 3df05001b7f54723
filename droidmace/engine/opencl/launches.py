"""Commands that are prepared once and then only enqueued: what a run costs beside its kernels.

One call into the OpenCL library per command, with arguments made beforehand: no event, no wait,
and nothing allocated in the loop.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable

import pyopencl as cl
from pyopencl import _cl

Launch = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Offset, global size, local size of one enqueued command, in work-items."""


@functools.cache
def _enqueue_function() -> Callable[..., int]:
    """``clEnqueueNDRangeKernel`` of the library that pyopencl itself uses."""
    # looked up through pyopencl's extension, whose dependencies the search includes
    function: Callable[..., int] = ctypes.CDLL(_cl.__file__).clEnqueueNDRangeKernel
    return function


class LaunchList:
    """Kernels with all their arguments set, in the order they are to run."""

    def __init__(
        self, queue: cl.CommandQueue, launches: Iterable[tuple[cl.Kernel, Launch]]
    ) -> None:
        # whoever holds the list holds the kernels: the calls know only their addresses
        self._launches = list(launches)
        self._calls = [_bound_call(queue, kernel, launch) for kernel, launch in self._launches]

    def enqueue(self) -> None:
        """Enqueue every command. Raises ``cl.Error`` for one that the driver refuses."""
        for call in self._calls:
            status = call()
            if status:
                record = _cl._ErrorRecord(msg="", code=status, routine="clEnqueueNDRangeKernel")
                raise cl.RuntimeError(record)


def _bound_call(queue: cl.CommandQueue, kernel: cl.Kernel, launch: Launch) -> Callable[[], int]:
    sizes = [(ctypes.c_size_t * len(values))(*values) for values in launch]
    return functools.partial(
        _enqueue_function(),
        ctypes.c_void_p(queue.int_ptr),
        ctypes.c_void_p(kernel.int_ptr),
        ctypes.c_uint(len(launch[1])),
        *sizes,
        ctypes.c_uint(0),
        None,
        None,
    )
