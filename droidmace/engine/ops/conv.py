"""Conv2D and DepthwiseConv2d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import FusedActivation, Shape, Window, nhwc, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Bindable, Dispatch, KernelArgument
from droidmace.engine.opencl.tensor import Tensor, WeightTable, blocks
from droidmace.engine.ops.base import NetContext, SingleOutputOp, shape_key
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


class Conv2D(Convolution):
    """Convolution: kernels for 1x1, for 3x3, and for everything else."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        if op.int_arg("group", 1) != 1:
            raise unsupported(op, f"group {op.int_arg('group')}")
        self.upload()

    def upload(self) -> None:
        """Bring the constants to the device, as the kernels take them."""
        self.filter = self.context.weights.convolution_filter(self.op.inputs[1])
        if len(self.op.inputs) > 2:
            self.bias = self.vector(2, self.filter_shape[0])

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        if nhwc(shape)[3] != self.filter_shape[1]:
            raise unsupported(
                self.op,
                f"input {list(shape)} does not fit the filter {list(self.filter_shape)}",
            )
        return self.slide(shape, self.filter_shape[0])

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source = inputs[0]
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
    """Depthwise convolution with one output per input channel."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        if self.filter_shape[0] != 1:
            raise unsupported(op, f"multiplier {self.filter_shape[0]}")
        if self.window.stride[0] != self.window.stride[1]:
            raise unsupported(op, f"strides {list(self.window.stride)}")
        self.upload()

    def upload(self) -> None:
        """Bring the constants to the device, as the kernels take them."""
        self.filter = self.context.weights.depthwise_filter(self.op.inputs[1])
        if len(self.op.inputs) > 2:
            self.bias = self.vector(2, self.filter_shape[1])

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        channels = self.filter_shape[1]
        if nhwc(shape)[3] != channels:
            raise unsupported(
                self.op,
                f"input {list(shape)} does not fit the filter {list(self.filter_shape)}",
            )
        return self.slide(shape, channels)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source = inputs[0]
        _, in_height, in_width, _ = nhwc(source.shape)
        batch, height, width, channels = nhwc(output.shape)
        stride, dilation = self.window.stride[0], self.window.dilation
        slides = stride == 1 and dilation == (1, 1)
        gws = (blocks(channels), -(-width // 4), batch * height)
        sizes = (in_height, in_width, height, width, *self.window.kernel)
        pads = (self.padding[0] // 2, self.padding[1] // 2)
        return [
            self.gpu.bind(
                "depthwise_conv2d",
                "depthwise_conv2d_s1" if slides else "depthwise_conv2d",
                options=(*self.options, f"-DSTRIDE={stride}"),
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
