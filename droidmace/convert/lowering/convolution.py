"""Convolutions and their transposes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, Layout, N, Value, W
from droidmace.convert.lowering.registry import converts
from droidmace.convert.lowering.windows import Window, kernel_of
from droidmace.convert.mace_ops import ArgumentValue

IMAGE_PLACES = (N, C, H, W)
DILATED_LIMIT = "on gpu: a dilation together with a stride, or of a kernel one row high"
STRIDES_LIMIT = "on gpu: depthwise with two different strides"


@converts(
    "Conv",
    to=("Conv2D", "DepthwiseConv2d", "FullyConnected", "Pad"),
    limits=("three dimensions", "filters that are computed", DILATED_LIMIT, STRIDES_LIMIT),
)
def conv(state: Conversion, node: Node) -> None:
    """Conv: Conv2D, DepthwiseConv2d, or FullyConnected where the window is the whole input.

    MACE has no groups: a grouped convolution is an ordinary one with zeros between the groups, and
    so is, on the GPU, a depthwise one with several filters per channel.
    """
    filters = state.constant(node, 1)
    kernel = kernel_of(node, filters.shape[2:])
    source = state.placed(node, 0, IMAGE_PLACES[: filters.ndim])
    filters = filters.reshape(*filters.shape[:2], *kernel)
    group = node.integer("group", 1)
    out_channels = filters.shape[0]
    channels = source.size(C)
    if filters.shape[1] * group != channels or out_channels % group:
        raise node.refuse(
            f"filters {filters.shape} in {group} groups do not fit {channels} channels",
            hint="the file is damaged: export it again",
        )
    multiplier = out_channels // group
    depthwise = group == channels > 1 and (multiplier == 1 or not state.runs_on_gpu)
    if group > 1 and not depthwise:
        filters = _without_groups(filters, group)
    window = Window.of(node, (source.size(H), source.size(W)), kernel)
    if state.runs_on_gpu:
        _check_gpu(node, window, depthwise=depthwise)
    totals = window.totals()
    if totals is None:
        source = pad(state, node, source, window, 0.0)
        window, totals = window.unpadded(), (0, 0)
    height, width = window.output
    shape = (source.size(N), height, width, out_channels)
    arguments: dict[str, ArgumentValue] = {
        "strides": window.strides,
        "kernels": kernel,
        "padding_values": totals,
        "group": channels if depthwise else 1,
        "dilations": window.dilations,
    }
    work = math.prod(shape) * math.prod(filters.shape[1:])
    if depthwise:
        # MIHW: filter m of channel i makes output channel i * M + m, as in ONNX.
        filters = filters.reshape(channels, multiplier, *kernel).transpose(1, 0, 2, 3)
    weights = state.use_constant(node.input(1), filters, node)
    covers_input = kernel == (source.size(H), source.size(W)) and totals == (0, 0)
    whole = covers_input and not depthwise and state.uses[node.input(1)] == 1
    dense_type = "FullyConnected" if whole else "Conv2D"
    rank = len(source.groups)
    layout = Layout.at((shape[0], out_channels, height, width)[:rank], IMAGE_PLACES[:rank])
    state.emit(
        node,
        "DepthwiseConv2d" if depthwise else dense_type,
        (source.tensor, weights, *state.bias(node, out_channels)),
        shape,
        layout.groups,
        arguments,
        multiply_adds=work,
    )


def _without_groups(filters: NDArray[np.float32], group: int) -> NDArray[np.float32]:
    """The filters of one group that do the same: zero where another group's channels are."""
    out_channels, inner, height, width = filters.shape
    whole = np.zeros((out_channels, inner * group, height, width), np.float32)
    each = out_channels // group
    for number in range(group):
        rows = slice(number * each, (number + 1) * each)
        whole[rows, number * inner : (number + 1) * inner] = filters[rows]
    return whole


def _check_gpu(node: Node, window: Window, *, depthwise: bool) -> None:
    if not depthwise and window.dilations[0] > 1 and window.strides[0] > 1:
        raise node.refuse(
            "MACE's GPU runtime has no dilated convolution with a stride",
            hint="set 'runtime: cpu', or change the model",
        )
    if depthwise and window.strides[0] != window.strides[1]:
        raise node.refuse(
            f"MACE's GPU runtime has no depthwise convolution with the strides {window.strides}",
            hint="set 'runtime: cpu', or use the same stride both ways",
        )


def pad(state: Conversion, node: Node, source: Value, window: Window, number: float) -> Value:
    """A Pad op for what ``padding_values`` cannot say."""
    (top, left), (bottom, right) = window.before, window.after
    batch, height, width, channels = source.shape
    shape = (batch, height + top + bottom, width + left + right, channels)
    arguments: dict[str, ArgumentValue] = {
        "paddings": (0, 0, top, bottom, left, right, 0, 0),
        "constant_value": number,
        "has_data_format": 1,
    }
    tensor = state.step(node, "padded", "Pad", (source.tensor,), shape, arguments)
    return replace(source, tensor=tensor, shape=shape)


@converts(
    "ConvTranspose",
    to=("Deconv2D", "DepthwiseDeconv2d"),
    limits=("three dimensions", "filters that are computed"),
)
def conv_transpose(state: Conversion, node: Node) -> None:
    """ConvTranspose: Deconv2D, or DepthwiseDeconv2d with one filter per channel.

    MACE crops the whole result by half of ``padding_values``, rounded down, before. Everything else
    (output padding, dilation, other crops) is said with zeros in the filter.
    """
    filters = state.constant(node, 1)
    kernel = kernel_of(node, filters.shape[2:])
    rank = filters.ndim
    source = state.placed(node, 0, IMAGE_PLACES[:rank])
    filters = filters.reshape(*filters.shape[:2], *kernel)
    group = node.integer("group", 1)
    channels = source.size(C)
    if filters.shape[0] != channels or channels % group:
        raise node.refuse(
            f"filters {filters.shape} in {group} groups do not fit {channels} channels",
            hint="the file is damaged: export it again",
        )
    size = (source.size(H), source.size(W))
    strides, dilations = (_two(node, name, 1) for name in ("strides", "dilations"))
    filters = _dilated(filters, dilations)
    before, after = _crops(node, size, filters.shape[2:], strides, rank - 2)
    grown, totals = [], []
    for axis in (0, 1):
        # As many zero rows as make the crop before half of the total.
        behind = max(0, before[axis] - after[axis])
        front = max(0, after[axis] - before[axis] - 1)
        grown.append((front, behind))
        totals.append(before[axis] + after[axis] + front + behind)
    filters = np.pad(filters, ((0, 0), (0, 0), *grown))
    height, width = (
        (size[axis] - 1) * strides[axis] + filters.shape[axis + 2] - totals[axis] for axis in (0, 1)
    )
    depthwise = group == channels > 1 and filters.shape[1] == 1
    if group > 1 and not depthwise:
        parts = filters.reshape(group, channels // group, *filters.shape[1:])
        turned = np.concatenate(list(parts.transpose(0, 2, 1, 3, 4)))
        filters = _without_groups(turned, group).transpose(1, 0, 2, 3)
    # IOHW to OIHW; a depthwise filter becomes MIHW by the same turn.
    laid_out = np.ascontiguousarray(filters.transpose(1, 0, 2, 3))
    out_channels = channels if depthwise else laid_out.shape[0]
    shape = (source.size(N), height, width, out_channels)
    arguments: dict[str, ArgumentValue] = {
        "strides": strides,
        "kernels": (laid_out.shape[2], laid_out.shape[3]),
        "padding_values": (totals[0], totals[1]),
        "group": channels if depthwise else 1,
        "dilations": (1, 1),
    }
    layout = Layout.at((shape[0], out_channels, height, width)[:rank], IMAGE_PLACES[:rank])
    weights = state.use_constant(node.input(1), laid_out, node)
    state.emit(
        node,
        "DepthwiseDeconv2d" if depthwise else "Deconv2D",
        (source.tensor, weights, *state.bias(node, out_channels)),
        shape,
        layout.groups,
        arguments,
        multiply_adds=source.size(N) * math.prod(size) * laid_out.size,
    )


def _two(node: Node, attribute: str, default: int) -> tuple[int, int]:
    values = node.ints(attribute) or (default, default)
    return (values[0], values[1] if len(values) == 2 else default)


def _dilated(filters: NDArray[np.float32], dilations: tuple[int, int]) -> NDArray[np.float32]:
    """The filters with zeros between their rows and columns."""
    height, width = (
        (size - 1) * step + 1 for size, step in zip(filters.shape[2:], dilations, strict=True)
    )
    spread = np.zeros((*filters.shape[:2], height, width), np.float32)
    spread[:, :, :: dilations[0], :: dilations[1]] = filters
    return spread


def _crops(
    node: Node,
    size: tuple[int, int],
    kernel: tuple[int, ...],
    strides: tuple[int, int],
    dimensions: int,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """How much of the whole result ONNX leaves out (h, w) before and after; negative adds."""
    extra = _two(node, "output_padding", 0)
    wanted = node.ints("output_shape")
    if wanted is not None:
        # Of the spatial dimensions, the last `dimensions`; a 1-D result is one column wide.
        wanted = (*wanted[-dimensions:], 1)
    automatic = node.text("auto_pad", "NOTSET")
    if wanted is None and automatic in {"NOTSET", "VALID"}:
        pads = (node.ints("pads") if automatic == "NOTSET" else None) or (0, 0, 0, 0)
        if len(pads) == 2:
            pads = (pads[0], 0, pads[1], 0)
        return (pads[0], pads[1]), (pads[2] - extra[0], pads[3] - extra[1])
    before, after = [], []
    for axis in (0, 1):
        full = (size[axis] - 1) * strides[axis] + kernel[axis] + extra[axis]
        target = size[axis] * strides[axis]
        if wanted is not None:
            target = wanted[axis]
        if full < target:
            before.append(0)
            after.append(full - target - extra[axis])
            continue
        total = full - target
        small, large = total // 2, total - total // 2
        early, late = (small, large) if automatic == "SAME_UPPER" else (large, small)
        before.append(early)
        after.append(late - extra[axis])
    return (before[0], before[1]), (after[0], after[1])
