"""Ops that move values without changing them: Concat, Pad, Reshape, Squeeze, Flatten, Identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import Shape, nhwc, reshaped, shape_from, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import (
    Tensor,
    allocate_buffer,
    bind_download,
    bind_upload,
    blocks,
    float32_buffer_bytes,
)
from droidmace.engine.ops.base import NetContext, SingleOutputOp, per_pixel_gws, shape_key
from droidmace.formats.netdef import OperatorDef

_FRAMEWORKS_WITH_NCHW = (2, 3)  # FrameworkType: ONNX, PYTORCH


class Concat(SingleOutputOp):
    """Inputs one after the other along the channels."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        if op.int_arg("axis", 3) % 4 != 3:
            raise unsupported(op, f"axis {op.int_arg('axis', 3)}")
        if len(self.inputs) != len(op.inputs) or len(op.inputs) < 2:
            raise unsupported(op, "constant inputs, or fewer than two")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        found = [nhwc(shapes[name]) for name in self.inputs]
        if len({shape[:3] for shape in found}) != 1:
            raise unsupported(self.op, f"inputs {[list(shape) for shape in found]}")
        if len(found) > 2 and any(shape[3] % 4 for shape in found):
            raise unsupported(self.op, "more than two inputs whose channels are no multiples of 4")
        return (*found[0][:3], sum(shape[3] for shape in found))

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        key = shape_key("concat_opencl_kernel", *nhwc(output.shape))
        if len(inputs) == 2:
            channels = [nhwc(tensor.shape)[3] for tensor in inputs]
            return [
                self.gpu.bind(
                    "concat",
                    "concat_channel",
                    options=("-DDIVISIBLE_FOUR",) if channels[0] % 4 == 0 else (),
                    arguments=(inputs[0], inputs[1], *channels, output),
                    key=key,
                    gws=per_pixel_gws(output.shape),
                    rule=local_size.concat,
                )
            ]
        dispatches = []
        offset = 0
        for tensor in inputs:
            dispatches.append(
                self.gpu.bind(
                    "concat",
                    "concat_channel_multi",
                    arguments=(tensor, offset, output),
                    key=f"{key}_{offset}",
                    gws=per_pixel_gws(tensor.shape),
                    rule=local_size.concat,
                )
            )
            offset += blocks(nhwc(tensor.shape)[3])
        return dispatches


class Pad(SingleOutputOp):
    """Rows and columns added: a constant, or a mirror image."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        pads = op.ints_arg("paddings")
        if len(pads) != 8 or min(pads) < 0 or any(pads[:2]) or any(pads[6:]):
            raise unsupported(op, f"paddings {list(pads)}")
        self.before = (pads[2], pads[4])
        self.after = (pads[3], pads[5])
        self.kind = op.int_arg("pad_type", 0)
        if self.kind not in (0, 1, 2):
            raise unsupported(op, f"pad type {self.kind}")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        batch, height, width, channels = nhwc(shapes[self.inputs[0]])
        if self.kind:
            reach = max(*self.before, *self.after)
            if reach >= min(height, width) + self.kind - 1:
                raise unsupported(self.op, f"a reflection of {reach} pixels")
        return (
            batch,
            self.before[0] + height + self.after[0],
            self.before[1] + width + self.after[1],
            channels,
        )

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        _, height, width, _ = nhwc(inputs[0].shape)
        return [
            self.gpu.bind(
                "pad",
                "pad",
                options=(f"-DPAD_TYPE={self.kind}",),
                arguments=(
                    inputs[0],
                    output,
                    self.op.float_arg("constant_value"),
                    height,
                    width,
                    nhwc(output.shape)[1],
                    *self.before,
                ),
                key=shape_key("pad", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]


class Reshape(SingleOutputOp):
    """The same values in another shape: Reshape, Flatten, Squeeze, Identity.

    Models from ONNX and PyTorch count values channel by channel, so that is the order kept when
    ``has_data_format`` says that the axes were moved. Single pixels need no copy.
    """

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        framework = op.int_arg("framework_type", context.net.int_arg("framework_type"))
        self.nchw = bool(op.int_arg("has_data_format")) and framework in _FRAMEWORKS_WITH_NCHW

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        source = shapes[self.inputs[0]]
        target = reshaped(self.op, source, self._constant_shape())
        self.is_alias = self._keeps_pixels(nhwc(source), nhwc(target))
        return target

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if self.is_alias:
            return []
        buffer = allocate_buffer(self.gpu, float32_buffer_bytes(output.shape))
        return [
            bind_download(self.gpu, inputs[0], buffer, nchw=self.nchw),
            bind_upload(self.gpu, buffer, output, nchw=self.nchw),
        ]

    def _constant_shape(self) -> Shape:
        """The shape that the second input holds, if there is one."""
        if len(self.op.inputs) < 2:
            return ()
        return shape_from(self.op, self.context.weights.array(self.op.inputs[1]))

    @staticmethod
    def _keeps_pixels(source: Shape, target: Shape) -> bool:
        single = all(shape[1] == shape[2] == 1 for shape in (source, target))
        return source == target or (single and source[0] == target[0])
