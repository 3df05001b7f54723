"""Activations: arguments of the op before them, or ops of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C
from droidmace.convert.lowering.arithmetic import scalar_arguments
from droidmace.convert.lowering.composed import general_prelu
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue
from droidmace.formats.op_types import EltwiseType

FLOAT32_MAX = float(np.finfo(np.float32).max)
FUSES_ACTIVATION = frozenset(
    {"Conv2D", "DepthwiseConv2d", "Deconv2D", "FullyConnected", "BatchNorm", "InstanceNorm"}
)
"""Ops that take an activation as an argument."""


@converts("Relu", to=("Activation",))
def relu(state: Conversion, node: Node) -> None:
    """Relu."""
    activate(state, node, {"activation": "RELU", "activation_coefficient": 0.0})


@converts("LeakyRelu", to=("Activation",))
def leaky_relu(state: Conversion, node: Node) -> None:
    """LeakyRelu."""
    slope = node.number("alpha", 0.01)
    activate(state, node, {"activation": "LEAKYRELU", "activation_coefficient": slope})


@converts("Elu", to=("Activation",))
def elu(state: Conversion, node: Node) -> None:
    """Elu."""
    slope = node.number("alpha", 1.0)
    activate(state, node, {"activation": "ELU", "activation_coefficient": slope})


@converts("Selu", to=("Activation", "Eltwise"))
def selu(state: Conversion, node: Node) -> None:
    """Selu: a scaled Elu."""
    slope = node.number("alpha", 1.67326319217681884765625)
    source = state.value(node)
    arguments: dict[str, ArgumentValue] = {
        "activation": "ELU",
        "activation_coefficient": slope,
        "has_data_format": 1,
    }
    inner = state.step(node, "elu", "Activation", (source.tensor,), source.shape, arguments)
    scale = scalar_arguments(EltwiseType.PROD, node.number("gamma", 1.05070102214813232421875))
    state.emit(node, "Eltwise", (inner,), source.shape, source.groups, scale)


@converts("Sigmoid", to=("Activation",))
def sigmoid(state: Conversion, node: Node) -> None:
    """Sigmoid."""
    activate(state, node, {"activation": "SIGMOID", "activation_coefficient": 0.0})


@converts("Tanh", to=("Activation",))
def tanh(state: Conversion, node: Node) -> None:
    """Tanh."""
    activate(state, node, {"activation": "TANH", "activation_coefficient": 0.0})


@converts("Softsign", to=("Eltwise",))
def softsign(state: Conversion, node: Node) -> None:
    """Softsign: x / (1 + abs(x))."""
    source = state.value(node)
    absolute: dict[str, ArgumentValue] = {"type": int(EltwiseType.ABS), "has_data_format": 1}
    size = state.step(node, "abs", "Eltwise", (source.tensor,), source.shape, absolute)
    one_more = scalar_arguments(EltwiseType.SUM, 1.0)
    below = state.step(node, "below", "Eltwise", (size,), source.shape, one_more)
    divide: dict[str, ArgumentValue] = {"type": int(EltwiseType.DIV), "has_data_format": 1}
    inputs = (source.tensor, below)
    state.emit(node, "Eltwise", inputs, source.shape, source.groups, divide)


@converts("Clip", to=("Activation", "Eltwise"), limits=("bounds that are computed",))
def clip(state: Conversion, node: Node) -> None:
    """Clip: from 0 it is an activation (ReLU6 is one), else an Eltwise."""
    low = _bound(state, node, "min", 1, -FLOAT32_MAX)
    high = _bound(state, node, "max", 2, FLOAT32_MAX)
    if not low < high:  # NaN included
        raise node.refuse(f"it clips to {low:g} … {high:g}", hint="the lower bound must be smaller")
    if low == 0.0 and high >= FLOAT32_MAX:
        activate(state, node, {"activation": "RELU"})
    elif low == 0.0:
        activate(state, node, {"activation": "RELUX", "max_limit": high})
    else:
        source = state.value(node)
        arguments: dict[str, ArgumentValue] = {
            "type": int(EltwiseType.CLIP),
            "coeff": (max(low, -FLOAT32_MAX), min(high, FLOAT32_MAX)),
            "has_data_format": 1,
        }
        state.emit(node, "Eltwise", (source.tensor,), source.shape, source.groups, arguments)


@converts("PRelu", to=("Activation", "Eltwise"), limits=("slopes that are computed",))
def prelu(state: Conversion, node: Node) -> None:
    """PRelu: an activation with one slope per channel, else worked out."""
    source = state.value(node)
    slope = state.constant(node, 1)
    rank = len(source.groups)
    aligned = (1,) * (rank - slope.ndim) + slope.shape
    varying = [axis for axis, size in enumerate(aligned) if size > 1]
    per_channel = len(aligned) == rank and (
        not varying or [source.groups[axis] for axis in varying] == [(C,)]
    )
    if not per_channel:
        general_prelu(state, node)
        return
    channels = source.size(C)
    if slope.size not in {1, channels}:
        raise node.refuse(f"slopes of shape {slope.shape} for {channels} channels")
    spread = np.broadcast_to(slope.reshape(-1), (channels,))
    alpha = state.use_constant(node.input(1), spread, node)
    arguments: dict[str, ArgumentValue] = {
        "activation": "PRELU",
        "activation_coefficient": 0.0,
        "has_data_format": 1,
    }
    state.emit(node, "Activation", (source.tensor, alpha), source.shape, source.groups, arguments)


@converts("HardSigmoid", to=("Activation", "Eltwise"))
def hard_sigmoid(state: Conversion, node: Node) -> None:
    """HardSigmoid: an activation on the CPU, max(0, min(1, a x + b)) on the GPU."""
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if not state.runs_on_gpu:
        more: dict[str, ArgumentValue] = {
            "activation": "HARDSIGMOID",
            "hardsigmoid_alpha": alpha,
            "hardsigmoid_beta": beta,
        }
        activate(state, node, more)
        return
    source = state.value(node)
    line = _line(state, node, source.tensor, alpha, beta)
    limits: dict[str, ArgumentValue] = {
        "activation": "RELUX",
        "max_limit": 1.0,
        "has_data_format": 1,
    }
    state.emit(node, "Activation", (line,), source.shape, source.groups, limits)


@converts("HardSwish", to=("Activation", "Eltwise"))
def hard_swish(state: Conversion, node: Node) -> None:
    """HardSwish: x max(0, min(1, x / 6 + 1 / 2)). MACE has no op of its own for it."""
    source = state.value(node)
    line = _line(state, node, source.tensor, 1 / 6, 0.5)
    limits: dict[str, ArgumentValue] = {
        "activation": "RELUX",
        "max_limit": 1.0,
        "has_data_format": 1,
    }
    gate = state.step(node, "gate", "Activation", (line,), source.shape, limits)
    product: dict[str, ArgumentValue] = {"type": int(EltwiseType.PROD), "has_data_format": 1}
    inputs = (source.tensor, gate)
    state.emit(node, "Eltwise", inputs, source.shape, source.groups, product)


def activate(state: Conversion, node: Node, arguments: Mapping[str, ArgumentValue]) -> None:
    """An activation: within the op before it where that can be, else an Activation."""
    if state.fuse(node, FUSES_ACTIVATION, arguments):
        return
    source = state.value(node)
    all_arguments = {**arguments, "has_data_format": 1}
    state.emit(node, "Activation", (source.tensor,), source.shape, source.groups, all_arguments)


def _line(state: Conversion, node: Node, tensor: str, slope: float, offset: float) -> str:
    """slope x + offset: a weighted sum with 1."""
    arguments: dict[str, ArgumentValue] = {
        **scalar_arguments(EltwiseType.SUM, 1.0),
        "coeff": (slope, offset),
    }
    shape = state.value(node).shape
    return state.step(node, "line", "Eltwise", (tensor,), shape, arguments)


def _bound(state: Conversion, node: Node, attribute: str, index: int, default: float) -> float:
    """A bound of a Clip: an attribute up to opset 10, an optional input after."""
    if attribute in node.attributes:
        return node.number(attribute, default)
    if not node.input(index):
        return default
    value = state.constant(node, index)
    if value.size != 1:
        raise node.refuse(f"its bound {node.input(index)!r} is not one number")
    return float(value.reshape(-1)[0])
