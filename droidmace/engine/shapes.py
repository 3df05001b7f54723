"""The shapes of what an op makes, from the shapes of what it reads, on any runtime.

Nothing is computed here, so a net can be laid out, and refused, before memory is taken. Images are
NHWC shapes on both sides; see :mod:`droidmace.engine.axis_order` for ops that count otherwise.
Source of each rule: the op's file in ``mace/ops``, and ``mace/ops/common/conv_pool_2d_util.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from droidmace.engine.attributes import Shape, Window, nhwc, reshaped, shape_from, unsupported
from droidmace.engine.axis_order import constants_are_nchw, nchw_shape, nhwc_shape, takes_nchw
from droidmace.engine.op_arguments import (
    axis_of,
    deconv_padding,
    grid_pads,
    is_caffe_arg_max,
    pairs_of,
    pool_kernel,
    resize_size,
    rounds_up,
    slice_of,
    split_sizes,
    strided_slices,
)
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

Constant = npt.NDArray[Any]
Known = Sequence[Constant | None]
"""The values of an op's inputs as far as they are known without running the net."""
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
    except (IndexError, ValueError) as exc:
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
    turn = constants_are_nchw(op, on_gpu=on_gpu) and not nchw and op.type in BROADCASTING
    result = []
    for name, shape in zip(op.inputs, shapes, strict=True):
        if name in constants:
            result.append(nhwc_shape(shape) if turn else shape)
        else:
            result.append(nchw_shape(shape) if nchw else shape)
    return result, nchw


BROADCASTING = frozenset({"AddN", "Concat", "Eltwise", "SqrDiffMean"})
"""Ops for which a constant image is an operand like any other, not a filter."""

_Rule = Callable[[OperatorDef, list[Shape], Known], list[Shape]]


def _same(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    return [shapes[0]]


def _image(op: OperatorDef, shape: Shape) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise unsupported(op, f"an input of shape {list(shape)}: four axes are needed")
    return (shape[0], shape[1], shape[2], shape[3])


def _same_image(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    return [_image(op, shapes[0])]


def _broadcast(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    return [tuple(np.broadcast_shapes(*(eltwise_shape(shape, shapes, op) for shape in shapes)))]


def eltwise_shape(shape: Shape, shapes: Sequence[Shape], op: OperatorDef) -> Shape:
    """The shape under which an operand is spread over the largest one.

    Without ``has_data_format`` MACE spreads a matrix over the pixels of an image (Caffe's way).
    """
    image = max(len(other) for other in shapes) == 4
    if image and not op.int_arg("has_data_format") and len(shape) in (2, 3):
        return (*shape, *(1,) * (4 - len(shape)))
    return shape


def _conv(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    outputs, per_group, *kernel = _image(op, shapes[1])
    group = op.int_arg("group", 1)
    if group < 1 or per_group * group != channels or outputs % group:
        raise unsupported(op, f"input {list(shapes[0])}, filter {list(shapes[1])}, group {group}")
    _check_vector(op, shapes, 2, outputs)
    out, _ = Window.of(op, (kernel[0], kernel[1])).slide((height, width))
    return [(batch, *out, outputs)]


def _depthwise(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    multiplier, inputs, *kernel = _image(op, shapes[1])
    if inputs != channels:
        raise unsupported(op, f"input {list(shapes[0])}, filter {list(shapes[1])}")
    _check_vector(op, shapes, 2, channels * multiplier)
    out, _ = Window.of(op, (kernel[0], kernel[1])).slide((height, width))
    return [(batch, *out, channels * multiplier)]


def _deconv(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    per_group, inputs, *kernel = _image(op, shapes[1])
    group = op.int_arg("group", 1) if op.type == "DepthwiseDeconv2d" else 1
    if group < 1 or inputs != channels or channels % group:
        raise unsupported(op, f"input {list(shapes[0])}, filter {list(shapes[1])}, group {group}")
    out, _ = deconv_padding(op, (height, width), (kernel[0], kernel[1]), known)
    return [(batch, *out, per_group * group)]


def _check_vector(op: OperatorDef, shapes: list[Shape], index: int, size: int) -> None:
    if index < len(shapes) and math.prod(shapes[index]) != size:
        raise unsupported(op, f"{op.inputs[index]!r} has the shape {list(shapes[index])}")


def _pooling(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    window = Window.of(op, pool_kernel(op))
    out, _ = window.slide((height, width), ceil=rounds_up(op))
    return [(batch, *out, channels)]


def _patches(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    kernel = pool_kernel(op)
    out, _ = Window.of(op, kernel).slide((height, width))
    return [(batch, *out, channels * math.prod(kernel))]


def _fully_connected(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = nhwc(shapes[0])
    outputs, *inputs = shapes[1] if len(shapes[1]) == 4 else (*shapes[1], 1, 1)
    if inputs != [channels, height, width]:
        raise unsupported(op, f"input {list(shapes[0])}, weights {list(shapes[1])}")
    _check_vector(op, shapes, 2, outputs)
    return [(batch, 1, 1, outputs)]


def _matmul(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    a, b = shapes[:2]
    if min(len(a), len(b)) < 2:
        raise unsupported(op, f"inputs {list(a)}, {list(b)}: at least two axes are needed")
    if op.int_arg("transpose_a"):
        a = (*a[:-2], a[-1], a[-2])
    if op.int_arg("transpose_b"):
        b = (*b[:-2], b[-1], b[-2])
    if a[-1] != b[-2]:
        raise unsupported(op, f"{list(a)} times {list(b)}")
    _check_vector(op, shapes, 2, b[-1])
    return [(*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])]


def _reduce(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    rank = len(shapes[0])
    axes = {axis_of(op, axis, rank) for axis in op.ints_arg("axis")} or set(range(rank))
    if op.int_arg("keepdims"):
        return [tuple(1 if i in axes else size for i, size in enumerate(shapes[0]))]
    return [tuple(size for i, size in enumerate(shapes[0]) if i not in axes)]


def _concat(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    axis = axis_of(op, op.int_arg("axis", 3), len(shapes[0]))
    first = shapes[0]
    for shape in shapes:
        if (*shape[:axis], *shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]):
            raise unsupported(op, f"inputs {', '.join(str(list(shape)) for shape in shapes)}")
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


def _split(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    shape = shapes[0]
    axis = axis_of(op, op.int_arg("axis", 3), len(shape))
    return [
        (*shape[:axis], size, *shape[axis + 1 :])
        for size in split_sizes(op, shape[axis], _value(op, known, 1))
    ]


def _value(op: OperatorDef, known: Known, index: int) -> Constant | None:
    """Input ``index``'s value, or None if there is no such input; it must be known."""
    if index >= len(op.inputs):
        return None
    value = known[index]
    if value is None:
        raise unsupported(op, f"{op.inputs[index]!r} is not constant")
    return value


def _slice(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    chosen = slice_of(op, shapes[0], [_value(op, known, i) for i in range(1, len(op.inputs))])
    return [_sliced(shapes[0], chosen)]


def _sliced(shape: Shape, chosen: Sequence[slice | int]) -> Shape:
    return tuple(
        len(range(*part.indices(size)))
        for size, part in zip(shape, chosen, strict=True)
        if isinstance(part, slice)
    )


def _strided_slice(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    values = [_value(op, known, i) for i in range(1, len(op.inputs))]
    return [_sliced(shapes[0], strided_slices(op, shapes[0], values))]


def _pad(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    pairs = pairs_of(op, "paddings", len(shapes[0]))
    kind = op.int_arg("pad_type")
    if kind not in (0, 1, 2):
        raise unsupported(op, f"pad type {kind}")
    for size, pair in zip(shapes[0], pairs, strict=True):
        if kind and max(pair) >= size + kind - 1:
            raise unsupported(op, f"a reflection of {max(pair)} at {size} values")
    return [tuple(sum(pair) + size for pair, size in zip(pairs, shapes[0], strict=True))]


def _reshape(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    constant: Shape = ()
    if op.type == "Reshape" and not op.ints_arg("dim") and len(op.inputs) > 1:
        value = _value(op, known, 1)
        constant = shape_from(op, value) if value is not None else ()
    return [reshaped(op, shapes[0], constant)]


def _unsqueeze(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    shape = list(shapes[0])
    axes = op.ints_arg("axis")
    if not axes or min(axes) < 0:
        raise unsupported(op, f"axis {list(axes)}")
    for axis in axes:
        if axis > len(shape):
            raise unsupported(op, f"axis {axis} of {list(shape)}")
        shape.insert(axis, 1)
    return [tuple(shape)]


def _expand_dims(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]) + 1)
    return [(*shapes[0][:axis], 1, *shapes[0][axis:])]


def _transpose(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    dims = op.ints_arg("dims")
    if sorted(dims) != list(range(len(shapes[0]))):
        raise unsupported(op, f"dims {list(dims)} of {list(shapes[0])}")
    return [tuple(shapes[0][dim] for dim in dims)]


def _resize(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    return [(batch, *resize_size(op, (height, width), known), channels)]


def _depth_to_space(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    block = op.int_arg("block_size", 1)
    if block < 1 or channels % (block * block):
        raise unsupported(op, f"block size {block} of {list(shapes[0])}")
    return [(batch, height * block, width * block, channels // (block * block))]


def _space_to_depth(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    block = op.int_arg("block_size", 1)
    if block < 1 or height % block or width % block:
        raise unsupported(op, f"block size {block} of {list(shapes[0])}")
    return [(batch, height // block, width // block, channels * block * block)]


def _space_to_batch(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    (rows, columns), pads = grid_pads(op, "paddings")
    height, width = height + sum(pads[0]), width + sum(pads[1])
    if height % rows or width % columns:
        raise unsupported(op, f"blocks of {rows}x{columns} in {height}x{width} pixels")
    return [(batch * rows * columns, height // rows, width // columns, channels)]


def _batch_to_space(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, height, width, channels = _image(op, shapes[0])
    (rows, columns), crops = grid_pads(op, "crops")
    if batch % (rows * columns):
        raise unsupported(op, f"blocks of {rows}x{columns} from a batch of {batch}")
    height, width = height * rows - sum(crops[0]), width * columns - sum(crops[1])
    return [(batch // (rows * columns), height, width, channels)]


def _channel_shuffle(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    group = op.int_arg("group", 1)
    if group < 1 or _image(op, shapes[0])[3] % group:
        raise unsupported(op, f"group {group} of {list(shapes[0])}")
    return [shapes[0]]


def _group_norm(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    group = op.int_arg("group_num", 32)
    if group < 1 or _image(op, shapes[0])[3] % group:
        raise unsupported(op, f"group_num {group} of {list(shapes[0])}")
    return [shapes[0]]


def _sqr_diff_mean(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    batch, _, _, channels = _image(op, shapes[0])
    if math.prod(shapes[1]) != batch * channels:
        raise unsupported(op, f"inputs {list(shapes[0])}, {list(shapes[1])}")
    return [(batch, 1, 1, channels)]


def _channels(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Constants with one value per channel behind an image."""
    for index in range(1, len(shapes)):
        _check_vector(op, shapes, index, _image(op, shapes[0])[3])
    return [shapes[0]]


def _softmax(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    if not shapes[0]:
        raise unsupported(op, "a scalar")
    return [shapes[0]]


def _axis_kept(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    axis_of(op, op.int_arg("axis", -1 if op.type == "LpNorm" else 0), len(shapes[0]))
    return [shapes[0]]


def _gather(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]))
    return [(*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])]


def _stack(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    if len(set(shapes)) != 1:
        raise unsupported(op, f"inputs {', '.join(str(list(shape)) for shape in shapes)}")
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]) + 1)
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


def _unstack(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]))
    return [(*shapes[0][:axis], *shapes[0][axis + 1 :])] * shapes[0][axis]


def _fill(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    value = _value(op, known, 0)
    return [shape_from(op, value)] if value is not None else []


def _shape(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    return [(len(shapes[0]),)]


def _one_hot(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    axis, rank, depth = op.int_arg("axis", -1), len(shapes[0]), op.int_arg("depth")
    axis = axis_of(op, axis, rank + 1)
    if depth < 1:
        raise unsupported(op, f"depth {depth}")
    return [(*shapes[0][:axis], depth, *shapes[0][axis:])]


def _arg_max(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    shape = shapes[0]
    top, count = op.int_arg("top_k", 1), op.int_arg("axis")
    if is_caffe_arg_max(op):
        values = 2 if op.int_arg("out_val") else 1
        return [(shape[0], values, top, *(1,) * (len(shape) - 3))]
    axis_value = _value(op, known, 1)
    axis = axis_of(op, count if axis_value is None else int(axis_value.reshape(-1)[0]), len(shape))
    if not 1 <= top <= shape[axis]:
        raise unsupported(op, f"top_k {top} of {list(shape)}")
    kept = (top,) if op.int_arg("keepdims", 1) or top > 1 else ()
    return [(*shape[:axis], *kept, *shape[axis + 1 :])]


def _tile(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    value = _value(op, known, 1)
    times = shape_from(op, value) if value is not None else ()
    if min(times, default=1) < 1:
        raise unsupported(op, f"multiples {list(times)}")
    return [tuple(size * count for size, count in zip(shapes[0], times, strict=True))]


def _crop(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    offsets = op.ints_arg("offset")
    whole, part = _image(op, shapes[0]), _image(op, shapes[1])
    sizes = []
    for size, wanted, offset in zip(whole, part, offsets, strict=True):
        if offset >= 0 and size - offset < wanted:
            raise unsupported(op, f"{list(part)} at {list(offsets)} of {list(whole)}")
        sizes.append(size if offset < 0 else wanted)
    return [tuple(sizes)]


def _where(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    condition, x, y = shapes
    if op.type == "Select":
        # one condition for each of the leading axes
        condition = (*condition, *(1,) * (len(x) - len(condition)))
    return [tuple(np.broadcast_shapes(condition, x, y))]


_RULES: dict[str, _Rule] = {
    "Activation": _same,
    "AddN": _broadcast,
    "ArgMax": _arg_max,
    "BatchNorm": _channels,
    "BatchToSpaceND": _batch_to_space,
    "BiasAdd": _same,
    "Cast": _same,
    "ChannelShuffle": _channel_shuffle,
    "Concat": _concat,
    "Conv2D": _conv,
    "Crop": _crop,
    "Cumsum": _axis_kept,
    "Deconv2D": _deconv,
    "DepthToSpace": _depth_to_space,
    "DepthwiseConv2d": _depthwise,
    "DepthwiseDeconv2d": _deconv,
    "Eltwise": _broadcast,
    "ExpandDims": _expand_dims,
    "ExtractImagePatches": _patches,
    "Fill": _fill,
    "Flatten": _reshape,
    "FullyConnected": _fully_connected,
    "Gather": _gather,
    "GroupNorm": _group_norm,
    "Identity": _same,
    "InstanceNorm": _channels,
    "LocalResponseNorm": _same_image,
    "LpNorm": _axis_kept,
    "MVNorm": _same_image,
    "MatMul": _matmul,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Pooling": _pooling,
    "Reduce": _reduce,
    "Reshape": _reshape,
    "ResizeBicubic": _resize,
    "ResizeBilinear": _resize,
    "ResizeNearestNeighbor": _resize,
    "Reverse": _same,
    "ScalarMath": _broadcast,
    "Select": _where,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToBatchND": _space_to_batch,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "SqrDiffMean": _sqr_diff_mean,
    "Squeeze": _reshape,
    "Stack": _stack,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Unstack": _unstack,
    "Where": _where,
}
