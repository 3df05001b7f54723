"""Reductions, arg max and softmax: what runs along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, Layout, N, Value, W, nhwc, nhwc_axis
from droidmace.convert.lowering.arithmetic import scalar_arguments
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue, ReduceType
from droidmace.formats.op_types import EltwiseType

REDUCTIONS = {
    "ReduceMean": ReduceType.MEAN,
    "ReduceMax": ReduceType.MAX,
    "ReduceMin": ReduceType.MIN,
    "ReduceSum": ReduceType.SUM,
    "ReduceProd": ReduceType.PROD,
}
COMPOSED = {"ReduceL1", "ReduceL2", "ReduceSumSquare"}
ON_GPU = "on gpu over other axes than the channels, or height and width: on the CPU"


def axes_of(state: Conversion, node: Node, *, index: int = 1) -> tuple[int, ...] | None:
    """The axes that a node names, by attribute or input, counted from 0; None if it names none."""
    rank = len(state.graph.shapes.get(node.input(0), ())) or len(state.value(node).groups)
    axes = node.ints("axes")
    if axes is None:
        axes = state.integers(node, index, "axes")
    if axes is None:
        return None
    wrong = [axis for axis in axes if not -rank <= axis < rank]
    if wrong:
        raise node.refuse(f"axis {wrong[0]} of {rank}", hint="the file is damaged")
    return tuple(sorted({axis % rank for axis in axes}))


@converts(*REDUCTIONS, to=("Reduce",), limits=(ON_GPU,))
def reduce_node(state: Conversion, node: Node) -> None:
    """ReduceMean and its kin."""
    axes = _reduced_axes(state, node)
    if axes is None:
        state.settle(node, state.value(node))
        return
    reduce(state, node, REDUCTIONS[node.op_type], axes, keep=bool(node.integer("keepdims", 1)))


@converts(*sorted(COMPOSED), to=("Eltwise", "Reduce"), limits=(ON_GPU,))
def composed_reduction(state: Conversion, node: Node) -> None:
    """ReduceL1, ReduceL2 and ReduceSumSquare: a sum of what each element makes."""
    source = state.value(node)
    axes = _reduced_axes(state, node) or ()
    keep = bool(node.integer("keepdims", 1))
    if node.op_type == "ReduceL1":
        first: dict[str, ArgumentValue] = {"type": int(EltwiseType.ABS), "has_data_format": 1}
        inputs: tuple[str, ...] = (source.tensor,)
    else:
        first = {"type": int(EltwiseType.PROD), "has_data_format": 1}
        inputs = (source.tensor, source.tensor)
    tensor = state.step(node, "each", "Eltwise", inputs, source.shape, first)
    each = Value(tensor, source.shape, source.groups)
    if node.op_type != "ReduceL2":
        reduce(state, node, ReduceType.SUM, axes, keep=keep, source=each)
        return
    total = reduced(state, node, ReduceType.SUM, each, axes)
    root = scalar_arguments(EltwiseType.POW, 0.5)
    groups = total.groups if keep else _without(total.groups, axes)
    state.emit(node, "Eltwise", (total.tensor,), total.shape, groups, root)


def _reduced_axes(state: Conversion, node: Node) -> tuple[int, ...] | None:
    """The axes to reduce; None if the node is to do nothing."""
    axes = axes_of(state, node)
    if axes:
        return axes
    if node.integer("noop_with_empty_axes", 0):
        return None
    return tuple(range(len(state.value(node).groups)))


def _without(
    groups: tuple[tuple[int, ...], ...], axes: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    return tuple(group for axis, group in enumerate(groups) if axis not in axes)


def reduce(
    state: Conversion,
    node: Node,
    kind: ReduceType,
    axes: Sequence[int],
    *,
    keep: bool,
    source: Value | None = None,
) -> None:
    """``node`` is its input (or ``source``) reduced over ONNX ``axes``.

    MACE's result always keeps the axes: its GPU runtime can do nothing else.
    """
    source = source or state.value(node)
    runs = _runs(state, [axis for index in axes for axis in source.groups[index]])
    groups = tuple(() if i in axes else group for i, group in enumerate(source.groups))
    groups = groups if keep else _without(groups, axes)
    if not runs:
        state.settle(node, source.regrouped(groups))
        return
    for run in runs[:-1]:
        source = _reduced_once(state, node, kind, source, run)
    shape = _reduced_shape(source, runs[-1])
    state.emit(node, "Reduce", (source.tensor,), shape, groups, _arguments(kind, runs[-1]))


def reduced(
    state: Conversion, node: Node, kind: ReduceType, source: Value, axes: Sequence[int]
) -> Value:
    """``source`` reduced over ONNX ``axes``, which stay with size 1: a step on the way."""
    groups = tuple(() if i in axes else group for i, group in enumerate(source.groups))
    for run in _runs(state, [axis for index in axes for axis in source.groups[index]]):
        source = _reduced_once(state, node, kind, source, run)
    return source.regrouped(groups)


def _runs(state: Conversion, axes: Sequence[int]) -> list[tuple[int, ...]]:
    """MACE axes, by Reduce op. MACE's GPU takes height and width together, or the channels."""
    if not axes:
        return []
    if not state.runs_on_gpu or N in axes:
        return [tuple(sorted(axes, key=nhwc_axis))]
    runs = [(H, W)] if H in axes and W in axes else [(a,) for a in (H, W) if a in axes]
    return [*runs, *([(C,)] if C in axes else [])]


def _reduced_once(
    state: Conversion, node: Node, kind: ReduceType, source: Value, run: tuple[int, ...]
) -> Value:
    shape = _reduced_shape(source, run)
    arguments = _arguments(kind, run)
    tensor = state.step(node, "reduced", "Reduce", (source.tensor,), shape, arguments)
    groups = tuple(tuple(axis for axis in g if axis not in run) for g in source.groups)
    return Value(tensor, shape, groups)


def _reduced_shape(source: Value, run: tuple[int, ...]) -> tuple[int, ...]:
    return nhwc([1 if axis in run else source.size(axis) for axis in (N, C, H, W)])


def _arguments(kind: ReduceType, run: tuple[int, ...]) -> dict[str, ArgumentValue]:
    return {
        "reduce_type": int(kind),
        "axis": tuple(nhwc_axis(axis) for axis in run),
        "keepdims": 1,
        "has_data_format": 1,
    }


@converts("ArgMax", "ArgMin", to=("ArgMax",), gpu=False, limits=("the last of equal values",))
def arg_max(state: Conversion, node: Node) -> None:
    """ArgMax and ArgMin: int32, on the CPU. Of equal values MACE's ArgMax takes the last."""
    source = state.value(node)
    if state.uses[node.output] != 1 or node.output not in state.graph.outputs:
        raise node.refuse("its result is read; MACE's ops take floats", hint="let it be an output")
    rank = len(source.groups)
    axis = node.integer("axis", 0) % rank
    if len(source.groups[axis]) > 1:
        source = state.plain(node, source)
    if not source.groups[axis]:
        raise node.refuse("it runs along an axis of size 1", hint="its result is always 0")
    (place,) = source.groups[axis]
    groups = tuple(() if i == axis else group for i, group in enumerate(source.groups))
    if not node.integer("keepdims", 1):
        groups = _without(groups, (axis,))
    arguments: dict[str, ArgumentValue] = {"axis": place, "keepdims": 1}
    if node.op_type == "ArgMin":
        arguments["argmin"] = 1
    shape = _reduced_shape(source, (place,))
    inputs = (source.tensor,)
    state.emit(node, "ArgMax", inputs, shape, groups, arguments, integers=True)


@converts("Softmax", "LogSoftmax", to=("Softmax",))
def softmax(state: Conversion, node: Node) -> None:
    """Softmax and LogSoftmax: MACE's runs along the channels.

    Up to opset 12 everything from the axis on is one distribution.
    """
    source = state.value(node)
    shape = source.onnx_shape
    rank = len(shape)
    old = state.graph.opset < 13
    axis = node.integer("axis", 1 if old else -1) % max(rank, 1)
    moved = source
    if old and sum(size > 1 for size in shape[axis:]) > 1:
        rows = math.prod(shape[:axis])
        matrix = (rows, math.prod(shape[axis:]))
        flat = source.reshaped(matrix) or state.plain(node, source).reshaped(matrix)
        if flat is None:
            raise node.refuse(f"{shape} is no matrix from axis {axis} on")
        moved = state.arrange(node, flat, Layout.at(matrix, (N, C)))
    else:
        if old:
            wide = [i for i in range(axis, rank) if shape[i] > 1]
            axis = wide[0] if wide else axis
        moved = _with_axis_at_channels(state, node, source, axis)
    arguments: dict[str, ArgumentValue] = {"axis": 1, "has_data_format": 1}
    if node.op_type == "LogSoftmax":
        arguments = {"use_log": 1, **arguments}
    if moved.groups != source.groups and len(moved.groups) != rank:
        tensor = state.step(node, "matrix", "Softmax", (moved.tensor,), moved.shape, arguments)
        back = Value(tensor, moved.shape, moved.groups).reshaped(shape)
        layout = Layout.plain(shape)
        if back is None and layout is not None:
            back = state.arrange(
                node,
                Value(tensor, moved.shape, (moved.order,)),
                Layout((layout.order,), layout.sizes),
            ).regrouped(layout.groups)
        if back is None:
            raise node.refuse(f"{shape} has too many axes; MACE's tensors have four")
        state.settle(node, back)
        return
    state.emit(node, "Softmax", (moved.tensor,), moved.shape, moved.groups, arguments)


def _with_axis_at_channels(state: Conversion, node: Node, source: Value, axis: int) -> Value:
    """``source`` with ONNX axis ``axis`` alone at the channels, everything else beside it."""
    shape = source.onnx_shape
    others = [i for i in range(len(shape)) if i != axis and shape[i] > 1]
    if source.groups[axis] == (C,):
        return source
    if not source.groups[axis] and C not in source.order:
        return source
    if len(others) > 3:
        raise node.refuse(f"{shape} has too many axes; MACE's tensors have four")
    free = iter((N, H, W))
    places = {i: next(free) for i in others}
    sizes = [1, 1, 1, 1]
    groups: list[tuple[int, ...]] = [()] * len(shape)
    for i, place in [*places.items(), (axis, C)]:
        sizes[place] = shape[i]
        groups[i] = (place,) if shape[i] > 1 else ()
    return state.arrange(node, source, Layout(tuple(groups), tuple(sizes)))
