"""Ops without weights: activations, softmax, sums, means, and changes of view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from droidmace.convert.conversion import Conversion, nchw
from droidmace.convert.graph import Node
from droidmace.convert.mace_ops import ArgumentValue, EltwiseType, OpDraft, ReduceType

FLOAT32_MAX = float(np.finfo(np.float32).max)
FUSES_ACTIVATION = frozenset({"Conv2D", "DepthwiseConv2d", "FullyConnected"})
"""Ops that take an activation as an argument."""


def relu(state: Conversion, node: Node) -> None:
    """Relu: an argument of the op before it, or an Activation."""
    _activate(state, node, {"activation": "RELU", "activation_coefficient": 0.0})


def clip(state: Conversion, node: Node) -> None:
    """Clip from 0 (ReLU6 is one): as Relu."""
    low = _bound(state, node, "min", 1, -FLOAT32_MAX)
    high = _bound(state, node, "max", 2, FLOAT32_MAX)
    if low != 0.0 or not high > 0.0:  # NaN included
        raise node.refuse(
            f"it clips to {low:g} … {high:g}; only 0 … maximum is an activation of MACE"
        )
    if high >= FLOAT32_MAX:
        _activate(state, node, {"activation": "RELU"})
    else:
        _activate(state, node, {"activation": "RELUX", "max_limit": high})


def softmax(state: Conversion, node: Node) -> None:
    """Softmax over the channels."""
    source = state.value(node)
    rank = 2 if source.flat else 4
    default = 1 if state.graph.opset < 13 else -1
    axis = int(node.attributes.get("axis", default)) % rank
    # Up to opset 12 everything from the axis on is one distribution.
    over_channels = axis == 1 and (state.graph.opset >= 13 or source.pixels == 1)
    if not over_channels:
        raise node.refuse(
            f"it runs along axis {axis} of {rank}; MACE's GPU softmax runs along the channels"
        )
    op = OpDraft(
        name=node.name,
        type="Softmax",
        inputs=(source.tensor,),
        output=node.output,
        shape=source.shape,
        arguments={"axis": 1, "has_data_format": 1},
    )
    state.emit(node, op, flat=source.flat)


def add(state: Conversion, node: Node) -> None:
    """Add of two computed tensors of one shape: a shortcut."""
    first, second = state.value(node, 0), state.value(node, 1)
    if first.shape != second.shape:
        raise node.refuse(
            f"it adds (n, h, w, c) {first.shape} and {second.shape}",
            hint="give both inputs the same shape",
        )
    op = OpDraft(
        name=node.name,
        type="Eltwise",
        inputs=(first.tensor, second.tensor),
        output=node.output,
        shape=first.shape,
        arguments={"type": int(EltwiseType.SUM), "has_data_format": 1},
    )
    state.emit(node, op, flat=first.flat and second.flat)


def global_average_pool(state: Conversion, node: Node) -> None:
    """GlobalAveragePool: MACE's Reduce."""
    _mean_over_pixels(state, node, flat=False)


def reduce_mean(state: Conversion, node: Node) -> None:
    """ReduceMean over height and width."""
    axes = node.attributes.get("axes")
    if axes is None and node.input(1):
        axes = state.graph.constants.get(node.input(1))
    found = None if axes is None else sorted(int(axis) % 4 for axis in axes)
    if found != [2, 3]:
        raise node.refuse(
            f"it averages over {'unknown axes' if found is None else f'the axes {found}'}; "
            "only height and width (2, 3) are supported"
        )
    _mean_over_pixels(state, node, flat=not node.attributes.get("keepdims", 1))


def flatten(state: Conversion, node: Node) -> None:
    """Flatten, or a Reshape that does the same: nothing to compute, only another view."""
    source = state.value(node, whole_pixel=False)
    target = state.graph.shapes.get(node.output, ())
    batch, _, _, channels = source.shape
    if target == (batch, channels * source.pixels):
        state.values[node.output] = replace(source, flat=True)
    elif target == nchw(source.shape):
        state.values[node.output] = replace(source, flat=False)
    else:
        raise node.refuse(
            f"it makes {target or 'an unknown shape'} of (n, h, w, c) {source.shape}",
            hint="only flattening to (batch, values) is supported",
        )


def _activate(state: Conversion, node: Node, arguments: dict[str, ArgumentValue]) -> None:
    source = state.value(node)
    before = state.ops.get(source.tensor)
    single_reader = state.uses[node.input(0)] == 1 and node.input(0) == source.tensor
    if (
        before is not None
        and single_reader
        and before.type in FUSES_ACTIVATION
        and "activation" not in before.arguments
    ):
        del state.ops[source.tensor]
        fused = replace(before, name=node.name, output=node.output)
        state.emit(node, fused.with_arguments(arguments), flat=source.flat)
        return
    op = OpDraft(
        name=node.name,
        type="Activation",
        inputs=(source.tensor,),
        output=node.output,
        shape=source.shape,
        arguments={**arguments, "has_data_format": 1},
    )
    state.emit(node, op, flat=source.flat)


def _bound(state: Conversion, node: Node, attribute: str, index: int, default: float) -> float:
    """A bound of a Clip: an attribute up to opset 10, an optional input after."""
    if attribute in node.attributes:
        return float(node.attributes[attribute])
    if not node.input(index):
        return default
    value = state.constant(node, index)
    if value.size != 1:
        raise node.refuse(f"its bound {node.input(index)!r} is not one number")
    return float(value.reshape(-1)[0])


def _mean_over_pixels(state: Conversion, node: Node, *, flat: bool) -> None:
    source = state.value(node)
    if source.flat:
        raise node.refuse("its input has no height and width")
    op = OpDraft(
        name=node.name,
        type="Reduce",
        inputs=(source.tensor,),
        output=node.output,
        shape=(source.shape[0], 1, 1, source.shape[3]),
        # MACE's GPU runtime always keeps the reduced axes.
        arguments={
            "reduce_type": int(ReduceType.MEAN),
            "axis": (1, 2),
            "keepdims": 1,
            "has_data_format": 1,
        },
    )
    state.emit(node, op, flat=flat)
