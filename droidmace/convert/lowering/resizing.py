"""Resize and Upsample.

ONNX and MACE each have many ways to say where a result's pixel comes from. Both are worked out for
the sizes at hand, and MACE's first way that gives the same is taken; so no combination of modes is
right by reading alone, or wrong unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, Layout, N, W
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue, CoordinateMode

IMAGE_PLACES = (N, C, H, W)
Matrix = NDArray[np.float32]
"""(results, sources) along one axis: how much of each source is in each result."""
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: its sizes, and ONNX's scale from source to result."""

    source: int
    result: int
    scale: float


@converts(
    "Resize",
    "Upsample",
    to=("ResizeNearestNeighbor", "ResizeBilinear"),
    limits=("cubic", "antialiasing", "tf_crop_and_resize", "modes that MACE has no equal of"),
)
def resize(state: Conversion, node: Node) -> None:
    """Resize and Upsample, nearest and linear."""
    mode = node.text("mode", "nearest")
    if mode not in {"nearest", "linear", "bilinear"}:
        raise node.refuse(f"mode {mode!r}; nearest and linear can be converted")
    if node.integer("antialias", 0):
        raise node.refuse("it smooths what it shrinks; MACE cannot", hint="set antialias=False")
    rank = len(state.value(node).groups)
    source = state.placed(node, 0, IMAGE_PLACES[:rank])
    target = state.graph.shapes.get(node.output)
    if target is None:
        raise node.refuse("its sizes are not known", hint="export the model with static shapes")
    if target[:2] != source.onnx_shape[:2]:
        raise node.refuse("it resizes batch or channels; MACE resizes height and width")
    if target == source.onnx_shape:
        state.settle(node, source)
        return
    height, width = (*target[2:], 1)[:2]
    scales = _scales(state, node, rank)
    axes = [
        _Axis(source.size(place), size, scale or size / source.size(place))
        for place, size, scale in zip((H, W), (height, width), scales, strict=True)
    ]
    nearest = mode == "nearest"
    wanted = [_onnx_matrix(state, node, axis, nearest=nearest) for axis in axes]
    candidates = _nearest_ways() if nearest else _linear_ways()
    fitting = next(
        (
            arguments
            for arguments in candidates
            if all(
                np.abs(_mace_matrix(axis, arguments, nearest=nearest) - matrix).max() < _TOLERANCE
                for axis, matrix in zip(axes, wanted, strict=True)
            )
        ),
        None,
    )
    if fitting is None:
        raise node.refuse(
            f"{mode} with coordinates {_coordinates(state, node)!r} "
            f"from {axes[0].source}x{axes[1].source} to {height}x{width} is not what MACE can do",
            hint="use half_pixel for linear, asymmetric with floor for nearest",
        )
    shape = (source.size(N), height, width, source.size(C))
    groups = Layout.at((shape[0], shape[3], height, width)[:rank], IMAGE_PLACES[:rank]).groups
    op_type = "ResizeNearestNeighbor" if nearest else "ResizeBilinear"
    arguments = {"size": (height, width), **fitting}
    state.emit(node, op_type, (source.tensor,), shape, groups, arguments)


def _scales(state: Conversion, node: Node, rank: int) -> tuple[float | None, float | None]:
    """ONNX's scales (h, w), where the node gives any."""
    values = node.attributes.get("scales")
    index = 1 if node.op_type == "Upsample" or state.graph.opset < 11 else 2
    if values is None and node.input(index):
        values = state.constant(node, index).reshape(-1)
    if values is None or len(values) == 0:
        return (None, None)
    axes = node.ints("axes") or tuple(range(rank))
    by_axis = {axis % rank: float(value) for axis, value in zip(axes, values, strict=True)}
    return (by_axis.get(2), by_axis.get(3))


def _coordinates(state: Conversion, node: Node) -> str:
    old = node.op_type == "Upsample" or state.graph.opset < 11
    return node.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")


def _onnx_matrix(state: Conversion, node: Node, axis: _Axis, *, nearest: bool) -> Matrix:
    """Where ONNX takes each result from."""
    x = np.arange(axis.result, dtype=np.float32)
    scale = np.float32(axis.scale)
    coordinates = _coordinates(state, node)
    if coordinates == "asymmetric":
        at = x / scale
    elif coordinates == "align_corners":
        at = x * (axis.source - 1) / max(axis.result - 1, 1)
    elif coordinates in {"half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"}:
        at = (x + np.float32(0.5)) / scale - np.float32(0.5)
        if coordinates == "pytorch_half_pixel" and axis.result == 1:
            at = np.zeros(1, np.float32)
        if coordinates == "half_pixel_symmetric":
            adjustment = axis.result / (axis.scale * axis.source)
            at = at + np.float32(axis.source / 2 * (1 - adjustment))
    elif coordinates == "tf_half_pixel_for_nn":
        at = (x + np.float32(0.5)) / scale
    else:
        raise node.refuse(f"coordinates {coordinates!r}; MACE cannot")
    if not nearest:
        return _linear(at, axis)
    old = node.op_type == "Upsample" or state.graph.opset < 11
    rounding = node.text("nearest_mode", "floor" if old else "round_prefer_floor")
    chosen = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - np.float32(0.5)),
        "round_prefer_ceil": np.floor(at + np.float32(0.5)),
    }.get(rounding)
    if chosen is None:
        raise node.refuse(f"nearest_mode {rounding!r} is unknown")
    return _one_each(chosen, axis)


def _one_each(chosen: NDArray[np.floating], axis: _Axis) -> Matrix:
    picks = np.clip(chosen.astype(np.int64), 0, axis.source - 1)
    matrix: Matrix = np.eye(axis.source, dtype=np.float32)[picks]
    return matrix


def _linear(at: NDArray[np.floating], axis: _Axis) -> Matrix:
    lower = np.floor(at)
    share = (at - lower).astype(np.float32)[:, None]
    matrix: Matrix = _one_each(lower, axis) * (1 - share) + _one_each(lower + 1, axis) * share
    return matrix


def _nearest_ways() -> Iterator[dict[str, ArgumentValue]]:
    """What MACE's ResizeNearestNeighbor can be told, its converter's own ways first."""
    for rounding in ("floor", "round_prefer_floor"):
        yield {"align_corners": 0, "nearest_mode": rounding}
    yield {
        "align_corners": 0,
        "nearest_mode": "floor",
        "coordinate_transformation_mode": int(CoordinateMode.HALF_PIXEL),
    }
    yield {"align_corners": 1, "nearest_mode": "floor"}


def _linear_ways() -> Iterator[dict[str, ArgumentValue]]:
    """What MACE's ResizeBilinear can be told."""
    for mode in (CoordinateMode.PYTORCH_HALF_PIXEL, CoordinateMode.HALF_PIXEL):
        yield {"align_corners": 0, "coordinate_transformation_mode": int(mode)}
    for align_corners in (1, 0):
        yield {"align_corners": align_corners}


def _mace_matrix(axis: _Axis, arguments: Mapping[str, ArgumentValue], *, nearest: bool) -> Matrix:
    """Where MACE takes each result from: ``resize_nearest_neighbor.cc``, ``resize_bilinear.cc``."""
    aligned = bool(arguments["align_corners"])
    if aligned and axis.result > 1:
        scale = np.float32((axis.source - 1) / np.float32(axis.result - 1))
    else:
        scale = np.float32(axis.source / np.float32(axis.result))
    mode = arguments.get("coordinate_transformation_mode", int(CoordinateMode.NONE))
    x = np.arange(axis.result, dtype=np.float32)
    if nearest:
        at = x * scale if mode == CoordinateMode.NONE else (x + np.float32(0.5)) * scale
        if aligned:
            return _one_each(np.floor(at + np.float32(0.5)), axis)
        prefer_floor = arguments["nearest_mode"] == "round_prefer_floor"
        return _one_each(np.ceil(at - np.float32(0.5)) if prefer_floor else np.floor(at), axis)
    at = x * scale
    if mode != CoordinateMode.NONE:
        at = (x + np.float32(0.5)) * scale - np.float32(0.5)
        if mode == CoordinateMode.PYTORCH_HALF_PIXEL and axis.result == 1:
            at = np.zeros(1, np.float32)
    return _linear(at, axis)
