"""Ops that draw many values together: Pooling, FullyConnected, Softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import FusedActivation, Shape, Window, nhwc, unsupported
from droidmace.engine.axis_order import takes_nchw
from droidmace.engine.op_arguments import pool_kernel, rounds_up
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import Tensor, WeightTable, blocks
from droidmace.engine.ops.base import (
    NetContext,
    SingleOutputOp,
    not_on_gpu,
    per_pixel_gws,
    shape_key,
)
from droidmace.formats.netdef import OperatorDef

POOL_AVERAGE, POOL_MAX = 1, 2


class Pooling(SingleOutputOp):
    """Maximum or average over a window."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.window = Window.of(op, pool_kernel(op))
        self.kind = op.int_arg("pooling_type", POOL_AVERAGE)
        if self.kind not in (POOL_AVERAGE, POOL_MAX):
            raise unsupported(op, f"pooling type {self.kind}")
        self.padding = (0, 0)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        batch, height, width, channels = nhwc(shapes[self.inputs[0]])
        out, self.padding = self.window.slide((height, width), ceil=rounds_up(self.op))
        if min(out) < 1:
            raise unsupported(self.op, f"{height}x{width} pixels are fewer than the window")
        return (batch, *out, channels)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        _, in_height, in_width, _ = nhwc(inputs[0].shape)
        return [
            self.gpu.bind(
                "pooling",
                "pooling",
                options=("-DPOOL_AVG",) if self.kind == POOL_AVERAGE else (),
                arguments=(
                    inputs[0],
                    output,
                    in_height,
                    in_width,
                    nhwc(output.shape)[1],
                    self.padding[0] // 2,
                    self.padding[1] // 2,
                    *self.window.stride,
                    *self.window.kernel,
                    *self.window.dilation,
                ),
                # MACE's key has two underscores here
                key=shape_key("pooling_opencl_kernel_", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.pooling,
            )
        ]


class FullyConnected(SingleOutputOp):
    """Every output from every input."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.weight_shape = context.weights.filter_shape(op.inputs[1])
        self.activation = FusedActivation.of(op)
        self.bias: WeightTable | None = None
        self.upload()

    def upload(self) -> None:
        """Bring the constants to the device, as the kernel takes them."""
        self.weight = self.context.weights.fully_connected_weight(self.op.inputs[1])
        if len(self.op.inputs) > 2:
            self.bias = self.vector(2, self.weight_shape[0])

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        batch, height, width, channels = nhwc(shapes[self.inputs[0]])
        if (channels, height, width) != self.weight_shape[1:]:
            raise unsupported(
                self.op,
                f"input {list(shapes[self.inputs[0]])} does not fit the weight"
                f" {list(self.weight_shape)}",
            )
        return (batch, 1, 1, self.weight_shape[0])

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        _, in_height, in_width, in_channels = nhwc(inputs[0].shape)
        batch, _, _, channels = nhwc(output.shape)
        bias = () if self.bias is None else (self.bias,)
        return [
            self.gpu.bind(
                "fully_connected",
                "fully_connected_width",
                options=(*(("-DBIAS",) if bias else ()), *self.activation.options),
                arguments=(
                    inputs[0],
                    self.weight,
                    *bias,
                    output,
                    *self.activation.arguments,
                    in_height,
                    in_width,
                    in_channels,
                    channels,
                ),
                key=shape_key("fc_opencl_kernel", *nhwc(output.shape)),
                gws=(blocks(channels), batch),
                rule=local_size.row_2d,
            )
        ]


class Softmax(SingleOutputOp):
    """Softmax over the channels, or its logarithm."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        knows_axes = bool(self.op.int_arg("has_data_format")) or takes_nchw(self.op, on_gpu=True)
        if len(shape) == 4 and knows_axes and self.op.int_arg("axis", 1) != 1:
            raise not_on_gpu(self.op, f"axis {self.op.int_arg('axis')}")
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        shape = nhwc(output.shape)
        return [
            self.gpu.bind(
                "softmax",
                "softmax",
                options=("-DUSE_LOG",) if self.op.int_arg("use_log") else (),
                arguments=(inputs[0], output, shape[3]),
                key=shape_key("softmax_opencl_kernel", *shape),
                gws=per_pixel_gws(shape),
                rule=local_size.softmax,
            )
        ]
