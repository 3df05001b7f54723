"""Ops that put tensors together or make them larger: Concat, Pad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import Shape, nhwc, unsupported
from droidmace.engine.axis_order import takes_nchw
from droidmace.engine.op_arguments import pairs_of
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Bindable, Dispatch, KernelArgument
from droidmace.engine.opencl.tensor import Tensor
from droidmace.engine.ops.base import (
    NetContext,
    SingleOutputOp,
    nhwc_axis,
    not_on_gpu,
    per_pixel_gws,
    shape_key,
)
from droidmace.formats.netdef import OperatorDef

_LANES = 4


class Concat(SingleOutputOp):
    """Inputs one after the other along an axis."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        if len(self.inputs) != len(self.op.inputs):
            raise not_on_gpu(self.op, "a constant input")
        rank = len(shapes[self.inputs[0]])
        self.axis = nhwc_axis(self.op, self.op.int_arg("axis", 3), rank)
        (shape,) = self.inferred_shapes(shapes)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        dispatches = []
        begin = 0
        for index, tensor in enumerate(inputs):
            if self.axis != 3:
                dispatches.append(self._along_pixels(tensor, begin, output))
            elif dispatch := self._along_channels(inputs[index : index + _LANES], begin, output):
                dispatches.append(dispatch)
            begin += nhwc(tensor.shape)[self.axis]
        return dispatches

    def _along_channels(
        self, tensors: Sequence[Tensor], begin: int, output: Tensor
    ) -> Dispatch | None:
        """The blocks that begin in the first of ``tensors``, if there are any."""
        channels = [nhwc(tensor.shape)[3] for tensor in tensors]
        whole = nhwc(output.shape)[3]
        first, end = -(-begin // _LANES), -(-(begin + channels[0]) // _LANES)
        if first == end:
            return None
        aligned = begin % _LANES == 0 and (channels[0] % _LANES == 0 or len(tensors) == 1)
        sources: list[KernelArgument | Bindable] = [tensors[0]]
        if not aligned:
            missing = _LANES - len(tensors)
            sources = [*tensors, *[tensors[0]] * missing, begin, *channels, *[0] * missing]
        _, width, rows = per_pixel_gws(output.shape)
        return self.gpu.bind(
            "concat",
            "concat_channel",
            options=("-DALIGNED",) if aligned else (),
            arguments=(
                *sources,
                first,
                output,
            ),
            key=shape_key("concat_opencl_kernel", *nhwc(output.shape)[:3], whole, begin),
            gws=(end - first, width, rows),
            rule=local_size.concat,
        )

    def _along_pixels(self, tensor: Tensor, begin: int, output: Tensor) -> Dispatch:
        return self.gpu.bind(
            "concat",
            "concat_pixels",
            arguments=(
                tensor,
                nhwc(tensor.shape)[1],
                nhwc(output.shape)[1],
                *(begin if axis == self.axis else 0 for axis in range(3)),
                output,
            ),
            key=shape_key("concat_opencl_kernel", *nhwc(output.shape), self.axis, begin),
            gws=per_pixel_gws(tensor.shape),
            rule=local_size.concat,
        )


class Pad(SingleOutputOp):
    """Values added at either end of the axes: a constant, or a mirror image."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.kind = op.int_arg("pad_type", 0)
        if self.kind not in (0, 1, 2):
            raise unsupported(op, f"pad type {self.kind}")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        rank = len(shapes[self.inputs[0]])
        (shape,) = self.inferred_shapes(shapes)
        pairs = pairs_of(self.op, "paddings", rank)
        if rank != 4:
            raise not_on_gpu(self.op, f"{rank} axes")
        if takes_nchw(self.op, on_gpu=True):
            pairs = [pairs[axis] for axis in (0, 2, 3, 1)]
        self.before = [pair[0] for pair in pairs]
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        in_batch, in_height, _, in_channels = nhwc(inputs[0].shape)
        across = in_channels != nhwc(output.shape)[3]
        return [
            self.gpu.bind(
                "pad",
                "pad",
                options=(f"-DPAD_TYPE={self.kind}", *(("-DACROSS_CHANNELS",) if across else ())),
                arguments=(
                    inputs[0],
                    output,
                    self.op.float_arg("constant_value"),
                    in_batch,
                    in_height,
                    in_channels,
                    nhwc(output.shape)[1],
                    *self.before,
                ),
                key=shape_key("pad", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]
