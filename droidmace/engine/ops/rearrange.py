"""Ops that only move values: slices, transposes, shuffles, reshapes (``kernels/rearrange.cl``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import Shape, nhwc
from droidmace.engine.axis_order import nchw_shape, nhwc_shape, takes_nchw
from droidmace.engine.op_arguments import grid_pads, slice_of, strided_slices
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.engine.opencl.tensor import Tensor
from droidmace.engine.ops.base import (
    GpuOp,
    NetContext,
    SingleOutputOp,
    nhwc_axis,
    not_on_gpu,
    per_pixel_gws,
    shape_key,
)
from droidmace.formats.netdef import OperatorDef

_FRAMEWORKS_WITH_NCHW = (2, 3)  # FrameworkType: ONNX, PYTORCH
_TO_NHWC_AXIS = (0, 3, 1, 2)
_AXIS_NAMES = "nhwc"


def bind_rearranged(
    gpu: Gpu,
    kernel: str,
    source: Tensor,
    target: Tensor,
    numbers: Sequence[int] = (),
    *,
    key: str = "",
    options: Sequence[str] = (),
    whole_blocks: bool = False,
) -> Dispatch:
    """Kernel ``kernel`` of ``rearrange.cl``.

    ``numbers`` are its last arguments; ``whole_blocks`` says that no block of four channels is
    taken apart.
    """
    _, in_height, _, in_channels = nhwc(source.shape)
    _, out_height, _, out_channels = nhwc(target.shape)
    return gpu.bind(
        "rearrange",
        kernel,
        options=(*options, *(("-DWHOLE_BLOCKS",) if whole_blocks else ())),
        arguments=(source, target, in_height, in_channels, out_height, out_channels, *numbers),
        key=shape_key(key or f"{kernel}_opencl_kernel", *nhwc(target.shape)),
        gws=per_pixel_gws(target.shape),
        rule=local_size.default_3d,
    )


def _bind_slice(
    gpu: Gpu, source: Tensor, target: Tensor, begins: Shape, steps: Shape, key: str
) -> Dispatch:
    """Every ``steps``-th value from ``begins`` on; both NHWC."""
    return bind_rearranged(
        gpu,
        "slice",
        source,
        target,
        (*begins, *steps),
        key=key,
        whole_blocks=begins[3] % 4 == 0 and steps[3] == 1,
    )


class Split(GpuOp):
    """One tensor cut along an axis: evenly, or into the sizes that a second input holds."""

    def output_shapes(self, shapes: Mapping[str, Shape]) -> list[Shape]:
        """See :class:`GpuOp`."""
        rank = len(shapes[self.inputs[0]])
        self.axis = nhwc_axis(self.op, self.op.int_arg("axis", 3), rank)
        return self.inferred_shapes(shapes)

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Dispatch]:
        """See :class:`GpuOp`."""
        dispatches = []
        begin = 0
        for output in outputs:
            begins = tuple(begin if axis == self.axis else 0 for axis in range(4))
            key = f"split_opencl_kernel_{self.axis}_{begin}"
            dispatches.append(_bind_slice(self.gpu, inputs[0], output, begins, (1, 1, 1, 1), key))
            begin += nhwc(output.shape)[self.axis]
        return dispatches


class StridedSlice(SingleOutputOp):
    """A range along each axis: StridedSlice and Slice."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        source = shapes[self.inputs[0]]
        nchw = takes_nchw(self.op, on_gpu=True)
        weights = self.context.weights
        ranges = slice_of if self.op.type == "Slice" else strided_slices
        chosen = ranges(
            self.op,
            nchw_shape(source) if nchw else source,
            [weights.array(name) for name in self.op.inputs[1:]],
        )
        if nchw and len(chosen) == 4:
            chosen = [chosen[axis] for axis in (0, 2, 3, 1)]
        begins, steps = [], []
        for size, part in zip(source, chosen, strict=True):
            begin, _, step = part.indices(size) if isinstance(part, slice) else (part, 0, 1)
            begins.append(begin)
            steps.append(step)
        self.begins, self.steps = _as_pixels(begins, 0), _as_pixels(steps, 1)
        kept = [
            len(range(size)[part])
            for size, part in zip(source, chosen, strict=True)
            if isinstance(part, slice)
        ]
        whole = [
            len(range(size)[part]) if isinstance(part, slice) else 1
            for size, part in zip(source, chosen, strict=True)
        ]
        if nhwc(tuple(kept)) != nhwc(tuple(whole)):
            raise not_on_gpu(self.op, f"an output of shape {list(shape)}")
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        key = shape_key("strided_slice_opencl_kernel", *self.begins, *self.steps)
        return [_bind_slice(self.gpu, inputs[0], output, self.begins, self.steps, key)]


class Crop(SingleOutputOp):
    """As much of the first input as the second is large; axes with a negative offset stay whole."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        offsets = self.op.ints_arg("offset")
        if takes_nchw(self.op, on_gpu=True):
            offsets = nhwc_shape(offsets)
        self.begins = tuple(max(offset, 0) for offset in offsets)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        key = shape_key("crop_opencl_kernel", *self.begins)
        return [_bind_slice(self.gpu, inputs[0], output, self.begins, (1, 1, 1, 1), key)]


class Transpose(SingleOutputOp):
    """The axes in another order."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        dims = self.op.ints_arg("dims")
        if len(dims) == 4 and takes_nchw(self.op, on_gpu=True):
            moved = [_TO_NHWC_AXIS[axis] for axis in dims]  # by axis of an NCHW output
            dims = tuple(moved[_TO_NHWC_AXIS.index(axis)] for axis in range(4))
        self.dims = dims if len(dims) == 4 else _matrix_dims(dims)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        options = [
            f"-DFROM_{_AXIS_NAMES[axis].upper()}={_AXIS_NAMES[self.dims.index(axis)]}"
            for axis in range(4)
        ]
        return [
            bind_rearranged(
                self.gpu,
                "transpose",
                inputs[0],
                output,
                key=shape_key("transpose_opencl_kernel", *self.dims),
                options=options,
                whole_blocks=self.dims[3] == 3,
            )
        ]


class Reshape(SingleOutputOp):
    """The same values in another shape: Reshape, Flatten, Squeeze, Unsqueeze, ExpandDims, Identity.

    Models from ONNX and PyTorch count values channel by channel, so that is the order kept when
    ``has_data_format`` says that the axes were moved. Where no value moves there is no copy.
    """

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        framework = op.int_arg("framework_type", context.net.int_arg("framework_type"))
        self.nchw = takes_nchw(op, on_gpu=True) or (
            bool(op.int_arg("has_data_format")) and framework in _FRAMEWORKS_WITH_NCHW
        )

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        source = shapes[self.inputs[0]]
        (target,) = self.inferred_shapes(shapes)
        if len(target) not in (1, 2, 4):
            raise not_on_gpu(self.op, f"an output of shape {list(target)}")
        self.is_alias = self._keeps_pixels(nhwc(source), nhwc(target))
        return target

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if self.is_alias:
            return []
        options = ("-DNCHW",) if self.nchw else ()
        return [bind_rearranged(self.gpu, "reshape", inputs[0], output, options=options)]

    def _keeps_pixels(self, source: Shape, target: Shape) -> bool:
        """Whether each value stays where it is in memory of any kind."""
        if source == target or math.prod(source) == 1:
            return True
        single = all(shape[1] == shape[2] == 1 for shape in (source, target))
        return single and source[0] == target[0]


class ChannelShuffle(SingleOutputOp):
    """Channels of ``group`` groups interleaved."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        self.groups = self.op.int_arg("group", 1)
        (shape,) = self.inferred_shapes(shapes)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return [
            bind_rearranged(self.gpu, "channel_shuffle", inputs[0], output, (self.groups,)),
        ]


class DepthToSpace(SingleOutputOp):
    """Channels to blocks of pixels."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        last = self.op.str_arg("mode", "DCR") == "CRD"
        return [
            bind_rearranged(
                self.gpu,
                "depth_to_space",
                inputs[0],
                output,
                (self.op.int_arg("block_size", 1),),
                key="depth_to_space",
                options=("-DCRD",) if last else (),
                whole_blocks=not last and nhwc(output.shape)[3] % 4 == 0,
            )
        ]


class SpaceToDepth(SingleOutputOp):
    """Blocks of pixels to channels."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return [
            bind_rearranged(
                self.gpu,
                "space_to_depth",
                inputs[0],
                output,
                (self.op.int_arg("block_size", 1),),
                key="space_to_depth",
                whole_blocks=nhwc(inputs[0].shape)[3] % 4 == 0,
            )
        ]


class BatchAndSpace(SingleOutputOp):
    """Pixels of blocks to images of the batch, or back: SpaceToBatchND and BatchToSpaceND."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        to_batch = self.op.type == "SpaceToBatchND"
        kernel = "space_to_batch" if to_batch else "batch_to_space"
        block, edges = grid_pads(self.op, "paddings" if to_batch else "crops")
        batch = min(nhwc(inputs[0].shape)[0], nhwc(output.shape)[0])
        return [
            bind_rearranged(
                self.gpu,
                kernel,
                inputs[0],
                output,
                (batch, *block, edges[0][0], edges[1][0]),
                key=kernel,
                whole_blocks=True,
            )
        ]


def _as_pixels(values: Sequence[int], between: int) -> Shape:
    """Values per axis of a matrix or vector as those of its NHWC shape."""
    if len(values) == 4:
        return tuple(values)
    if len(values) == 2:
        return (values[0], between, between, values[1])
    return (between, between, between, *values)


def _matrix_dims(dims: Shape) -> Shape:
    return (3, 1, 2, 0) if dims == (1, 0) else (0, 1, 2, 3)
