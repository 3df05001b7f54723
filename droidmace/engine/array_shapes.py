"""Shape rules of ops on arrays of any rank: arithmetic, movement, indexing, matrix products.

See :mod:`droidmace.engine.shapes`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import Shape, reshaped, shape_from, unsupported
from droidmace.engine.image_shapes import check_vector
from droidmace.engine.op_arguments import (
    Constant,
    Known,
    axis_of,
    is_caffe_arg_max,
    pairs_of,
    slice_of,
    split_sizes,
    strided_slices,
)
from droidmace.formats.netdef import OperatorDef


def same(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The first input's shape."""
    return [shapes[0]]


def broadcast(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Operands spread over each other."""
    return [tuple(np.broadcast_shapes(*(eltwise_shape(shape, shapes, op) for shape in shapes)))]


def eltwise_shape(shape: Shape, shapes: Sequence[Shape], op: OperatorDef) -> Shape:
    """The shape under which an operand is spread over the largest one.

    Without ``has_data_format`` MACE spreads a matrix over the pixels of an image (Caffe's way).
    """
    image = max(len(other) for other in shapes) == 4
    if image and not op.int_arg("has_data_format") and len(shape) in (2, 3):
        return (*shape, *(1,) * (4 - len(shape)))
    return shape


def matmul(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The last two axes multiply, those before them spread over each other."""
    a, b = shapes[:2]
    if min(len(a), len(b)) < 2:
        raise unsupported(op, f"inputs {list(a)}, {list(b)}: at least two axes are needed")
    if op.int_arg("transpose_a"):
        a = (*a[:-2], a[-1], a[-2])
    if op.int_arg("transpose_b"):
        b = (*b[:-2], b[-1], b[-2])
    if a[-1] != b[-2]:
        raise unsupported(op, f"{list(a)} times {list(b)}")
    check_vector(op, shapes, 2, b[-1])
    return [(*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])]


def reduce(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Some axes, or all, become 1 or go."""
    rank = len(shapes[0])
    axes = {axis_of(op, axis, rank) for axis in op.ints_arg("axis")} or set(range(rank))
    if op.int_arg("keepdims"):
        return [tuple(1 if i in axes else size for i, size in enumerate(shapes[0]))]
    return [tuple(size for i, size in enumerate(shapes[0]) if i not in axes)]


def concat(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Shapes that differ along one axis, one after another."""
    axis = axis_of(op, op.int_arg("axis", 3), len(shapes[0]))
    first = shapes[0]
    for shape in shapes:
        if (*shape[:axis], *shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]):
            raise unsupported(op, f"inputs {', '.join(str(list(shape)) for shape in shapes)}")
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


def split(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """One axis in parts."""
    shape = shapes[0]
    axis = axis_of(op, op.int_arg("axis", 3), len(shape))
    return [
        (*shape[:axis], size, *shape[axis + 1 :])
        for size in split_sizes(op, shape[axis], known_value(op, known, 1))
    ]


def known_value(op: OperatorDef, known: Known, index: int) -> Constant | None:
    """Input ``index``'s value, or None if there is no such input; it must be known."""
    if index >= len(op.inputs):
        return None
    value = known[index]
    if value is None:
        raise unsupported(op, f"{op.inputs[index]!r} is not constant")
    return value


def slice_rule(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Slice: a range of an axis."""
    chosen = slice_of(op, shapes[0], [known_value(op, known, i) for i in range(1, len(op.inputs))])
    return [sliced(shapes[0], chosen)]


def sliced(shape: Shape, chosen: Sequence[slice | int]) -> Shape:
    """``shape`` cut by one range or index per axis."""
    return tuple(
        len(range(*part.indices(size)))
        for size, part in zip(shape, chosen, strict=True)
        if isinstance(part, slice)
    )


def strided_slice(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """StridedSlice: a range or an index per axis."""
    values = [known_value(op, known, i) for i in range(1, len(op.inputs))]
    return [sliced(shapes[0], strided_slices(op, shapes[0], values))]


def pad(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Values before and behind each axis; a reflection must fit within the axis."""
    pairs = pairs_of(op, "paddings", len(shapes[0]))
    kind = op.int_arg("pad_type")
    if kind not in (0, 1, 2):
        raise unsupported(op, f"pad type {kind}")
    for size, pair in zip(shapes[0], pairs, strict=True):
        if kind and max(pair) >= size + kind - 1:
            raise unsupported(op, f"a reflection of {max(pair)} at {size} values")
    return [tuple(sum(pair) + size for pair, size in zip(pairs, shapes[0], strict=True))]


def reshape(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Reshape, Flatten and Squeeze."""
    constant: Shape = ()
    if op.type == "Reshape" and not op.ints_arg("dim") and len(op.inputs) > 1:
        value = known_value(op, known, 1)
        constant = shape_from(op, value) if value is not None else ()
    return [reshaped(op, shapes[0], constant)]


def unsqueeze(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """New axes of 1, each counted with those before it in place."""
    shape = list(shapes[0])
    axes = op.ints_arg("axis")
    if not axes or min(axes) < 0:
        raise unsupported(op, f"axis {list(axes)}")
    for axis in axes:
        if axis > len(shape):
            raise unsupported(op, f"axis {axis} of {list(shape)}")
        shape.insert(axis, 1)
    return [tuple(shape)]


def expand_dims(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """One new axis of 1."""
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]) + 1)
    return [(*shapes[0][:axis], 1, *shapes[0][axis:])]


def transpose(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Axes in another order."""
    dims = op.ints_arg("dims")
    if sorted(dims) != list(range(len(shapes[0]))):
        raise unsupported(op, f"dims {list(dims)} of {list(shapes[0])}")
    return [tuple(shapes[0][dim] for dim in dims)]


def softmax(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The input's shape; it has at least one axis."""
    if not shapes[0]:
        raise unsupported(op, "a scalar")
    return [shapes[0]]


def axis_kept(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The input's shape; the axis along which the op works exists."""
    axis_of(op, op.int_arg("axis", -1 if op.type == "LpNorm" else 0), len(shapes[0]))
    return [shapes[0]]


def gather(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The indices' shape in place of an axis."""
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]))
    return [(*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])]


def stack(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Equal shapes along a new axis."""
    if len(set(shapes)) != 1:
        raise unsupported(op, f"inputs {', '.join(str(list(shape)) for shape in shapes)}")
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]) + 1)
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


def unstack(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """One output for each place along an axis."""
    axis = axis_of(op, op.int_arg("axis"), len(shapes[0]))
    return [(*shapes[0][:axis], *shapes[0][axis + 1 :])] * shapes[0][axis]


def fill(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The shape that the first input holds."""
    value = known_value(op, known, 0)
    return [shape_from(op, value)] if value is not None else []


def shape_rule(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Shape: a vector with one value per axis."""
    return [(len(shapes[0]),)]


def one_hot(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """A new axis as long as ``depth``."""
    axis, rank, depth = op.int_arg("axis", -1), len(shapes[0]), op.int_arg("depth")
    axis = axis_of(op, axis, rank + 1)
    if depth < 1:
        raise unsupported(op, f"depth {depth}")
    return [(*shapes[0][:axis], depth, *shapes[0][axis:])]


def arg_max(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """One place, or the first ``top_k``, along an axis; Caffe's form is [N, 1 or 2, top_k]."""
    shape = shapes[0]
    top, count = op.int_arg("top_k", 1), op.int_arg("axis")
    if is_caffe_arg_max(op):
        values = 2 if op.int_arg("out_val") else 1
        return [(shape[0], values, top, *(1,) * (len(shape) - 3))]
    axis_value = known_value(op, known, 1)
    axis = axis_of(op, count if axis_value is None else int(axis_value.reshape(-1)[0]), len(shape))
    if not 1 <= top <= shape[axis]:
        raise unsupported(op, f"top_k {top} of {list(shape)}")
    kept = (top,) if op.int_arg("keepdims", 1) or top > 1 else ()
    return [(*shape[:axis], *kept, *shape[axis + 1 :])]


def tile(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Each axis as many times as the second input says."""
    value = known_value(op, known, 1)
    times = shape_from(op, value) if value is not None else ()
    if min(times, default=1) < 1:
        raise unsupported(op, f"multiples {list(times)}")
    return [tuple(size * count for size, count in zip(shapes[0], times, strict=True))]


def where(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Condition and both choices spread over each other."""
    condition, x, y = shapes
    if op.type == "Select":
        # one condition for each of the leading axes
        condition = (*condition, *(1,) * (len(x) - len(condition)))
    return [tuple(np.broadcast_shapes(condition, x, y))]
