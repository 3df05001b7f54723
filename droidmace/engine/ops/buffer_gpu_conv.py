"""Ops with kernels of their own, for GPUs with activations in buffers: convolutions and means.

At batch 1 a layer is over in microseconds, most of which a GPU spends waiting for memory. So a
work-item computes little, and where there are still too few of them, the items of a work-group
share out each sum; what is tuned is how many do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import PADDING_VALID, Shape, Window, nhwc, unsupported
from droidmace.engine.fusion import has_residual
from droidmace.engine.opencl.arena import place_of
from droidmace.engine.opencl.local_size import Gws, Limits, Params, Rule, round_up
from droidmace.engine.opencl.runtime import Dispatch, KernelArgument
from droidmace.engine.opencl.tensor import HostArray, Tensor, blocks
from droidmace.engine.ops.aggregate import FullyConnected
from droidmace.engine.ops.base import GpuOp, shape_key
from droidmace.engine.ops.buffer_wide import activation_options
from droidmace.engine.ops.conv import Conv2D, DepthwiseConv2d
from droidmace.engine.ops.reduce import Reduce

_BLOCK = 4
"""Channels that are one access to memory."""
_TILE = 4
"""Pixels in the registers of a work-item of a convolution, if there are that many."""
_MOST_ITEMS = 256
"""Work-items that can share out sums (MOST_ITEMS in the kernels)."""
_ITEMS = 128
"""Work-items in a group, if a tuning run does not know better."""
_FEWEST_ITEMS = 8
"""Smaller groups with a barrier are compiled wrong by PoCL 3.1."""
_MOST_PARTS = 32
_ITEMS_PER_UNIT = 512
"""Work-items that keep a compute unit busy: sums are not shared out any further."""
_ROW_TILE = 2
"""Pixels in the registers of a work-item of a depthwise convolution."""
_MEAN, _SUM = 0, 4
"""Values of a Reduce op's ``reduce_type``."""
_LARGEST_WINDOW = 49
"""Taps up to which a depthwise kernel is unrolled."""


def pack_filter(weights: HostArray, bias: HostArray | None) -> HostArray:
    """OIHW to [tap][input][output], all rounded up to four with zeros; then a row of biases."""
    outputs, inputs, height, width = weights.shape
    rows, columns = round_up(inputs, _BLOCK), round_up(outputs, _BLOCK)
    packed = np.zeros((height * width * rows + 1, columns), weights.dtype)
    taps = packed[:-1].reshape(height * width, rows, columns)
    taps[:, :inputs, :outputs] = weights.reshape(outputs, inputs, -1).transpose(2, 1, 0)
    if bias is not None:
        packed[-1, :outputs] = bias.reshape(-1)
    return packed


def pack_depthwise(weights: HostArray, bias: HostArray | None) -> HostArray:
    """1IHW to [tap][channel], the channels rounded up to four with zeros; then a row of biases."""
    _, channels, height, width = weights.shape
    packed = np.zeros((height * width + 1, round_up(channels, _BLOCK)), weights.dtype)
    packed[:-1, :channels] = weights.reshape(channels, -1).T
    if bias is not None:
        packed[-1, :channels] = bias.reshape(-1)
    return packed


def packed_constants(
    op: GpuOp, layout: str, channels: int, pack: Callable[[HostArray, HostArray | None], HostArray]
) -> cl.Buffer:
    """The filter of ``op``, and its bias if it has one for ``channels``, as ``pack`` lays them."""
    weights = op.context.weights
    _, name, *others = op.op.inputs
    bias = None
    if len(others) > has_residual(op.op):
        bias = weights.array(others[0])
        layout = f"{layout}, bias {others[0]}"
        if bias.size != channels:
            what = f"{others[0]!r} has {bias.size} values for {channels} channels"
            raise unsupported(op.op, what)
    return weights.packed(name, layout, lambda values: pack(values, bias))


def shared_sums(terms: int) -> Rule:
    """For kernels whose items share out sums of ``terms`` each along the last axis."""

    def rule(gws: Gws, limits: Limits) -> Params:
        items = _power_of_2(min(_ITEMS, limits.kwg_size))
        room = limits.compute_units * _ITEMS_PER_UNIT // (gws[0] * gws[1])
        # a single row of sums has nothing else to fill the device with
        most = _MOST_PARTS if gws[1] > 1 else 2 * _MOST_PARTS
        parts = min(_power_of_2(terms // 2), _power_of_2(room), most, items)
        across = min(_power_of_2(gws[0], up=True), 8, items // parts)
        down = min(_power_of_2(gws[1], up=True), items // parts // across)
        down = max(down, min(_FEWEST_ITEMS, items) // parts // across)
        return (across, down, parts, 0)

    return rule


def shared_sum_choices(gws: Gws, kwg_size: int) -> list[Params]:
    """What a tuning run tries for those kernels."""
    items = _power_of_2(min(_MOST_ITEMS, kwg_size))
    tried = [
        (across, size // across // parts, parts, 0)
        for size in (items, items // 2)
        for across in (2, 4, 8, 16)
        for parts in (1, 2, 4, 8, 16, 32, 64)
    ]
    fitting = (lws for lws in tried if 0 < lws[1] < 2 * gws[1] and lws[0] < 2 * gws[0])
    return list(dict.fromkeys(fitting))


def depthwise_rule(gws: Gws, limits: Limits) -> Params:
    """For depthwise convolutions: compact groups, so that their items share what they read."""
    items = _power_of_2(min(_ITEMS, limits.kwg_size))
    across = min(_power_of_2(gws[0], up=True), 8, items)
    down = min(_power_of_2(gws[1], up=True), 8, items // across)
    deep = min(_power_of_2(gws[2], up=True), items // across // down)
    return (across, down, deep, 0)


def _power_of_2(value: int, *, up: bool = False) -> int:
    """The largest power of 2 that is not above ``value``, or the smallest not below; from 1."""
    if value <= 1:
        return 1
    return int(1 << ((value - 1).bit_length() if up else value.bit_length() - 1))


def placed(
    op: GpuOp, source: Tensor, filters: Sequence[cl.Buffer], others: Sequence[Tensor]
) -> tuple[tuple[str, ...], tuple[KernelArgument, ...]]:
    """Build options and first arguments of a kernel: where its tensors lie.

    In the order ``source``, ``filters`` (one or none), ``others``.
    """
    element_bytes = 2 if op.context.memory.half else 4
    objects: list[cl.Buffer] = []
    numbers: list[int] = []
    for item in (source, *filters, *others):
        buffer = item.memory if isinstance(item, Tensor) else item
        chunk, offset_bytes = place_of(cast(cl.Buffer, buffer))
        objects.append(chunk)
        numbers.append(offset_bytes // element_bytes)
        if isinstance(item, Tensor):
            numbers += (nhwc(item.shape)[2], item.stride)
    if len({chunk.int_ptr for chunk in objects}) == 1:
        return (*source.build_options, "-DONE_MEMORY"), (objects[0], *numbers)
    return source.build_options, (*objects, *numbers)


class _Product:
    """Filter and bias of an op as the kernels take them, and the kernels that do."""

    def __init__(self, op: GpuOp) -> None:
        self._op = op
        shape = op.context.weights.filter_shape(op.op.inputs[1])
        self._out_channels, self._in_channels, *_ = shape
        self._filter = packed_constants(op, "blocks", self._out_channels, pack_filter)

    def bind(
        self,
        key: str,
        sources: Sequence[Tensor],
        output: Tensor,
        window: Window,
        padding: tuple[int, int],
    ) -> Dispatch:
        """Bind the kernel for a window over an input and, maybe, a residual.

        ``padding``: above and left.
        """
        source = sources[0]
        pixels = _pixels(output.shape)
        taps = math.prod(window.kernel)
        rest: tuple[int, ...] = ()
        name = "buffer_gpu_conv_2d_1x1"
        is_plain = taps == 1 and window.stride == (1, 1) and padding == (0, 0)
        if not (is_plain and pixels == _pixels(source.shape)):
            name = "buffer_gpu_conv_2d"
            heights = (nhwc(source.shape)[1], nhwc(output.shape)[1])
            rest = (*heights, *window.kernel, *window.stride, *padding, *window.dilation)
        tile = _TILE if pixels >= _TILE else 1
        options, bounds = activation_options(self._op.op)
        memory, places = placed(self._op, source, [self._filter], [*sources[1:], output])
        in_blocks = blocks(self._in_channels)
        gws = (blocks(self._out_channels), -(-pixels // tile), 1)
        dispatch = self._op.gpu.bind(
            "buffer_gpu_conv_2d",
            name,
            options=(
                *memory,
                *options,
                f"-DTILE={tile}",
                *(("-DRESIDUAL",) if len(sources) > 1 else ()),
            ),
            arguments=(
                *places,
                *bounds,
                in_blocks,
                pixels,
                *rest,
            ),
            key=key,
            gws=gws,
            rule=shared_sums(in_blocks * taps),
            scalars_together=True,
        )
        dispatch.choices = shared_sum_choices(gws, dispatch.kwg_size)
        return dispatch


class GpuBufferConv2D(Conv2D):
    """Convolution as a product of matrices; with groups as on any device."""

    def upload(self) -> None:
        """See :class:`Conv2D`."""
        if self.op.int_arg("group", 1) != 1:
            super().upload()
        else:
            self.product = _Product(self)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if self.op.int_arg("group", 1) != 1:
            return super().bind_single(inputs, output)
        window = self.window
        # MACE's keys do not tell sums of different lengths apart; here they want different sizes
        sizes = (*nhwc(output.shape), self.filter_shape[1])
        if window.kernel == (1, 1):
            key = shape_key("conv2d_1x1_opencl_kernel", *sizes)
        else:
            key = shape_key("conv2d_general_opencl_kernel", *sizes, *window.kernel)
        pads = (self.padding[0] // 2, self.padding[1] // 2)
        return [self.product.bind(key, inputs, output, window, pads)]


class GpuBufferFullyConnected(FullyConnected):
    """A convolution whose window is the whole input."""

    def upload(self) -> None:
        """See :class:`FullyConnected`."""
        self.product = _Product(self)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        key = shape_key("fc_opencl_kernel", *nhwc(output.shape))
        _, height, width, _ = nhwc(inputs[0].shape)
        window = Window((height, width), (1, 1), (1, 1), None, PADDING_VALID)
        return [self.product.bind(key, inputs, output, window, (0, 0))]


class GpuBufferDepthwiseConv2d(DepthwiseConv2d):
    """Depthwise convolution; dilated or with several outputs per input as on any device."""

    @property
    def has_own_kernel(self) -> bool:
        """Whether the kernel for GPUs does it."""
        window = self.window
        return (
            self.filter_shape[0] == 1
            and window.dilation == (1, 1)
            and window.stride[0] == window.stride[1] <= 2
            and math.prod(window.kernel) <= _LARGEST_WINDOW
        )

    def upload(self) -> None:
        """See :class:`DepthwiseConv2d`."""
        if not self.has_own_kernel:
            super().upload()
            return
        self.packed = packed_constants(
            self, "depthwise blocks", self.filter_shape[1], pack_depthwise
        )

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if not self.has_own_kernel:
            return super().bind_single(inputs, output)
        source = inputs[0]
        batch, height, width, channels = nhwc(output.shape)
        kernel_h, kernel_w = self.window.kernel
        gws = (blocks(channels), -(-width // _ROW_TILE), batch * height)
        options, bounds = activation_options(self.op)
        memory, places = placed(self, source, [self.packed], [output])
        return [
            self.gpu.bind(
                "buffer_gpu_depthwise_conv2d",
                "buffer_gpu_depthwise_conv2d",
                options=(
                    *memory,
                    *options,
                    f"-DTILE={_ROW_TILE}",
                    f"-DKERNEL_H={kernel_h}",
                    f"-DKERNEL_W={kernel_w}",
                    f"-DSTRIDE={self.window.stride[0]}",
                ),
                arguments=(
                    *places,
                    *bounds,
                    nhwc(source.shape)[1],
                    height,
                    self.padding[0] // 2,
                    self.padding[1] // 2,
                ),
                key=shape_key("depthwise_conv2d_ocl_kernel", *gws, self.filter_shape[0]),
                gws=gws,
                rule=depthwise_rule,
                scalars_together=True,
            )
        ]


class GpuBufferReduce(Reduce):
    """Means and sums over height and width in one command; others as on any device."""

    @property
    def has_own_kernel(self) -> bool:
        """Whether the kernel for GPUs does it."""
        return self.axes == [1, 2] and self.kind in (_MEAN, _SUM)

    def scratch_shapes(self) -> list[Shape]:
        """See :class:`GpuOp`."""
        return [] if self.has_own_kernel else super().scratch_shapes()

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if not self.has_own_kernel:
            return super().bind_single(inputs, output)
        batch, height, width, channels = nhwc(inputs[0].shape)
        pixels = height * width
        gws = (blocks(channels), batch, 1)
        memory, places = placed(self, inputs[0], [], [output])
        dispatch = self.gpu.bind(
            "buffer_gpu_reduce",
            "buffer_gpu_reduce",
            options=memory,
            arguments=(
                *places,
                pixels,
                1.0 / pixels if self.kind == _MEAN else 1.0,
            ),
            key=shape_key("reduce_hw_opencl_kernel", *gws),
            gws=gws,
            rule=shared_sums(pixels),
            scalars_together=True,
        )
        dispatch.choices = shared_sum_choices(gws, dispatch.kwg_size)
        return [dispatch]


def _pixels(shape: Shape) -> int:
    """N * H * W."""
    batch, height, width, _ = nhwc(shape)
    return batch * height * width
