"""Ops that draw many values together: Pooling, Reduce, FullyConnected, Softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import FusedActivation, Shape, Window, nhwc, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import Tensor, WeightTable, blocks
from droidmace.engine.ops.base import NetContext, SingleOutputOp, per_pixel_gws, shape_key
from droidmace.formats.netdef import OperatorDef

_TILE = 16
_POOL_AVERAGE, _POOL_MAX = 1, 2
_REDUCE_MEAN, _REDUCE_SUM = 0, 4


class Pooling(SingleOutputOp):
    """Maximum or average over a window."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        kernel = op.ints_arg("kernels")
        if len(kernel) != 2 or min(kernel) < 1 or max(kernel) >= 1 << 31:
            raise unsupported(op, f"kernels {list(kernel)}")
        self.window = Window.of(op, (kernel[0], kernel[1]))
        self.kind = op.int_arg("pooling_type", _POOL_AVERAGE)
        if self.kind not in (_POOL_AVERAGE, _POOL_MAX):
            raise unsupported(op, f"pooling type {self.kind}")
        if self.window.dilation != (1, 1):
            raise unsupported(op, f"dilations {list(self.window.dilation)}")
        self.ceil = op.int_arg("round_mode", 0) == 1
        self.padding = (0, 0)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        batch, height, width, channels = nhwc(shapes[self.inputs[0]])
        out, self.padding = self.window.slide((height, width), ceil=self.ceil)
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
                options=("-DPOOL_AVG",) if self.kind == _POOL_AVERAGE else (),
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
                ),
                # MACE's key has two underscores here
                key=shape_key("pooling_opencl_kernel_", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.pooling,
            )
        ]


class Reduce(SingleOutputOp):
    """Mean, minimum, maximum, product or sum over height and width, or over channels."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.axes = sorted(axis % 4 for axis in op.ints_arg("axis"))
        if self.axes not in ([1, 2], [3]):
            raise unsupported(op, f"axis {list(op.ints_arg('axis'))}")
        self.kind = op.int_arg("reduce_type", _REDUCE_MEAN)
        if not _REDUCE_MEAN <= self.kind <= _REDUCE_SUM:
            raise unsupported(op, f"reduce type {self.kind}")
        self._scratch: list[Shape] = []

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        batch, height, width, channels = nhwc(shapes[self.inputs[0]])
        if self.axes == [3]:
            return (batch, height, width, 1)
        self._scratch = []
        while height > _TILE or width > _TILE:
            height, width = -(-height // _TILE), -(-width // _TILE)
            self._scratch.append((batch, height, width, channels))
        return (batch, 1, 1, channels)

    def scratch_shapes(self) -> list[Shape]:
        """See :class:`SingleOutputOp`."""
        return self._scratch

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source, *scratch = inputs
        if self.axes == [3]:
            return [self._over_channels(source, output)]
        _, height, width, _ = nhwc(source.shape)
        stages = [source, *scratch, output]
        scale = 1.0 / (height * width) if self.kind == _REDUCE_MEAN else 1.0
        return [
            self._over_pixels(stages[i], stages[i + 1], scale if i == len(stages) - 2 else 1.0)
            for i in range(len(stages) - 1)
        ]

    def _over_pixels(self, source: Tensor, target: Tensor, scale: float) -> Dispatch:
        _, in_height, in_width, channels = nhwc(source.shape)
        batch, height, width, _ = nhwc(target.shape)
        gws = (width, height, batch * blocks(channels))
        return self.gpu.bind(
            "reduce",
            "reduce_hw",
            options=(f"-DREDUCE_TYPE={self.kind}",),
            arguments=(source, target, in_height, in_width, blocks(channels), scale),
            key=shape_key("reduce_hw_opencl_kernel", *gws),
            gws=gws,
            rule=local_size.default_3d,
        )

    def _over_channels(self, source: Tensor, target: Tensor) -> Dispatch:
        batch, height, width, channels = nhwc(source.shape)
        gws = (1, width, batch * height)
        scale = 1.0 / channels if self.kind == _REDUCE_MEAN else 1.0
        return self.gpu.bind(
            "reduce",
            "reduce_c",
            options=(f"-DREDUCE_TYPE={self.kind}",),
            arguments=(source, target, channels, scale),
            key=shape_key("reduce_c_opencl_kernel", *gws),
            gws=gws,
            rule=local_size.default_3d,
        )


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
        return shapes[self.inputs[0]]

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
