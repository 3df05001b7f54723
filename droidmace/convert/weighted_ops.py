"""Ops with weights: convolutions and matrix products."""

from __future__ import annotations

import math

import numpy as np

from droidmace.convert.conversion import Conversion, Value
from droidmace.convert.graph import Node, Shape
from droidmace.convert.mace_ops import ArgumentValue, OpDraft


def conv(state: Conversion, node: Node) -> None:
    """Conv: Conv2D, DepthwiseConv2d, or FullyConnected where the window is the whole input."""
    source = state.value(node)
    filters = state.constant(node, 1)
    if filters.ndim != 4:
        raise node.refuse(f"{filters.ndim - 2}-dimensional convolution; only 2-D is supported")
    group = int(node.attributes.get("group", 1))
    out_channels, _, kernel_h, kernel_w = filters.shape
    channels = source.shape[3]
    depthwise = group > 1
    if depthwise and (group != channels or out_channels != group):
        raise node.refuse(
            f"{group} groups over {channels} channels to {out_channels}; MACE's GPU takes "
            "one group, or one per channel (depthwise)",
            hint="use an ordinary or a depthwise convolution",
        )
    strides = _pair(node, "strides")
    dilations = _pair(node, "dilations")
    dilated = state.runs_on_gpu and not depthwise and dilations[0] > 1
    if dilated and (strides[0] > 1 or kernel_h == 1):
        raise node.refuse(
            "MACE's GPU runtime has no dilated convolution with a stride or a 1-high kernel",
            hint="set 'runtime: cpu', or change the model",
        )
    if state.runs_on_gpu and depthwise and strides[0] != strides[1]:
        raise node.refuse(
            f"MACE's GPU runtime has no depthwise convolution with the strides {strides}",
            hint="set 'runtime: cpu', or use the same stride both ways",
        )
    kernel = (kernel_h, kernel_w)
    before, after = _pads(node, source.shape, kernel, strides, dilations)
    if any(late - early not in {0, 1} for early, late in zip(before, after, strict=True)):
        source = _pad(state, node, source, before, after)
        before = after = (0, 0)
    totals = (before[0] + after[0], before[1] + after[1])
    height, width = (
        (source.shape[axis + 1] + totals[axis] - dilations[axis] * (kernel[axis] - 1) - 1)
        // strides[axis]
        + 1
        for axis in (0, 1)
    )
    arguments: dict[str, ArgumentValue] = {
        "strides": strides,
        "kernels": kernel,
        "padding_values": totals,
        "group": group,
        "dilations": dilations,
    }
    shape = (source.shape[0], height, width, out_channels)
    laid_out = filters.transpose(1, 0, 2, 3) if depthwise else filters
    weights = state.use_constant(node.input(1), laid_out, node)
    covers_input = kernel == source.shape[1:3] and totals == (0, 0)
    whole = covers_input and not depthwise and state.uses[node.input(1)] == 1
    dense_type = "FullyConnected" if whole else "Conv2D"
    state.emit(
        node,
        OpDraft(
            name=node.name,
            type="DepthwiseConv2d" if depthwise else dense_type,
            inputs=(source.tensor, weights, *state.bias(node, out_channels)),
            output=node.output,
            shape=shape,
            arguments=arguments,
            multiply_adds=math.prod(shape) * math.prod(filters.shape[1:]),
        ),
    )


def gemm(state: Conversion, node: Node) -> None:
    """Gemm with constant weights: FullyConnected."""
    source = state.value(node, whole_pixel=False)
    if not source.flat and source.pixels != 1:
        raise node.refuse("its input is not flattened")
    if node.attributes.get("transA", 0):
        raise node.refuse("its first input is transposed")
    weights = state.constant(node, 1)
    if not node.attributes.get("transB", 0):
        weights = weights.T
    batch, height, width, channels = source.shape
    outputs, inputs = weights.shape
    if inputs != height * width * channels:
        raise node.refuse(f"weights for {inputs} values, the input has {source.shape[1:]}")
    # ONNX flattens channels first, which is just how an OIHW filter lies.
    filters = weights.reshape(outputs, channels, height, width)
    scaled = filters * np.float32(node.attributes.get("alpha", 1.0))
    name = state.use_constant(node.input(1), scaled, node)
    bias = state.bias(node, outputs, float(node.attributes.get("beta", 1.0)))
    op = OpDraft(
        name=node.name,
        type="FullyConnected",
        inputs=(source.tensor, name, *bias),
        output=node.output,
        shape=(batch, 1, 1, outputs),
        arguments={},
        multiply_adds=batch * outputs * inputs,
    )
    state.emit(node, op, flat=True)


def _pad(
    state: Conversion, node: Node, source: Value, before: tuple[int, int], after: tuple[int, int]
) -> Value:
    """A Pad op for what ``padding_values`` cannot say: they are halved, the smaller first."""
    batch, height, width, channels = source.shape
    output = state.new_name(f"{node.name}_padded")
    shape = (
        batch,
        height + before[0] + after[0],
        width + before[1] + after[1],
        channels,
    )
    state.ops[output] = OpDraft(
        name=f"{node.name}_pad",
        type="Pad",
        inputs=(source.tensor,),
        output=output,
        shape=shape,
        arguments={
            "paddings": (0, 0, before[0], after[0], before[1], after[1], 0, 0),
            "constant_value": 0.0,
            "has_data_format": 1,
        },
    )
    return Value(output, shape)


def _pair(node: Node, attribute: str) -> tuple[int, int]:
    values = tuple(int(value) for value in node.attributes.get(attribute, (1, 1)))
    if len(values) != 2 or min(values) < 1:
        raise node.refuse(f"{attribute} {values} are not two positive numbers")
    return values[0], values[1]


def _pads(
    node: Node,
    shape: Shape,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding (h, w) before and after, with ``auto_pad`` worked out."""
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    if automatic in {b"NOTSET", b"VALID"}:
        pads = (0, 0, 0, 0) if automatic == b"VALID" else node.attributes.get("pads", (0, 0, 0, 0))
        top, left, bottom, right = (int(pad) for pad in pads)
        if min(top, left, bottom, right) < 0:
            raise node.refuse("negative padding crops; MACE cannot")
        return (top, left), (bottom, right)
    if automatic not in {b"SAME_UPPER", b"SAME_LOWER"}:
        raise node.refuse(f"auto_pad {automatic!r} is unknown")
    small, large = [], []
    for axis in (0, 1):
        size = shape[axis + 1]
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    before, after = (small, large) if automatic == b"SAME_UPPER" else (large, small)
    return (before[0], before[1]), (after[0], after[1])
