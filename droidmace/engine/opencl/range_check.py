"""``MACE_OUT_OF_RANGE_CHECK``: kernels that tell when they write beside an image.

Such a write does nothing on most devices, which hides a wrong size. A kernel built for the check
(``kernels/common.h``) leaves where it happened in a flag of the device. As in MACE
(``ValidateOorcFlag`` in ``mace/runtimes/opencl/core/opencl_helper.cc``) every kernel is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyopencl as cl

from droidmace.engine.opencl.device import Device
from droidmace.engine.opencl.kernel import Argument

BUILD_OPTION = "-DOUT_OF_RANGE_CHECK"


class RangeCheck:
    """The flag, and who gets it."""

    def __init__(self, device: Device) -> None:
        self._queue = device.queue
        self.flag = cl.Buffer(device.context, cl.mem_flags.READ_WRITE, np.dtype(np.int32).itemsize)

    @staticmethod
    def concerns(arguments: Iterable[Argument]) -> bool:
        """Whether a kernel with these arguments can be checked: only images know their size."""
        return any(isinstance(value, cl.Image) for value in arguments)

    def clear(self) -> None:
        """Before a kernel."""
        cl.enqueue_copy(self._queue, self.flag, np.zeros(1, np.int32), is_blocking=True)

    def read(self) -> int:
        """After it: 0, or x * 1000000 + y of a pixel that it missed."""
        found = np.zeros(1, np.int32)
        cl.enqueue_copy(self._queue, found, self.flag, is_blocking=True)
        return int(found[0])
