"""Winograd's 3x3 convolution, F(4x4, 3x3), for CPU drivers with activations in buffers.

Source of the matrices: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
Kernels: ``kernels/buffer_winograd.cl``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from droidmace.engine.attributes import Shape, Window, nhwc
from droidmace.engine.opencl.local_size import round_up
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import HostArray, Tensor
from droidmace.engine.ops.base import GpuOp, shape_key
from droidmace.engine.ops.buffer_panels import Tile, pack_panels
from droidmace.engine.ops.buffer_wide import LANES, activation_options, bind_wide, packed_bias

_PIXELS = 36
"""Of a tile in the domain of the products."""
_LEAST_CHANNELS, _LEAST_TILES, _MOST_PRODUCTS = 16, 16, 0.45
_FILTER_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)


def pays(window: Window, channels: tuple[int, int], output: Shape, tile: Tile) -> bool:
    """Whether the products that are saved outweigh the transforms and the larger filter.

    ``channels``: in and out. Saved are less than three of four where tiles are partly idle.
    """
    batch, height, width, _ = nhwc(output)
    tiles = _tiles(output)
    products = 4 * round_up(tiles, tile.pixels) / (batch * height * width)
    return (
        (window.kernel, window.stride, window.dilation) == ((3, 3), (1, 1), (1, 1))
        and min(channels) >= _LEAST_CHANNELS
        and tiles >= _LEAST_TILES
        and products <= _MOST_PRODUCTS
    )


def pack_transformed(weights: HostArray, *, panel: int) -> HostArray:
    """OI33 to [pixel of the 36][panel of outputs][input][output]."""
    inputs = weights.shape[1]
    packed = np.asarray(pack_panels(weights, panel=panel)[:-inputs], np.float32)
    by_tap = np.ascontiguousarray(packed.reshape(-1, 9, inputs * panel).transpose(1, 0, 2))
    transform = np.kron(_FILTER_TRANSFORM, _FILTER_TRANSFORM).astype(np.float32)
    transformed: npt.NDArray[np.float32] = np.matmul(transform, by_tap.reshape(9, -1))
    return transformed


class Winograd:
    """The three kernels of one convolution, and its constants."""

    def __init__(self, op: GpuOp) -> None:
        self._op = op
        self._tile = Tile.of(op.gpu)
        name = op.op.inputs[1]
        self._out_channels, self._in_channels, *_ = op.context.weights.filter_shape(name)
        pack = functools.partial(pack_transformed, panel=self._tile.panel)
        layout = f"Winograd panels of {self._tile.panel}"
        self._filter = op.context.weights.packed(name, layout, pack)
        self._bias = packed_bias(op, self._out_channels, self._tile.panel)

    def scratch_shapes(self, output: Shape) -> list[Shape]:
        """Input and output in the domain of the products."""
        tiles = _tiles(output)
        return [(tiles, 1, _PIXELS, self._in_channels), (tiles, 1, _PIXELS, self._out_channels)]

    def bind(
        self, inputs: Sequence[Tensor], output: Tensor, padding: tuple[int, int]
    ) -> list[Dispatch]:
        """``inputs``: the input, maybe a residual, then the scratch; ``padding``: above, left."""
        source, *residual, before, after = inputs
        sizes = nhwc(output.shape)
        height = sizes[1]
        grid = (-(-height // 4), -(-sizes[2] // 4))
        tiles = _tiles(output.shape)
        options, bounds = activation_options(self._op.op)
        panels = -(-self._out_channels // self._tile.panel)
        return [
            bind_wide(
                self._op.gpu,
                "buffer_winograd_input",
                "buffer_winograd",
                options=self._tile.options,
                arguments=(source, before, nhwc(source.shape)[1], *grid, *padding),
                key=shape_key("winograd_transform_kernel", *sizes),
                gws=(-(-self._in_channels // LANES), 1, tiles),
            ),
            bind_wide(
                self._op.gpu,
                "buffer_winograd_product",
                "buffer_winograd",
                options=self._tile.options,
                arguments=(before, self._filter, after, self._in_channels, tiles),
                key=shape_key("matmul_opencl_kernel", *sizes),
                gws=(-(-tiles // self._tile.pixels), 1, _PIXELS * panels),
            ),
            bind_wide(
                self._op.gpu,
                "buffer_winograd_output",
                "buffer_winograd",
                options=(
                    *options,
                    *self._tile.options,
                    *(("-DBIAS",) if self._bias else ()),
                    *(("-DRESIDUAL",) if residual else ()),
                ),
                arguments=(
                    after,
                    *self._bias,
                    *(tensor.memory for tensor in residual),
                    output,
                    *bounds,
                    height,
                    *grid,
                ),
                key=shape_key("winograd_inverse_transform_kernel", *sizes),
                gws=(-(-self._out_channels // LANES), 1, tiles),
            ),
        ]


def _tiles(output: Shape) -> int:
    batch, height, width, _ = nhwc(output)
    return batch * -(-height // 4) * -(-width // 4)
