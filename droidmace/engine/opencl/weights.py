"""A model's constants on the device, laid out as kernels read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import Shape
from droidmace.engine.macelog import format_vector
from droidmace.engine.opencl.local_size import filter_2d, row_2d
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import (
    TRANSFORMS,
    HostArray,
    Size,
    Tensor,
    TensorMemory,
    WeightTable,
    allocate_buffer,
    bind_upload,
    blocks,
    buffer_options,
    wrap_values,
)
from droidmace.errors import EngineError


class Weights:
    """Constants on the device, each uploaded and transformed once.

    The transforms run, and are tuned, when an op asks for them: while the engine starts.
    """

    def __init__(self, memory: TensorMemory, tensors: dict[str, HostArray]) -> None:
        self._memory = memory
        self._gpu = memory.gpu
        self._tensors = tensors
        self._tables: dict[tuple[str, str], WeightTable] = {}
        self._activations: dict[str, Tensor] = {}
        self._packed: dict[tuple[str, str], cl.Buffer] = {}
        self._pending: list[Dispatch] = []

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def array(self, name: str) -> HostArray:
        """The constant's values. Raises ``EngineError`` when there is none of that name."""
        try:
            return self._tensors[name]
        except KeyError:
            raise EngineError(f"Unsupported: {name!r} is no constant of the model") from None

    def filter_shape(self, name: str) -> tuple[int, int, int, int]:
        """The four sizes of a filter. Raises ``EngineError`` for any other rank."""
        shape = self.array(name).shape
        if len(shape) != 4:
            raise EngineError(f"Unsupported: filter {name!r} has the shape {list(shape)}")
        return (shape[0], shape[1], shape[2], shape[3])

    def convolution_filter(self, name: str) -> WeightTable:
        """OIHW filter: [input channels, output blocks * taps]."""
        size, sizes = _filter_sizes(self.filter_shape(name))
        return self._table("filter_buffer_to_image", name, size, sizes)

    def arranged_filter(
        self, name: str, layout: str, arrange: Callable[[HostArray], HostArray]
    ) -> WeightTable:
        """The OIHW filter that ``arrange`` makes of a constant, as :meth:`convolution_filter`.

        ``layout`` names what ``arrange`` does: each constant is arranged once for each.
        """
        table = self._tables.get((layout, name))
        if table is None:
            values = cast(HostArray, np.ascontiguousarray(arrange(self._floats(name))))
            size, sizes = _filter_sizes(values.shape)
            table = self._transform("filter_buffer_to_image", values, size, sizes)
            self._tables[layout, name] = table
        return table

    def depthwise_filter(self, name: str) -> WeightTable:
        """1IHW filter: [taps, channel blocks]."""
        _, channels, height, width = self.filter_shape(name)
        taps = height * width
        size = (taps, blocks(channels))
        return self._table("dw_filter_buffer_to_image", name, size, (channels, taps))

    def fully_connected_weight(self, name: str) -> WeightTable:
        """OIHW weight: [input blocks * taps, output channels]."""
        out_channels, in_channels, height, width = self.filter_shape(name)
        taps = height * width
        size = (blocks(in_channels) * taps, out_channels)
        return self._table("weight_width_buffer_to_image", name, size, (in_channels, taps))

    def vector(self, name: str) -> WeightTable:
        """A value per channel: one row of blocks."""
        count = self.array(name).size
        return self._table("arg_buffer_to_image", name, (blocks(count), 1), (count,))

    def vector_activation(self, name: str) -> Tensor:
        """A value per channel in the place of an activation of shape (1, 1, 1, channels)."""
        return self._memory.as_activation(self.vector(name), self.array(name).size)

    def activation(self, name: str) -> Tensor:
        """A constant in the place of an activation."""
        found = self._activations.get(name)
        if found is None:
            values = self._floats(name)
            memory = self._memory.allocate(self._memory.activation_size(values.shape))
            found = self._activations[name] = self._memory.activation(values.shape, memory)
            buffer = self._upload(values)
            half = values.dtype == np.float16
            self._run(bind_upload(self._gpu, buffer, found, half=half))
        return found

    def packed(self, name: str, layout: str, pack: Callable[[HostArray], HostArray]) -> cl.Buffer:
        """A constant as ``pack`` lays it out, in a plain buffer of the net's floats.

        ``layout`` names what ``pack`` does: each constant is packed once for each.
        """
        buffer = self._packed.get((name, layout))
        if buffer is None:
            values = np.ascontiguousarray(pack(self._floats(name)))
            stored = values.astype(np.float16 if self._memory.half else np.float32, copy=False)
            if self._gpu.device.is_cpu:
                buffer = wrap_values(self._gpu, cast(HostArray, stored))
            else:
                buffer = self._memory.allocate_bytes(stored.nbytes)
                self._gpu.upload(buffer, stored)
            self._packed[name, layout] = buffer
        return buffer

    def finish(self) -> None:
        """Wait for the transforms and let go of the buffers they read. Raises ``EngineError``."""
        self._gpu.finish()
        self._pending.clear()

    def _table(self, kernel: str, name: str, size: Size, sizes: tuple[int, ...]) -> WeightTable:
        table = self._tables.get((kernel, name))
        if table is None:
            table = self._transform(kernel, self._floats(name), size, sizes)
            self._tables[kernel, name] = table
        return table

    def _transform(
        self, kernel: str, values: HostArray, size: Size, sizes: tuple[int, ...]
    ) -> WeightTable:
        table = self._memory.weight_table(size)
        dispatch = self._gpu.bind(
            TRANSFORMS,
            kernel,
            options=buffer_options(half=values.dtype == np.float16),
            arguments=(self._upload(values), *sizes, table),
            key=f"{kernel}_{format_vector(values.shape)}",
            gws=size,
            rule=filter_2d if kernel == "filter_buffer_to_image" else row_2d,
        )
        self._run(dispatch)
        return table

    def _floats(self, name: str) -> HostArray:
        values = np.ascontiguousarray(self.array(name))
        if values.dtype.kind != "f":
            raise EngineError(f"Unsupported: {name!r} is of {values.dtype}, not of floats")
        return cast(HostArray, values)

    def _upload(self, values: HostArray) -> cl.Buffer:
        buffer = allocate_buffer(self._gpu, max(values.nbytes, 4))
        self._gpu.upload(buffer, values)
        return buffer

    def _run(self, dispatch: Dispatch) -> None:
        self._gpu.run(dispatch)
        self._pending.append(dispatch)


def _filter_sizes(shape: Shape) -> tuple[Size, tuple[int, int, int]]:
    """An OIHW filter's table, and what the transform takes: outputs, inputs, taps."""
    out_channels, in_channels, height, width = shape
    taps = height * width
    return (blocks(in_channels) * 4, blocks(out_channels) * taps), (out_channels, in_channels, taps)
