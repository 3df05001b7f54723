"""Convolutions with kernels of their own, for CPU drivers with activations in buffers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from droidmace.engine.attributes import PADDING_VALID, Shape, Window, nhwc
from droidmace.engine.opencl.local_size import round_up
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import NARROW, HostArray, Tensor
from droidmace.engine.ops.aggregate import FullyConnected
from droidmace.engine.ops.base import GpuOp, shape_key
from droidmace.engine.ops.buffer_panels import Tile, pack_panels
from droidmace.engine.ops.buffer_wide import (
    LANES,
    activation_options,
    bind_wide,
    packed_bias,
)
from droidmace.engine.ops.buffer_winograd import Winograd, pays
from droidmace.engine.ops.conv import Conv2D, DepthwiseConv2d

_WIDEST_KNOWN = 5
"""Columns of a window whose number is compiled in."""


def pack_depthwise(weights: HostArray) -> HostArray:
    """1IHW to [block of 16 channels][tap][channel]."""
    _, channels, height, width = weights.shape
    count = round_up(channels, LANES)
    packed = np.zeros((count, height * width), weights.dtype)
    packed[:channels] = weights.reshape(channels, -1)
    return np.ascontiguousarray(packed.reshape(-1, LANES, height * width).transpose(0, 2, 1))


class Panels:
    """Filter and bias of an op in panels of output channels, and the kernels that take them."""

    def __init__(self, op: GpuOp) -> None:
        self._op = op
        self._tile = Tile.of(op.gpu)
        weights, panel = op.context.weights, self._tile.panel
        name = op.op.inputs[1]
        self._out_channels, self._in_channels, *_ = weights.filter_shape(name)
        pack = functools.partial(pack_panels, panel=panel)
        self._filter = weights.packed(name, f"panels of {panel}", pack)
        self._bias = packed_bias(op, self._out_channels, panel)

    def bind(
        self, name: str, key: str, sources: Sequence[Tensor], output: Tensor, *rest: int
    ) -> Dispatch:
        """Bind kernel ``name`` for an input and, maybe, a residual.

        ``rest`` are the arguments after those that all kernels take.
        """
        batch, height, width, _ = nhwc(output.shape)
        pixels = batch * height * width
        tile = self._tile.for_pixels(pixels)
        options, bounds = activation_options(self._op.op)
        return bind_wide(
            self._op.gpu,
            name,
            "buffer_conv_2d",
            options=(
                *options,
                *tile.options,
                *(("-DBIAS",) if self._bias else ()),
                *(("-DRESIDUAL",) if len(sources) > 1 else ()),
            ),
            arguments=(
                sources[0],
                self._filter,
                *self._bias,
                *(residual.memory for residual in sources[1:]),
                output,
                *bounds,
                self._in_channels,
                pixels,
                *rest,
            ),
            key=key,
            gws=(-(-pixels // tile.pixels), 1, -(-self._out_channels // tile.panel)),
        )

    def bind_window(
        self,
        key: str,
        sources: Sequence[Tensor],
        output: Tensor,
        window: Window,
        padding: tuple[int, int],
    ) -> Dispatch:
        """Bind the kernel for any window; ``padding``: above and left."""
        return self.bind(
            "buffer_conv_2d",
            key,
            sources,
            output,
            nhwc(sources[0].shape)[1],
            nhwc(output.shape)[1],
            *window.kernel,
            *window.stride,
            *padding,
            *window.dilation,
        )


class BufferConv2D(Conv2D):
    """Convolution as products of matrices, 3x3 by Winograd; with groups as on any device."""

    def upload(self) -> None:
        """See :class:`Conv2D`; which layout the filter needs is known with the shapes."""
        self._panels: Panels | None = None
        self._winograd: Winograd | None = None
        if self.is_grouped:
            super().upload()

    @property
    def is_grouped(self) -> bool:
        """Whether an output is made from some of the inputs only."""
        return self.op.int_arg("group", 1) != 1

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        output = super().output_shape(shapes)
        outputs, inputs, *_ = self.filter_shape
        self._scratch: list[Shape] = []
        if self.is_grouped:
            return output
        # transformed values are too large for 16 bits, or too small
        if not self.context.memory.half and pays(
            self.window, (inputs, outputs), output, Tile.of(self.gpu)
        ):
            self._winograd = self._winograd or Winograd(self)
            self._scratch = self._winograd.scratch_shapes(output)
        else:
            self._panels = self._panels or Panels(self)
        return output

    def scratch_shapes(self) -> list[Shape]:
        """See :class:`GpuOp`."""
        return self._scratch

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        sizes = nhwc(output.shape)
        window = self.window
        pads = (self.padding[0] // 2, self.padding[1] // 2)
        if self._scratch and self._winograd is not None:
            return self._winograd.bind(inputs, output, pads)
        if self._panels is None:
            return super().bind_single(inputs, output)
        if window.kernel == (1, 1) and window.stride == (1, 1) and self.padding == (0, 0):
            key = shape_key("conv2d_1x1_opencl_kernel", *sizes)
            return [self._panels.bind("buffer_conv_2d_1x1", key, inputs, output)]
        key = shape_key("conv2d_general_opencl_kernel", *sizes, *window.kernel)
        return [self._panels.bind_window(key, inputs, output, window, pads)]


class BufferFullyConnected(FullyConnected):
    """A convolution whose window is the whole input."""

    def upload(self) -> None:
        """See :class:`FullyConnected`."""
        self.panels = Panels(self)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        key = shape_key("fc_opencl_kernel", *nhwc(output.shape))
        _, height, width, _ = nhwc(inputs[0].shape)
        if (height, width) == (1, 1):
            return [self.panels.bind("buffer_conv_2d_1x1", key, inputs, output)]
        window = Window((height, width), (1, 1), (1, 1), None, PADDING_VALID)
        return [self.panels.bind_window(key, inputs, output, window, (0, 0))]


class BufferDepthwiseConv2d(DepthwiseConv2d):
    """Depthwise convolution of one output per channel, of more channels than a few.

    All others run as on any device.
    """

    def upload(self) -> None:
        """See :class:`DepthwiseConv2d`."""
        if not self.is_wide:
            super().upload()
            return
        name = self.op.inputs[1]
        self.packed_filter = self.context.weights.packed(name, "depthwise", pack_depthwise)
        self.packed_bias = packed_bias(self, self.filter_shape[1], LANES)

    @property
    def is_wide(self) -> bool:
        """Whether its pixels are vectors, in and out."""
        multiplier, channels, *_ = self.filter_shape
        return multiplier == 1 and channels > NARROW

    @property
    def column_options(self) -> tuple[str, ...]:
        """Build options for the common windows, whose columns fit into registers."""
        kernel_w, stride_w = self.window.kernel[1], self.window.stride[1]
        if kernel_w > _WIDEST_KNOWN or stride_w > 2 or self.window.dilation[1] != 1:
            return ()
        return (f"-DKERNEL_W={kernel_w}", f"-DSTRIDE_W={stride_w}")

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if not self.is_wide:
            return super().bind_single(inputs, output)
        source = inputs[0]
        batch, height, width, channels = nhwc(output.shape)
        gws = (-(-channels // LANES), 1, batch * height)
        options, bounds = activation_options(self.op)
        tile = Tile.of(self.gpu)
        return [
            bind_wide(
                self.gpu,
                "buffer_depthwise_conv2d",
                "buffer_depthwise_conv2d",
                options=(
                    *options,
                    *tile.options,
                    *self.column_options,
                    *(("-DBIAS",) if self.packed_bias else ()),
                ),
                arguments=(
                    source,
                    self.packed_filter,
                    *self.packed_bias,
                    output,
                    *bounds,
                    nhwc(source.shape)[1],
                    height,
                    *self.window.kernel,
                    *self.window.stride,
                    self.padding[0] // 2,
                    self.padding[1] // 2,
                    *self.window.dilation,
                ),
                key=shape_key("depthwise_conv2d_ocl_kernel", *gws, width, self.filter_shape[0]),
                gws=gws,
            )
        ]
