"""Conv2D and DepthwiseConv2d."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import FusedActivation, Shape, Window, nhwc, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Bindable, Dispatch, KernelArgument
from droidmace.engine.opencl.tensor import Tensor, WeightTable, blocks
from droidmace.engine.ops.base import NetContext, SingleOutputOp, shape_key
from droidmace.engine.ops.groups import Groups, filter_of_multiplier
from droidmace.formats.netdef import OperatorDef


class Convolution(SingleOutputOp):
    """What the two convolutions share, and those with kernels of their own."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.filter_shape = context.weights.filter_shape(op.inputs[1])
        self.bias: WeightTable | None = None
        self.window = Window.of(op, (self.filter_shape[2], self.filter_shape[3]))
        self.activation = FusedActivation.of(op)
        self.padding = (0, 0)

    def slide(self, shape: Shape, channels: int) -> Shape:
        """Output shape over an input of ``shape``; remembers the padding."""
        batch, height, width, _ = nhwc(shape)
        (out_height, out_width), self.padding = self.window.slide((height, width))
        if min(out_height, out_width) < 1:
            raise unsupported(self.op, f"input {list(shape)} is smaller than the kernel")
        return (batch, out_height, out_width, channels)

    @property
    def options(self) -> tuple[str, ...]:
        """Build options for bias and activation."""
        return (*(("-DBIAS",) if self.bias is not None else ()), *self.activation.options)

    def arguments(
        self, source: Tensor, weights: WeightTable, target: Tensor
    ) -> tuple[KernelArgument | Bindable, ...]:
        """The arguments every convolution kernel begins with."""
        bias = () if self.bias is None else (self.bias,)
        return (source, weights, *bias, target, *self.activation.arguments)

    def bind_groups(
        self, groups: Groups, source: Tensor, weights: WeightTable, output: Tensor
    ) -> Dispatch:
        """The kernel for any window, with a filter that :meth:`Groups.spread` has arranged."""
        _, in_height, in_width, in_channels = nhwc(source.shape)
        batch, height, width, channels = nhwc(output.shape)
        kernel = self.window.kernel
        return self.gpu.bind(
            "conv_2d",
            "conv_2d",
            options=(*self.options, "-DGROUPS"),
            arguments=(
                *self.arguments(source, weights, output),
                in_height,
                in_width,
                groups.span,
                height,
                width,
                *kernel,
                *self.window.stride,
                self.padding[0] // 2,
                self.padding[1] // 2,
                *self.window.dilation,
                groups.inputs,
                groups.outputs,
                blocks(in_channels) - 1,
            ),
            key=shape_key(
                "conv2d_general_opencl_kernel", *nhwc(output.shape), *kernel, groups.count
            ),
            gws=(blocks(channels), -(-width // 4), batch * height),
            rule=local_size.conv_general(kernel[0] * kernel[1]),
        )


class Conv2D(Convolution):
    """Convolution: kernels for 1x1, for 3x3, and for everything else."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        count = op.int_arg("group", 1)
        if count < 1 or self.filter_shape[0] % count:
            raise unsupported(op, f"{self.filter_shape[0]} outputs in {count} groups")
        self.groups = Groups(count, self.filter_shape[1], self.filter_shape[0] // count)
        self.upload()

    def upload(self) -> None:
        """Bring the constants to the device, as the kernels take them."""
        weights, name = self.context.weights, self.op.inputs[1]
        if self.groups.count == 1:
            self.filter = weights.convolution_filter(name)
        else:
            self.filter = weights.arranged_filter(
                name, f"filter in {self.groups.count} groups", self.groups.spread
            )
        if len(self.op.inputs) > 2:
            self.bias = self.vector(2, self.filter_shape[0])

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        if nhwc(shape)[3] != self.filter_shape[1] * self.groups.count:
            raise unsupported(
                self.op,
                f"input {list(shape)} does not fit the filter {list(self.filter_shape)}",
            )
        return self.slide(shape, self.filter_shape[0])

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source = inputs[0]
        if self.groups.count > 1:
            return [self.bind_groups(self.groups, source, self.filter, output)]
        _, in_height, in_width, in_channels = nhwc(source.shape)
        batch, height, width, channels = nhwc(output.shape)
        kernel, stride, dilation = self.window.kernel, self.window.stride, self.window.dilation
        sizes = (in_height, in_width, blocks(in_channels), height, width)
        pads = (self.padding[0] // 2, self.padding[1] // 2)
        if kernel == (1, 1) and self.padding == (0, 0):
            name, prefix, per_item = "conv_2d_1x1", "conv2d_1x1_opencl_kernel", 4
            rest: tuple[int, ...] = (*sizes, *stride)
            rule: local_size.Rule = local_size.conv_1x1
        elif kernel == (3, 3):
            name, prefix, per_item = "conv_2d_3x3", "conv2d_3x3_opencl_kernel", 5
            rest = (*sizes, *stride, *pads, *dilation)
            rule = local_size.conv_3x3
        else:
            name, prefix, per_item = "conv_2d", "conv2d_general_opencl_kernel", 4
            rest = (*sizes, *kernel, *stride, *pads, *dilation)
            rule = local_size.conv_general(kernel[0] * kernel[1])
        tail = kernel if name == "conv_2d" else ()
        return [
            self.gpu.bind(
                name,
                name,
                options=self.options,
                arguments=(*self.arguments(source, self.filter, output), *rest),
                key=shape_key(prefix, batch, height, width, channels, *tail),
                gws=(blocks(channels), -(-width // per_item), batch * height),
                rule=rule,
            )
        ]


class DepthwiseConv2d(Convolution):
    """Depthwise convolution: as many outputs per input channel as the filter has rows."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        multiplier, channels, *_ = self.filter_shape
        self.out_channels = multiplier * channels
        self.groups = Groups(channels, 1, multiplier)
        self.upload()

    def upload(self) -> None:
        """Bring the constants to the device, as the kernels take them."""
        weights, name = self.context.weights, self.op.inputs[1]
        if self.groups.outputs == 1:
            self.filter = weights.depthwise_filter(name)
        else:
            arrange = functools.partial(filter_of_multiplier, self.groups)
            self.filter = weights.arranged_filter(name, "filter of a multiplier", arrange)
        if len(self.op.inputs) > 2:
            self.bias = self.vector(2, self.out_channels)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        if nhwc(shape)[3] != self.filter_shape[1]:
            raise unsupported(
                self.op,
                f"input {list(shape)} does not fit the filter {list(self.filter_shape)}",
            )
        return self.slide(shape, self.out_channels)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source = inputs[0]
        if self.groups.outputs > 1:
            return [self.bind_groups(self.groups, source, self.filter, output)]
        _, in_height, in_width, _ = nhwc(source.shape)
        batch, height, width, channels = nhwc(output.shape)
        stride, dilation = self.window.stride, self.window.dilation
        slides = stride == dilation == (1, 1)
        gws = (blocks(channels), -(-width // 4), batch * height)
        sizes = (in_height, in_width, height, width, *self.window.kernel)
        pads = (self.padding[0] // 2, self.padding[1] // 2)
        return [
            self.gpu.bind(
                "depthwise_conv2d",
                "depthwise_conv2d_s1" if slides else "depthwise_conv2d",
                options=(*self.options, *_stride_options(stride)),
                arguments=(
                    *self.arguments(source, self.filter, output),
                    *sizes,
                    *pads,
                    *(() if slides else dilation),
                ),
                key=shape_key("depthwise_conv2d_ocl_kernel", *gws, self.filter_shape[0]),
                gws=gws,
                rule=local_size.depthwise,
            )
        ]


def _stride_options(stride: tuple[int, int]) -> tuple[str, ...]:
    """The stride along a row, and the one between rows if it is another."""
    height, width = stride
    return (f"-DSTRIDE={width}", *((f"-DSTRIDE_H={height}",) if height != width else ()))
