"""Filters in panels of output channels, for products of matrices on CPU drivers.

Kernels: ``kernels/buffer_panels.h``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.opencl.tensor import HostArray
from droidmace.engine.ops.buffer_wide import LANES

_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Tile:
    """What a work-item keeps in registers: ``pixels`` by ``width`` vectors of output channels."""

    pixels: int
    width: int

    @classmethod
    def of(cls, gpu: Gpu) -> Tile:
        """As the device has registers: 32 of 16 floats, or 16 of 8."""
        wide = gpu.device.device.native_vector_width_float >= LANES
        return cls(7, 2) if wide else cls(6, 1)

    def for_pixels(self, pixels: int) -> Tile:
        """One pixel high where there are so few that most of the tile would be idle."""
        return self if 2 * pixels > self.pixels else Tile(1, self.width)

    @property
    def panel(self) -> int:
        """Output channels of one work-item."""
        return self.width * LANES

    @property
    def options(self) -> tuple[str, ...]:
        """Its build options."""
        return (f"-DTILE={self.pixels}", f"-DWIDTH={self.width}")


def page_aligned(count: int, dtype: npt.DTypeLike) -> HostArray:
    """Zeros that begin at a page of memory: what Intel's driver asks of those it does not copy."""
    whole = np.zeros(count + _PAGE_BYTES // np.dtype(dtype).itemsize, dtype)
    start = -whole.ctypes.data % _PAGE_BYTES // whole.itemsize
    aligned: HostArray = whole[start : start + count]
    return aligned


def pack_panels(weights: HostArray, *, panel: int) -> HostArray:
    """OIHW to [panel of outputs][tap][input][output], then zeros as many as there are inputs."""
    outputs, inputs, height, width = weights.shape
    panels = -(-outputs // panel)
    packed = page_aligned(panels * panel * inputs * height * width + inputs, weights.dtype)
    shape = (panels, height * width, inputs, panel)
    view = packed[: packed.size - inputs].reshape(shape)
    taps = weights.reshape(outputs, inputs, height * width)
    for index in range(panels):
        part = taps[index * panel : (index + 1) * panel]
        view[index, :, :, : len(part)] = part.transpose(2, 1, 0)
    return packed
