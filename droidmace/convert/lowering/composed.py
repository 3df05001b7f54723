"""Functions that MACE has no op for, of ops that it has."""

from __future__ import annotations

import math

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import Value
from droidmace.convert.lowering.arithmetic import Constant, combine, scalar_arguments
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue
from droidmace.formats.op_types import EltwiseType

_MISH_LIMIT = 20.0
"""Above it tanh(softplus(x)) is 1 in single precision, and exp(x) squared still a number."""


class _Steps:
    """Ops one after another on tensors of one place."""

    def __init__(self, state: Conversion, node: Node) -> None:
        self.state, self.node = state, node

    def scalar(self, kind: EltwiseType, source: Value, number: float, index: int = 1) -> Value:
        """``source`` and a number."""
        return self.op("Eltwise", scalar_arguments(kind, number, index), source)

    def both(self, kind: EltwiseType, left: Value, right: Value | Constant) -> Value:
        """Two tensors, or one and a constant."""
        return combine(self.state, self.node, kind, left, right, last=False)

    def activation(self, kind: str, source: Value, coefficient: float = 0.0) -> Value:
        """An activation."""
        arguments: dict[str, ArgumentValue] = {
            "activation": kind,
            "activation_coefficient": coefficient,
            "has_data_format": 1,
        }
        return self.op("Activation", arguments, source)

    def op(self, kind: str, arguments: dict[str, ArgumentValue], source: Value) -> Value:
        """An op of one tensor."""
        inputs = (source.tensor,)
        tensor = self.state.step(self.node, "step", kind, inputs, source.shape, arguments)
        return Value(tensor, source.shape, source.groups)

    def last(self, kind: EltwiseType, left: Value, right: Value | float) -> None:
        """The node's result."""
        if isinstance(right, Value):
            combine(self.state, self.node, kind, left, right, last=True)
            return
        arguments = scalar_arguments(kind, right)
        inputs = (left.tensor,)
        self.state.emit(self.node, "Eltwise", inputs, left.shape, left.groups, arguments)


@converts("Ceil", to=("Eltwise",))
def ceil(state: Conversion, node: Node) -> None:
    """Ceil: what is below -x, turned round."""
    steps = _Steps(state, node)
    lower = steps.scalar(EltwiseType.FLOOR_DIV, state.value(node), -1.0)
    steps.last(EltwiseType.PROD, lower, -1.0)


@converts("Celu", to=("Activation", "Eltwise"))
def celu(state: Conversion, node: Node) -> None:
    """Celu: a scaled Elu of a scaled input."""
    alpha = node.number("alpha", 1.0)
    if not alpha > 0:  # NaN included
        raise node.refuse(f"its alpha is {alpha:g}; only a positive one is an Elu")
    steps = _Steps(state, node)
    inner = steps.scalar(EltwiseType.PROD, state.value(node), 1 / alpha)
    steps.last(EltwiseType.PROD, steps.activation("ELU", inner, 1.0), alpha)


@converts("Gelu", to=("Activation", "Eltwise"), limits=("approximate='none'",))
def gelu(state: Conversion, node: Node) -> None:
    """Gelu by tanh: x / 2 (1 + tanh(a (x + b x³)))."""
    if node.text("approximate", "none") != "tanh":
        raise node.refuse(
            "it needs the error function, which MACE has not",
            hint="export GELU with approximate='tanh'",
        )
    x, steps = state.value(node), _Steps(state, node)
    factor = math.sqrt(2 / math.pi)
    line = steps.scalar(EltwiseType.SUM, steps.both(EltwiseType.PROD, x, x), 1 / 0.044715)
    inner = steps.scalar(EltwiseType.PROD, steps.both(EltwiseType.PROD, x, line), 0.044715 * factor)
    gate = steps.scalar(EltwiseType.SUM, steps.activation("TANH", inner), 1.0)
    steps.last(EltwiseType.PROD, steps.both(EltwiseType.PROD, x, gate), 0.5)


@converts("Mish", to=("Eltwise",))
def mish(state: Conversion, node: Node) -> None:
    """Mish: x n / (n + 2) with n = e^x (e^x + 2), which needs no logarithm."""
    x, steps = state.value(node), _Steps(state, node)
    bounded = steps.scalar(EltwiseType.MIN, x, _MISH_LIMIT)
    power = steps.scalar(EltwiseType.POW, bounded, math.e, 0)
    above = steps.both(EltwiseType.PROD, power, steps.scalar(EltwiseType.SUM, power, 2.0))
    gate = steps.both(EltwiseType.DIV, above, steps.scalar(EltwiseType.SUM, above, 2.0))
    steps.last(EltwiseType.PROD, x, gate)


def general_prelu(state: Conversion, node: Node) -> None:
    """PRelu with slopes of any shape: max(x, 0) + slope min(x, 0)."""
    x, steps = state.value(node), _Steps(state, node)
    below = steps.scalar(EltwiseType.MIN, x, 0.0)
    scaled = steps.both(EltwiseType.PROD, below, Constant.of(state, node, 1))
    steps.last(EltwiseType.SUM, steps.activation("RELU", x), scaled)
