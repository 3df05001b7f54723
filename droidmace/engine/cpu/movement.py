"""Ops that move values: Concat, Split, Slice, Pad, Transpose, blocks to and from channels …"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.axis_order import as_nchw, as_nhwc, nchw_shape
from droidmace.engine.cpu.base import Array, CpuContext, pad_array
from droidmace.engine.op_arguments import (
    ONNX,
    PYTORCH,
    axis_of,
    grid_pads,
    pairs_of,
    slice_of,
    split_sizes,
    strided_slices,
)
from droidmace.engine.shapes import output_shapes
from droidmace.formats.netdef import DataFormat, OperatorDef


def concat(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Concat."""
    return [np.concatenate(inputs, axis=axis_of(op, op.int_arg("axis", 3), inputs[0].ndim))]


def split(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Split: into equal parts, or as the second input says."""
    x = inputs[0]
    axis = axis_of(op, op.int_arg("axis", 3), x.ndim)
    sizes = split_sizes(op, x.shape[axis], inputs[1] if len(inputs) > 1 else None)
    return list(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


def slice_values(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Slice."""
    x = inputs[0]
    return [x[tuple(slice_of(op, x.shape, inputs[1:]))]]


def strided_slice(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """StridedSlice."""
    x = inputs[0]
    return [x[tuple(strided_slices(op, x.shape, inputs[1:]))]]


def crop(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Crop: as much as the second input is large; an offset below 0 leaves an axis alone."""
    x, like = inputs[0], inputs[1]
    parts = [
        slice(None) if offset < 0 else slice(offset, offset + size)
        for offset, size in zip(op.ints_arg("offset"), like.shape, strict=True)
    ]
    return [x[tuple(parts)]]


def pad(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Pad: with a constant, or a mirror image without (1) or with (2) the edge itself."""
    x = inputs[0]
    pairs = pairs_of(op, "paddings", x.ndim)
    kind = op.int_arg("pad_type")
    if kind == 0:
        return [pad_array(x, pairs, op.float_arg("constant_value"))]
    return [np.pad(x, pairs, mode="reflect" if kind == 1 else "symmetric")]


def transpose(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Transpose."""
    return [inputs[0].transpose(op.ints_arg("dims"))]


def reshape(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Reshape, Flatten, Squeeze, Unsqueeze and ExpandDims: values in the order MACE holds them.

    Where the op takes NHWC shapes but MACE's CPU holds NCHW, they are counted as NCHW.
    """
    x = inputs[0]
    known = {
        name: value
        for index, (name, value) in enumerate(zip(op.inputs, inputs, strict=True))
        if index > 0
    }
    shapes = [as_nhwc(value).shape if context.nchw else value.shape for value in inputs]
    (target,) = output_shapes(op, shapes, known, on_gpu=context.on_gpu)
    if context.nchw:
        # a shape is NHWC outside of the op
        return [x.reshape(nchw_shape(target))]
    if not _counts_nchw(op):
        return [x.reshape(target)]
    values = as_nchw(x).reshape(nchw_shape(target))
    return [as_nhwc(values)]


def _counts_nchw(op: OperatorDef) -> bool:
    if not op.int_arg("has_data_format"):
        return False
    if op.arg("data_format") is None:
        return op.int_arg("framework_type") in (ONNX, PYTORCH)
    return op.int_arg("data_format") == DataFormat.AUTO


def tile(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Tile."""
    return [np.tile(inputs[0], tuple(int(count) for count in inputs[1].reshape(-1)))]


def reverse(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Reverse along the axis that the second input names."""
    axis = axis_of(op, int(inputs[1].reshape(-1)[0]), inputs[0].ndim)
    return [np.flip(inputs[0], axis)]


def channel_shuffle(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """ChannelShuffle: the channels of all groups in turn."""
    x = inputs[0]
    groups = x.reshape(*x.shape[:3], op.int_arg("group", 1), -1)
    return [groups.swapaxes(3, 4).reshape(x.shape)]


def depth_to_space(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """DepthToSpace: channels hold blocks (DCR), or each block's channels lie together (CRD)."""
    n, h, w, c = inputs[0].shape
    block = op.int_arg("block_size", 1)
    depth = c // (block * block)
    if op.str_arg("mode", "DCR") == "DCR":
        parts = inputs[0].reshape(n, h, w, block, block, depth).transpose(0, 1, 3, 2, 4, 5)
    else:
        parts = inputs[0].reshape(n, h, w, depth, block, block).transpose(0, 1, 4, 2, 5, 3)
    return [parts.reshape(n, h * block, w * block, depth)]


def space_to_depth(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """SpaceToDepth."""
    n, h, w, c = inputs[0].shape
    block = op.int_arg("block_size", 1)
    parts = inputs[0].reshape(n, h // block, block, w // block, block, c)
    return [parts.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // block, w // block, -1)]


def space_to_batch(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """SpaceToBatchND: the pixels of one place in all blocks become an image."""
    (rows, columns), pads = grid_pads(op, "paddings")
    x = pad_array(inputs[0], [(0, 0), *pads, (0, 0)], 0.0)
    n, h, w, c = x.shape
    parts = x.reshape(n, h // rows, rows, w // columns, columns, c).transpose(2, 4, 0, 1, 3, 5)
    return [parts.reshape(-1, h // rows, w // columns, c)]


def batch_to_space(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """BatchToSpaceND: the way back, with the margins cut off."""
    (rows, columns), crops = grid_pads(op, "crops")
    _, h, w, c = inputs[0].shape
    parts = inputs[0].reshape(rows, columns, -1, h, w, c).transpose(2, 3, 0, 4, 1, 5)
    y = parts.reshape(-1, h * rows, w * columns, c)
    (top, bottom), (left, right) = crops
    return [y[:, top : h * rows - bottom, left : w * columns - right]]
