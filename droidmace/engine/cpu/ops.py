"""Which op of a model is which function, and how one is run.

:func:`run_op` is all a runtime needs: it brings images into the order of axes that the op counts
(:mod:`droidmace.engine.axis_order`), checks shapes and sizes first, and names the op in errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from droidmace.engine.attributes import unsupported
from droidmace.engine.axis_order import as_nchw, as_nhwc, takes_nchw, turns_constant
from droidmace.engine.cpu.activation import activation
from droidmace.engine.cpu.base import Array, CpuContext, CpuOp
from droidmace.engine.cpu.convolution import (
    conv2d,
    deconv2d,
    depthwise_conv2d,
    depthwise_deconv2d,
)
from droidmace.engine.cpu.dense import fully_connected, matmul
from droidmace.engine.cpu.indexing import (
    extract_image_patches,
    fill,
    gather,
    one_hot,
    shape,
    stack,
    unstack,
)
from droidmace.engine.cpu.movement import (
    batch_to_space,
    channel_shuffle,
    concat,
    crop,
    depth_to_space,
    pad,
    reshape,
    reverse,
    slice_values,
    space_to_batch,
    space_to_depth,
    split,
    strided_slice,
    tile,
    transpose,
)
from droidmace.engine.cpu.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    local_response_norm,
    lp_norm,
    mv_norm,
)
from droidmace.engine.cpu.pointwise import add_n, bias_add, cast, eltwise, identity, where
from droidmace.engine.cpu.reduction import arg_max, cumsum, pooling, reduce, softmax, sqr_diff_mean
from droidmace.engine.cpu.resize import resize_bicubic, resize_bilinear, resize_nearest
from droidmace.engine.shapes import output_shapes
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

CPU_OPS: Mapping[str, CpuOp] = {
    "Activation": activation,
    "AddN": add_n,
    "ArgMax": arg_max,
    "BatchNorm": batch_norm,
    "BatchToSpaceND": batch_to_space,
    "BiasAdd": bias_add,
    "Cast": cast,
    "ChannelShuffle": channel_shuffle,
    "Concat": concat,
    "Conv2D": conv2d,
    "Crop": crop,
    "Cumsum": cumsum,
    "Deconv2D": deconv2d,
    "DepthToSpace": depth_to_space,
    "DepthwiseConv2d": depthwise_conv2d,
    "DepthwiseDeconv2d": depthwise_deconv2d,
    "Eltwise": eltwise,
    "ExpandDims": reshape,
    "ExtractImagePatches": extract_image_patches,
    "Fill": fill,
    "Flatten": reshape,
    "FullyConnected": fully_connected,
    "Gather": gather,
    "GroupNorm": group_norm,
    "Identity": identity,
    "InstanceNorm": instance_norm,
    "LocalResponseNorm": local_response_norm,
    "LpNorm": lp_norm,
    "MVNorm": mv_norm,
    "MatMul": matmul,
    "OneHot": one_hot,
    "Pad": pad,
    "Pooling": pooling,
    "Reduce": reduce,
    "Reshape": reshape,
    "ResizeBicubic": resize_bicubic,
    "ResizeBilinear": resize_bilinear,
    "ResizeNearestNeighbor": resize_nearest,
    "Reverse": reverse,
    "ScalarMath": eltwise,
    "Select": where,
    "Shape": shape,
    "Slice": slice_values,
    "Softmax": softmax,
    "SpaceToBatchND": space_to_batch,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "SqrDiffMean": sqr_diff_mean,
    "Squeeze": reshape,
    "Stack": stack,
    "StridedSlice": strided_slice,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": reshape,
    "Unstack": unstack,
    "Where": where,
}
"""Every op of MACE that this engine runs on the CPU, by its type."""


def run_op(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Run one op. Images go in and come out as NHWC, maybe as views; constants as in the file.

    Raises ``EngineError`` that names the op: no such op, shapes that do not go together, more than
    :data:`droidmace.engine.shapes.MAX_ELEMENTS` values.
    """
    function = CPU_OPS.get(op.type)
    if function is None:
        raise unsupported(op, "no such op in this engine")
    known = dict(zip(op.inputs, inputs, strict=True))
    constants = {name: value for name, value in known.items() if name in context.constants}
    # values of integers are known by now, and shapes may depend on them
    constants.update(
        {
            n: v
            for n, v in known.items()
            if v.dtype.kind == "i" and v.ndim < 2 and n not in constants
        }
    )
    output_shapes(op, [value.shape for value in inputs], constants, on_gpu=context.on_gpu)
    nchw = takes_nchw(op, on_gpu=context.on_gpu)
    operands = _in_op_order(op, inputs, context, nchw=nchw)
    try:
        # a C program does not warn of infinities
        with np.errstate(all="ignore"):
            results = function(op, operands, dataclasses.replace(context, nchw=nchw))
    except (ArithmeticError, IndexError, TypeError, ValueError) as exc:
        shapes = ", ".join(str(list(value.shape)) for value in inputs)
        raise unsupported(op, f"inputs {shapes}") from exc
    except MemoryError as exc:
        raise unsupported(op, "not enough memory") from exc
    except EngineError as exc:
        raise exc if repr(op.name) in exc.message else unsupported(op, exc.message) from exc
    return [as_nhwc(value) for value in results] if nchw else results


def _in_op_order(
    op: OperatorDef, inputs: Sequence[Array], context: CpuContext, *, nchw: bool
) -> list[Array]:
    operands = []
    for index, (name, value) in enumerate(zip(op.inputs, inputs, strict=True)):
        if name in context.constants:
            turn = turns_constant(op, index, on_gpu=context.on_gpu)
            operands.append(as_nhwc(value) if turn else value)
        else:
            operands.append(as_nchw(value) if nchw else value)
    return operands
