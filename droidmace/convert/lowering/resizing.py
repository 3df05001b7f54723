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
from droidmace.convert.graph import Node, Shape
from droidmace.convert.layout import C, H, Layout, N, W
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue, CoordinateMode

IMAGE_PLACES = (N, C, H, W)
Matrix = NDArray[np.float32]
"""(results, sources) along one axis: how much of each source is in each result."""
_TOLERANCE = 1e-4
_MAX_PAIRS = 1 << 26
_MACE_OPS = {
    "nearest": "ResizeNearestNeighbor",
    "linear": "ResizeBilinear",
    "cubic": "ResizeBicubic",
}
_CUBIC_STEPS = 1024
"""MACE's cubic kernel is a table of so many distances."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: its sizes, and ONNX's scale from source to result."""

    source: int
    result: int
    scale: float


@converts(
    "Resize",
    "Upsample",
    to=tuple(_MACE_OPS.values()),
    limits=("antialiasing", "tf_crop_and_resize", "modes that MACE has no equal of"),
)
def resize(state: Conversion, node: Node) -> None:
    """Resize and Upsample."""
    mode = node.text("mode", "nearest").removeprefix("bi")
    if mode not in _MACE_OPS:
        raise node.refuse(f"mode {mode!r} is unknown", hint="nearest, linear or cubic")
    if node.integer("antialias", 0):
        raise node.refuse("it smooths what it shrinks; MACE cannot", hint="set antialias=False")
    rank = len(state.value(node).groups)
    source = state.placed(node, 0, IMAGE_PLACES[:rank])
    target = state.graph.shapes.get(node.output)
    if target is None:
        raise node.refuse("its sizes are not known", hint="export the model with static shapes")
    if target[:2] != source.onnx_shape[:2]:
        raise node.refuse("it resizes batch or channels; MACE resizes height and width")
    height, width = (*target[2:], 1)[:2]
    scales = _scales(state, node, source.onnx_shape)
    axes = [
        _Axis(source.size(place), size, scale or size / source.size(place))
        for place, size, scale in zip((H, W), (height, width), scales, strict=True)
    ]
    if any(axis.source * axis.result > _MAX_PAIRS for axis in axes):
        raise node.refuse(f"{target} is too large")
    wanted = [_onnx_matrix(state, node, axis, mode) for axis in axes]
    same_size = target == source.onnx_shape
    if same_size and all(
        _equal(matrix, np.eye(len(matrix), dtype=np.float32)) for matrix in wanted
    ):
        state.settle(node, source)
        return
    fitting = next(
        (
            arguments
            for arguments in _ways(mode)
            # MACE copies what has the size already.
            if not same_size
            and all(
                _equal(_mace_matrix(axis, arguments, mode), matrix)
                for axis, matrix in zip(axes, wanted, strict=True)
            )
        ),
        None,
    )
    if fitting is None:
        raise node.refuse(
            f"{mode} with coordinates {_coordinates(state, node)!r} "
            f"from {axes[0].source}x{axes[1].source} to {height}x{width} is not what MACE can do",
            hint="use pytorch_half_pixel for linear and cubic, asymmetric with floor for nearest",
        )
    shape = (source.size(N), height, width, source.size(C))
    groups = Layout.at((shape[0], shape[3], height, width)[:rank], IMAGE_PLACES[:rank]).groups
    arguments = {"size": (height, width), **fitting}
    state.emit(node, _MACE_OPS[mode], (source.tensor,), shape, groups, arguments)


def _equal(ours: Matrix, wanted: Matrix) -> bool:
    return bool(np.abs(ours - wanted).max() < _TOLERANCE)


def _scales(state: Conversion, node: Node, shape: Shape) -> tuple[float | None, float | None]:
    """ONNX's scales (h, w) of an input of ``shape``, where they are not those of the sizes."""
    rank = len(shape)
    axes = node.ints("axes") or tuple(range(rank))
    values = node.attributes.get("scales")
    index = 1 if node.op_type == "Upsample" or state.graph.opset < 11 else 2
    if values is None and node.input(index):
        values = state.constant(node, index).reshape(-1)
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    sizes = state.integers(node, 3, "sizes") if policy != "stretch" else None
    if sizes:
        # One scale for all of the axes; the sizes are what it makes of them, rounded.
        each = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        values = [min(each) if policy == "not_larger" else max(each)] * len(axes)
    if values is None or len(values) == 0:
        return (None, None)
    by_axis = {axis % rank: float(value) for axis, value in zip(axes, values, strict=True)}
    return (by_axis.get(2), by_axis.get(3))


def _coordinates(state: Conversion, node: Node) -> str:
    old = node.op_type == "Upsample" or state.graph.opset < 11
    return node.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")


def _onnx_matrix(state: Conversion, node: Node, axis: _Axis, mode: str) -> Matrix:
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
    if mode == "linear":
        return _linear(at, axis)
    if mode == "cubic":
        inside = bool(node.integer("exclude_outside", 0))
        return _cubic(at, axis, node.number("cubic_coeff_a", -0.75), inside=inside)
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


def _cubic(at: NDArray[np.floating], axis: _Axis, factor: float, *, inside: bool) -> Matrix:
    """``inside``: what lies outside the image has no weight, and the others share it."""
    lower = np.floor(at)
    x = (at - lower).astype(np.float32)
    near = ((factor + 2) * x - (factor + 3)) * x * x + 1
    far = ((factor * (x + 1) - 5 * factor) * (x + 1) + 8 * factor) * (x + 1) - 4 * factor
    y = 1 - x
    near_behind = ((factor + 2) * y - (factor + 3)) * y * y + 1
    matrix: Matrix = np.zeros((axis.result, axis.source), np.float32)
    weights = (far, near, near_behind, 1 - far - near - near_behind)
    for step, weight in zip((-1, 0, 1, 2), weights, strict=True):
        place = lower + step
        share = np.where((place < 0) | (place >= axis.source), 0, weight) if inside else weight
        matrix += _one_each(place, axis) * np.asarray(share, np.float32)[:, None]
    return matrix / matrix.sum(axis=1, keepdims=True) if inside else matrix


def _ways(mode: str) -> Iterator[dict[str, ArgumentValue]]:
    """What MACE's op for ``mode`` can be told."""
    return _nearest_ways() if mode == "nearest" else _smooth_ways()


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


def _smooth_ways() -> Iterator[dict[str, ArgumentValue]]:
    """What MACE's ResizeBilinear and ResizeBicubic can be told."""
    for mode in (CoordinateMode.PYTORCH_HALF_PIXEL, CoordinateMode.HALF_PIXEL):
        yield {"align_corners": 0, "coordinate_transformation_mode": int(mode)}
    for align_corners in (1, 0):
        yield {"align_corners": align_corners}


def _mace_matrix(axis: _Axis, arguments: Mapping[str, ArgumentValue], mode: str) -> Matrix:
    """Where MACE takes each result from: ``resize_nearest_neighbor.cc``, ``resize_bilinear.cc``,
    ``resize_bicubic.cc``.
    """
    aligned = bool(arguments["align_corners"])
    if aligned and axis.result > 1:
        scale = np.float32((axis.source - 1) / np.float32(axis.result - 1))
    else:
        scale = np.float32(axis.source / np.float32(axis.result))
    coordinates = arguments.get("coordinate_transformation_mode", int(CoordinateMode.NONE))
    x = np.arange(axis.result, dtype=np.float32)
    if mode == "nearest":
        half = coordinates != CoordinateMode.NONE
        at = (x + np.float32(0.5)) * scale if half else x * scale
        if aligned:
            return _one_each(np.floor(at + np.float32(0.5)), axis)
        prefer_floor = arguments["nearest_mode"] == "round_prefer_floor"
        return _one_each(np.ceil(at - np.float32(0.5)) if prefer_floor else np.floor(at), axis)
    at = x * scale
    if coordinates != CoordinateMode.NONE:
        at = (x + np.float32(0.5)) * scale - np.float32(0.5)
        if coordinates == CoordinateMode.PYTORCH_HALF_PIXEL and axis.result == 1:
            at = np.zeros(1, np.float32)
    if mode == "linear":
        return _linear(at, axis)
    lower = np.floor(at)
    stepped = lower + np.rint((at - lower) * _CUBIC_STEPS) / np.float32(_CUBIC_STEPS)
    if coordinates == CoordinateMode.HALF_PIXEL:
        return _cubic(stepped, axis, -0.5, inside=True)
    return _cubic(stepped, axis, -0.75, inside=False)
