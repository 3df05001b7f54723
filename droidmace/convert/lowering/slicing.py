"""Parts of a tensor: Split, Slice, Gather; and Pad, which adds to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, N, Value, W, nhwc, nhwc_axis
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue, PadType

MOST_EDGES = 64
"""Rows that a Pad may repeat an edge for."""


def _single(state: Conversion, node: Node, source: Value, axis: int) -> tuple[Value, int | None]:
    """``source`` with ONNX axis ``axis`` at one MACE axis; None where its size is 1."""
    if len(source.groups[axis]) > 1:
        source = state.plain(node, source)
    group = source.groups[axis]
    return source, group[0] if group else None


def _resized(source: Value, axis: int, place: int, size: int) -> Value:
    """``source`` with ``size`` elements along ONNX axis ``axis``, which is at ``place``."""
    sizes = [source.size(part) for part in (N, C, H, W)]
    sizes[place] = size
    groups = list(source.groups)
    groups[axis] = (place,) if size > 1 else ()
    return replace(source, shape=nhwc(sizes), groups=tuple(groups))


@converts(
    "Split",
    to=("Split", "Slice"),
    limits=("on gpu unless it splits the channels equally, in parts that divide by 4: on the CPU",),
)
def split(state: Conversion, node: Node) -> None:
    """Split: Split where the parts are equal, or on the CPU; slices else."""
    source = state.value(node)
    axis = node.integer("axis", 0) % len(source.groups)
    source, place = _single(state, node, source, axis)
    shapes = [state.graph.shapes.get(name) for name in node.outputs]
    if place is None or len(node.outputs) == 1:
        state.settle(node, source)
        return
    if any(shape is None for shape in shapes):
        raise node.refuse("the sizes of its parts are not known")
    sizes = [shape[axis] for shape in shapes if shape is not None]
    if sum(sizes) != source.size(place):
        raise node.refuse(f"parts of {sizes} of {source.size(place)}", hint="the file is damaged")
    parts = [_resized(source, axis, place, size) for size in sizes]
    outputs = [replace(part, tensor=name) for part, name in zip(parts, node.outputs, strict=True)]
    equal = len(set(sizes)) == 1
    if equal or not state.runs_on_gpu:
        inputs = [source.tensor]
        if not equal:
            inputs.append(state.new_constant(node, "sizes", np.array(sizes, np.int32)))
        arguments: dict[str, ArgumentValue] = {"axis": nhwc_axis(place), "has_data_format": 1}
        state.emit_several(node, "Split", inputs, outputs, arguments)
        return
    start = 0
    for index, (part, size) in enumerate(zip(outputs, sizes, strict=True)):
        if state.uses[part.tensor]:
            cut = _slice(state, node, source, axis, place, (start, start + size, 1))
            state.settle(node, cut, index)
        start += size


@converts("Slice", to=("Slice", "Gather"), gpu=False)
def slice_node(state: Conversion, node: Node) -> None:
    """Slice: one MACE op per axis that it cuts; backwards it is a Gather."""
    source = state.value(node)
    starts = node.ints("starts") or state.integers(node, 1, "starts") or ()
    ends = node.ints("ends") or state.integers(node, 2, "ends") or ()
    axes = node.ints("axes") or state.integers(node, 3, "axes") or tuple(range(len(starts)))
    steps = state.integers(node, 4, "steps") or (1,) * len(starts)
    shape = source.onnx_shape
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = axis % len(shape)
        if step == 0:
            raise node.refuse("it steps by 0", hint="the file is damaged")
        first, last, _ = slice(start, end, step).indices(shape[index])
        source, place = _single(state, node, source, index)
        if place is None or (first, last, step) == (0, shape[index], 1):
            continue
        if step < 0:
            source = _pick(state, node, source, index, place, list(range(first, last, step)))
            continue
        source = _slice(state, node, source, index, place, (first, last, step))
    state.settle(node, source)


def _slice(
    state: Conversion, node: Node, source: Value, axis: int, place: int, cut: tuple[int, int, int]
) -> Value:
    """``source`` from ``cut``'s start to its end by its step along ONNX axis ``axis``."""
    start, end, step = cut
    count = len(range(start, end, step))
    if count == 0:
        raise node.refuse("it leaves nothing over")
    result = _resized(source, axis, place, count)
    # MACE runs Slice on the CPU, where axes count as (n, c, h, w).
    inputs, arguments = [source.tensor], {}
    if step == 1:
        arguments = {"starts": (start,), "ends": (end,), "axes": (place,)}
    else:
        for name, number in zip(
            ("start", "end", "axis", "step"), (start, end, place, step), strict=True
        ):
            inputs.append(state.new_constant(node, name, np.array([number], np.int32)))
    tensor = state.step(node, "slice", "Slice", inputs, result.shape, arguments)
    return replace(result, tensor=tensor)


@converts("Gather", to=("Gather", "Slice"), gpu=False, limits=("indices that are computed",))
def gather(state: Conversion, node: Node) -> None:
    """Gather with constant indices, a slice where they follow each other; or rows of a constant
    that an input of whole numbers chooses.
    """
    if node.input(1) in state.graph.whole:
        _chosen_rows(state, node)
        return
    source = state.value(node)
    axis = node.integer("axis", 0) % len(source.groups)
    numbers = state.integers(node, 1, "indices")
    indices = state.graph.constants[node.input(1)]
    source, place = _single(state, node, source, axis)
    size = source.onnx_shape[axis]
    if numbers is None or any(not -size <= number < size for number in numbers):
        raise node.refuse("its indices are out of bounds", hint="the file is damaged")
    chosen = [number % size for number in numbers]
    if not chosen:
        raise node.refuse("it leaves nothing over")
    if place is None:
        if len(chosen) > 1:
            raise node.refuse("it repeats the only element", hint="use Expand")
    elif chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        source = _slice(state, node, source, axis, place, (chosen[0], chosen[-1] + 1, 1))
    else:
        source = _pick(state, node, source, axis, place, chosen)
    groups = source.groups
    if indices.ndim == 0:
        groups = (*groups[:axis], *groups[axis + 1 :])
    elif indices.ndim > 1:
        target = (*source.onnx_shape[:axis], *indices.shape, *source.onnx_shape[axis + 1 :])
        view = source.reshaped(target)
        if view is None:
            raise node.refuse(f"indices of shape {indices.shape}", hint="flatten the indices")
        groups = view.groups
    state.settle(node, source.regrouped(groups))


def _pick(
    state: Conversion, node: Node, source: Value, axis: int, place: int, chosen: list[int]
) -> Value:
    """``source`` with the ``chosen`` elements (at least one) of ONNX axis ``axis``, in order."""
    constant = state.new_constant(node, "indices", np.array(chosen, np.int32))
    result = _resized(source, axis, place, len(chosen))
    inputs = (source.tensor, constant)
    tensor = state.step(node, "gathered", "Gather", inputs, result.shape, {"axis": place})
    return replace(result, tensor=tensor)


def _chosen_rows(state: Conversion, node: Node) -> None:
    table = state.constant(node, 0)
    if node.integer("axis", 0) % table.ndim:
        raise node.refuse("its indices choose along another axis than the first of a constant")
    shape = (*state.graph.shapes[node.input(1)], *table.shape[1:])
    name = state.use_constant(node.input(0), table, node)
    inputs = (name, node.input(1))
    tensor = state.step(node, "rows", "Gather", inputs, shape, {"axis": 0})
    state.settle(node, state.enter(node, tensor, shape))


@converts(
    "Pad",
    to=("Pad",),
    limits=("on gpu: along other axes than height and width", "mode wrap", "cropping"),
)
def pad_node(state: Conversion, node: Node) -> None:
    """Pad: constant, reflect, and edge."""
    source = state.value(node)
    rank = len(source.groups)
    pads = node.ints("pads") or state.integers(node, 1, "pads")
    # In the node's own order: the pads follow it.
    axes = state.integers(node, 3, "axes") or tuple(range(rank))
    if pads is None or len(pads) != 2 * len(axes):
        raise node.refuse(f"pads {pads} for {len(axes)} axes", hint="the file is damaged")
    if min(pads) < 0:
        raise node.refuse(f"pads {pads} crop", hint="use a Slice")
    wanted = {axis % rank: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    wanted = {axis: both for axis, both in wanted.items() if any(both)}
    mode = node.text("mode", "constant")
    if not wanted:
        state.settle(node, source)
        return
    if mode not in {"constant", "reflect", "edge"}:
        raise node.refuse(f"mode {mode!r}; MACE has constant, reflect and edge")
    if any(len(source.groups[axis]) > 1 for axis in wanted):
        source = state.plain(node, source)
    number = 0.0
    if mode == "constant":
        number = node.number("value", 0.0)
        if node.input(2):
            filling = state.constant(node, 2)
            if filling.size != 1:
                raise node.refuse(f"its value {node.input(2)!r} is not one number")
            number = float(filling.reshape(-1)[0])
    _emit_pads(state, node, source, wanted, mode, number)


def _emit_pads(
    state: Conversion,
    node: Node,
    source: Value,
    wanted: dict[int, tuple[int, int]],
    mode: str,
    number: float,
) -> None:
    places: dict[int, int] = {}
    free = [place for place in (H, W, C, N) if place not in source.order]
    for axis in wanted:
        group = source.groups[axis]
        places[axis] = group[0] if group else free.pop(0)
    if state.runs_on_gpu and not set(places.values()) <= {H, W}:
        raise node.refuse(
            "MACE's GPU runtime pads height and width only",
            hint="set 'runtime: cpu', or concatenate zeros by a convolution",
        )
    # One row at a time for edge: MACE's symmetric padding repeats whole borders.
    rounds = [wanted]
    if mode == "edge":
        most = max(max(both) for both in wanted.values())
        if most > MOST_EDGES:
            raise node.refuse(
                f"it repeats an edge {most} times, each an op of its own; {MOST_EDGES} is the most",
                hint="use mode constant or reflect",
            )
        rounds = [
            {axis: (int(both[0] > i), int(both[1] > i)) for axis, both in wanted.items()}
            for i in range(most)
        ]
    kind = {
        "constant": PadType.CONSTANT,
        "reflect": PadType.REFLECT,
        "edge": PadType.SYMMETRIC,
    }[mode]
    for i, both_sides in enumerate(rounds):
        result, paddings = source, [0] * 8
        for axis, (before, after) in both_sides.items():
            place = places[axis]
            result = _resized(result, axis, place, source.size(place) + before + after)
            paddings[2 * nhwc_axis(place) : 2 * nhwc_axis(place) + 2] = before, after
            if kind is PadType.REFLECT and max(before, after) >= source.size(place):
                raise node.refuse("it reflects more than there is")
        arguments: dict[str, ArgumentValue] = {
            "pad_type": int(kind),
            "paddings": tuple(paddings),
            "constant_value": number,
            "has_data_format": 1,
        }
        if i == len(rounds) - 1:
            state.emit(node, "Pad", (source.tensor,), result.shape, result.groups, arguments)
        else:
            inputs = (source.tensor,)
            tensor = state.step(node, "padded", "Pad", inputs, result.shape, arguments)
            source = replace(result, tensor=tensor)
