"""The shapes of what an op makes, from the shapes of what it reads, on any runtime.

Nothing is computed here, so a net can be laid out, and refused, before memory is taken. Images are
NHWC shapes on both sides; see :mod:`droidmace.engine.axis_order` for ops that count otherwise.
Source of each rule: the op's file in ``mace/ops``, and ``mace/ops/common/conv_pool_2d_util.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from droidmace.engine import array_shapes, image_shapes
from droidmace.engine.attributes import Shape, unsupported
from droidmace.engine.axis_order import nchw_shape, nhwc_shape, takes_nchw, turns_constant
from droidmace.engine.op_arguments import Constant, Known
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

MAX_ELEMENTS = 1 << 28
"""Values in one tensor (1 GiB of floats); more is nonsense, or too much for a phone."""


def output_shapes(
    op: OperatorDef,
    input_shapes: Sequence[Shape],
    constants: Mapping[str, Constant],
    *,
    on_gpu: bool = False,
) -> list[Shape]:
    """One shape for each of the op's outputs.

    ``input_shapes`` has one for each of ``op.inputs``: of constants as they lie in the file, of
    activations with images as NHWC. ``constants`` are those inputs whose values are known.
    ``on_gpu`` says that the op belongs to a GPU net (it matters only for an op whose
    ``data_format`` is ``NONE``). Raises ``EngineError`` that names the op when the shapes do not go
    together, when they depend on values that are not known, and for sizes beyond
    :data:`MAX_ELEMENTS`.
    """
    rule = _RULES.get(op.type)
    if rule is None:
        raise unsupported(op, "no such op in this engine")
    shapes, nchw = _in_op_order(op, input_shapes, constants, on_gpu=on_gpu)
    known = [constants.get(name) for name in op.inputs]
    try:
        made = rule(op, shapes, known)
    except EngineError as exc:
        raise exc if repr(op.name) in exc.message else unsupported(op, exc.message) from exc
    except (ArithmeticError, IndexError, ValueError) as exc:
        text = ", ".join(str(list(shape)) for shape in input_shapes)
        raise unsupported(op, f"inputs {text or 'missing'}") from exc
    if len(made) != len(op.outputs):
        raise unsupported(op, f"{len(op.outputs)} outputs")
    for shape in made:
        if min(shape, default=1) < 1:
            raise unsupported(op, f"an output of shape {list(shape)}")
        if math.prod(shape) > MAX_ELEMENTS:
            raise unsupported(op, f"an output of shape {list(shape)} is too large")
    return [nhwc_shape(shape) if nchw else shape for shape in made]


def _in_op_order(
    op: OperatorDef,
    shapes: Sequence[Shape],
    constants: Mapping[str, Constant],
    *,
    on_gpu: bool,
) -> tuple[list[Shape], bool]:
    """``shapes`` as the op counts axes, and whether that is NCHW."""
    nchw = takes_nchw(op, on_gpu=on_gpu)
    result = []
    for index, (name, shape) in enumerate(zip(op.inputs, shapes, strict=True)):
        if name in constants:
            turn = turns_constant(op, index, on_gpu=on_gpu)
            result.append(nhwc_shape(shape) if turn else shape)
        else:
            result.append(nchw_shape(shape) if nchw else shape)
    return result, nchw


_Rule = Callable[[OperatorDef, list[Shape], Known], list[Shape]]

_RULES: dict[str, _Rule] = {
    "Activation": array_shapes.same,
    "AddN": array_shapes.broadcast,
    "ArgMax": array_shapes.arg_max,
    "BatchNorm": image_shapes.channels,
    "BatchToSpaceND": image_shapes.batch_to_space,
    "BiasAdd": array_shapes.same,
    "Cast": array_shapes.same,
    "ChannelShuffle": image_shapes.channel_shuffle,
    "Concat": array_shapes.concat,
    "Conv2D": image_shapes.conv,
    "Crop": image_shapes.crop,
    "Cumsum": array_shapes.axis_kept,
    "Deconv2D": image_shapes.deconv,
    "DepthToSpace": image_shapes.depth_to_space,
    "DepthwiseConv2d": image_shapes.depthwise,
    "DepthwiseDeconv2d": image_shapes.deconv,
    "Eltwise": array_shapes.broadcast,
    "ExpandDims": array_shapes.expand_dims,
    "ExtractImagePatches": image_shapes.patches,
    "Fill": array_shapes.fill,
    "Flatten": array_shapes.reshape,
    "FullyConnected": image_shapes.fully_connected,
    "Gather": array_shapes.gather,
    "GroupNorm": image_shapes.group_norm,
    "Identity": array_shapes.same,
    "InstanceNorm": image_shapes.channels,
    "LocalResponseNorm": image_shapes.same_image,
    "LpNorm": array_shapes.axis_kept,
    "MVNorm": image_shapes.same_image,
    "MatMul": array_shapes.matmul,
    "OneHot": array_shapes.one_hot,
    "Pad": array_shapes.pad,
    "Pooling": image_shapes.pooling,
    "Reduce": array_shapes.reduce,
    "Reshape": array_shapes.reshape,
    "ResizeBicubic": image_shapes.resize,
    "ResizeBilinear": image_shapes.resize,
    "ResizeNearestNeighbor": image_shapes.resize,
    "Reverse": array_shapes.same,
    "ScalarMath": array_shapes.broadcast,
    "Select": array_shapes.where,
    "Shape": array_shapes.shape_rule,
    "Slice": array_shapes.slice_rule,
    "Softmax": array_shapes.softmax,
    "SpaceToBatchND": image_shapes.space_to_batch,
    "SpaceToDepth": image_shapes.space_to_depth,
    "Split": array_shapes.split,
    "SqrDiffMean": image_shapes.sqr_diff_mean,
    "Squeeze": array_shapes.reshape,
    "Stack": array_shapes.stack,
    "StridedSlice": array_shapes.strided_slice,
    "Tile": array_shapes.tile,
    "Transpose": array_shapes.transpose,
    "Unsqueeze": array_shapes.unsqueeze,
    "Unstack": array_shapes.unstack,
    "Where": array_shapes.where,
}
