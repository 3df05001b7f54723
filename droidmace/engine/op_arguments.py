"""Op arguments that both the shape rules and the ops need, checked and resolved.

All functions raise ``EngineError`` that names the op. Sources: the op's file in ``mace/ops``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from droidmace.engine.attributes import PADDING_SAME, PADDING_VALID, unsupported
from droidmace.formats.netdef import OperatorDef

Constant = npt.NDArray[Any]
Known = Sequence[Constant | None]
"""The values of an op's inputs as far as they are known without running the net."""
Pair = tuple[int, int]
TENSORFLOW, CAFFE, ONNX, PYTORCH = 0, 1, 2, 5
"""``framework_type``, ``mace/core/types.h``."""
_ROUND_CEIL = 1
_MAX_SIZE = (1 << 31) - 1


def axis_of(op: OperatorDef, axis: int, rank: int) -> int:
    """``axis`` counted from the front; negative ones count from the back."""
    if not -rank <= axis < rank:
        raise unsupported(op, f"axis {axis} of {rank}")
    return axis % rank


def pool_kernel(op: OperatorDef) -> Pair:
    """The window's height and width."""
    kernel = op.ints_arg("kernels")
    if len(kernel) != 2 or min(kernel) < 1 or max(kernel) > _MAX_SIZE:
        raise unsupported(op, f"kernels {list(kernel)}")
    return (kernel[0], kernel[1])


def rounds_up(op: OperatorDef) -> bool:
    """Whether a pooling window may stand partly over the far edge; so it is unless the op says."""
    return op.int_arg("round_mode", _ROUND_CEIL) == _ROUND_CEIL


def deconv_padding(op: OperatorDef, size: Pair, kernel: Pair, known: Known) -> tuple[Pair, Pair]:
    """Output height and width of a transposed convolution, and the rows and columns cut in all.

    TensorFlow's ops read the output's NHWC shape from their third input; all others cut what
    ``padding_values`` says. The smaller half is cut in front
    (``CalDeconvOutputShapeAndPadSize`` in ``mace/ops/common/conv_pool_2d_util.cc``).
    """
    strides = op.ints_arg("strides", (1, 1))
    if len(strides) != 2 or min(strides) < 1 or max(strides) > _MAX_SIZE:
        raise unsupported(op, f"strides {list(strides)}")
    full = [(size[i] - 1) * strides[i] + kernel[i] for i in (0, 1)]
    if op.type == "Deconv2D" and op.int_arg("framework_type", TENSORFLOW) == TENSORFLOW:
        wanted = _tensorflow_size(op, known)
        for i in (0, 1):
            span = kernel[i] if op.int_arg("padding", PADDING_SAME) == PADDING_VALID else 1
            if (wanted[i] - span + strides[i]) // strides[i] != size[i]:
                raise unsupported(op, f"{size} pixels to {wanted}")
        return wanted, (max(full[0] - wanted[0], 0), max(full[1] - wanted[1], 0))
    cut = op.ints_arg("padding_values") or (0, 0)
    if len(cut) != 2 or min(cut) < 0 or any(cut[i] >= full[i] for i in (0, 1)):
        raise unsupported(op, f"padding_values {list(cut)}")
    return (full[0] - cut[0], full[1] - cut[1]), (cut[0], cut[1])


def _tensorflow_size(op: OperatorDef, known: Known) -> Pair:
    shape = known[2] if len(known) > 2 else None
    if shape is None or shape.size != 4:
        raise unsupported(op, "its output shape is not constant")
    values = shape.reshape(-1)
    return (int(values[1]), int(values[2]))


def split_sizes(op: OperatorDef, size: int, given: Constant | None) -> list[int]:
    """How much of an axis of ``size`` each output gets."""
    count = len(op.outputs)
    if given is None:
        if size % count:
            raise unsupported(op, f"{size} into {count} equal parts")
        return [size // count] * count
    sizes = [int(value) for value in given.reshape(-1)]
    if len(sizes) != count or min(sizes) < 1 or sum(sizes) != size:
        raise unsupported(op, f"{size} into {sizes}")
    return sizes


def slice_of(op: OperatorDef, shape: Sequence[int], given: Known) -> list[slice | int]:
    """The part that Slice takes: a range of one axis, or of several as ONNX has it.

    ``given``: starts, ends, axes and steps if they are inputs. Ends behind the axis are cut, as
    ONNX's models have them.
    """
    names = ("starts", "ends", "axes", "steps")
    lists = [
        tuple(int(value) for value in values.reshape(-1)) for values in given if values is not None
    ]
    starts, ends, axes, steps = (
        lists[i] if i < len(lists) else op.ints_arg(name) for i, name in enumerate(names)
    )
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) > 0 or min(steps) < 1:
        raise unsupported(op, f"starts {starts}, ends {ends}, axes {axes}, steps {steps}")
    chosen: list[slice | int] = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen[axis_of(op, axis, len(shape))] = slice(start, end, step)
    return chosen


def strided_slices(op: OperatorDef, shape: Sequence[int], given: Known) -> list[slice | int]:
    """One range or index per axis. ``given``: begin, end (or sizes), strides.

    With the argument ``slice`` it is TensorFlow's Slice: begin and size, -1 for all the rest.
    """
    lists = [[int(v) for v in values.reshape(-1)] for values in given if values is not None]
    if len(lists) < 2 or op.int_arg("ellipsis_mask") or op.int_arg("new_axis_mask"):
        raise unsupported(op, "a mask, or indices that are not constant")
    begin, end, *rest = lists
    strides = rest[0] if rest else [1] * len(begin)
    if not len(begin) == len(end) == len(strides) <= len(shape) or 0 in strides:
        raise unsupported(op, f"begin {begin}, end {end}, strides {strides}")
    missing = len(shape) - len(begin)
    begin, strides = [*begin, *[0] * missing], [*strides, *[1] * missing]
    end = [*end, *(shape[len(end) :])]
    if op.int_arg("slice"):
        return _sizes(op, shape, begin, end)
    chosen: list[slice | int] = []
    for axis, size in enumerate(shape):
        if op.int_arg("shrink_axis_mask") >> axis & 1:
            chosen.append(axis_of(op, begin[axis], size))
            continue
        first = None if op.int_arg("begin_mask") >> axis & 1 else begin[axis]
        last = None if op.int_arg("end_mask") >> axis & 1 else end[axis]
        chosen.append(slice(first, last, strides[axis]))
    return chosen


def _sizes(
    op: OperatorDef, shape: Sequence[int], begin: list[int], sizes: list[int]
) -> list[slice | int]:
    chosen: list[slice | int] = []
    for length, first, size in zip(shape, begin, sizes, strict=True):
        last = length if size == -1 else first + size
        if not 0 <= first <= last <= length:
            raise unsupported(op, f"{size} values from {first} on of {length}")
        chosen.append(slice(first, last))
    return chosen


def pairs_of(op: OperatorDef, name: str, rank: int) -> list[Pair]:
    """Paddings before and after each axis."""
    pads = op.ints_arg(name)
    if len(pads) != 2 * rank or min(pads, default=0) < 0 or max(pads, default=0) > _MAX_SIZE:
        raise unsupported(op, f"{name} {list(pads)}")
    return list(zip(pads[::2], pads[1::2], strict=True))


def grid_pads(op: OperatorDef, name: str) -> tuple[Pair, list[Pair]]:
    """``block_shape``, and ``paddings`` or ``crops`` of rows and columns."""
    block = op.ints_arg("block_shape", (1, 1))
    if len(block) != 2 or min(block) < 1 or max(block) > _MAX_SIZE:
        raise unsupported(op, f"block_shape {list(block)}")
    if op.arg(name) is None:
        return (block[0], block[1]), [(0, 0), (0, 0)]
    return (block[0], block[1]), pairs_of(op, name, 2)


def resize_size(op: OperatorDef, size: Pair, known: Known) -> Pair:
    """Output height and width: from the scales, else from ``size``, else from the second input."""
    scales = (op.float_arg("height_scale"), op.float_arg("width_scale"))
    given = op.ints_arg("size")
    if scales[0] > 0 and op.type != "ResizeBicubic":
        # the product of floats, as MACE has it
        with np.errstate(all="ignore"):
            sizes = [float(np.float32(scales[i]) * np.float32(size[i])) for i in (0, 1)]
        if not all(1 <= value <= _MAX_SIZE for value in sizes):
            raise unsupported(op, f"scales {scales}")
        return (int(sizes[0]), int(sizes[1]))
    if len(given) != 2 or min(given) < 1:
        value = known[1] if len(known) > 1 else None
        if value is None or value.size != 2:
            raise unsupported(op, "its size is not constant")
        given = tuple(int(item) for item in value.reshape(-1))
    if min(given) < 1:
        raise unsupported(op, f"size {list(given)}")
    return (given[0], given[1])


def is_caffe_arg_max(op: OperatorDef) -> bool:
    """Whether ArgMax looks at all values of each sample, as Caffe's without an axis does."""
    return op.int_arg("framework_type", TENSORFLOW) == CAFFE and op.arg("axis") is None
