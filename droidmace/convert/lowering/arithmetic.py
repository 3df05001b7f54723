"""Element by element: arithmetic with tensors, scalars and constants, and what broadcasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node, Shape
from droidmace.convert.layout import C, H, Layout, N, Value, W, nchw, nhwc
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue
from droidmace.formats.op_types import EltwiseType

BINARY = {
    "Add": EltwiseType.SUM,
    "Sub": EltwiseType.SUB,
    "Mul": EltwiseType.PROD,
    "Div": EltwiseType.DIV,
    "Pow": EltwiseType.POW,
    "Min": EltwiseType.MIN,
    "Max": EltwiseType.MAX,
    "Sum": EltwiseType.SUM,
    "Mean": EltwiseType.SUM,
}
UNARY = {"Abs": EltwiseType.ABS, "Neg": EltwiseType.NEG, "Sign": EltwiseType.SIGN}
POWERS = {"Sqrt": 0.5, "Reciprocal": -1.0}


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant operand, by the name under which it is stored."""

    name: str
    values: NDArray[np.float32]

    @classmethod
    def of(cls, state: Conversion, node: Node, index: int) -> Constant:
        """Input ``index`` of ``node``."""
        return cls(node.input(index), state.constant(node, index))


def scalar_arguments(
    eltwise: EltwiseType, number: float, index: int = 1
) -> dict[str, ArgumentValue]:
    """Arguments of an Eltwise whose input ``index`` is ``number``."""
    return {
        "type": int(eltwise),
        "scalar_input": float(number),
        "scalar_input_index": index,
        "has_data_format": 1,
    }


@converts(*UNARY, to=("Eltwise",))
def unary(state: Conversion, node: Node) -> None:
    """Abs, Neg, Sign."""
    source = state.value(node)
    arguments: dict[str, ArgumentValue] = {"type": int(UNARY[node.op_type]), "has_data_format": 1}
    state.emit(node, "Eltwise", (source.tensor,), source.shape, source.groups, arguments)


@converts(*POWERS, to=("Eltwise",))
def power(state: Conversion, node: Node) -> None:
    """Sqrt and Reciprocal: powers."""
    source = state.value(node)
    arguments = scalar_arguments(EltwiseType.POW, POWERS[node.op_type])
    state.emit(node, "Eltwise", (source.tensor,), source.shape, source.groups, arguments)


@converts("Exp", to=("Eltwise",))
def exp(state: Conversion, node: Node) -> None:
    """Exp: a power of e, the scalar being the first input."""
    source = state.value(node)
    arguments = scalar_arguments(EltwiseType.POW, math.e, 0)
    state.emit(node, "Eltwise", (source.tensor,), source.shape, source.groups, arguments)


@converts("Floor", to=("Eltwise",))
def floor(state: Conversion, node: Node) -> None:
    """Floor: divide by 1 and round down."""
    source = state.value(node)
    arguments = scalar_arguments(EltwiseType.FLOOR_DIV, 1.0)
    state.emit(node, "Eltwise", (source.tensor,), source.shape, source.groups, arguments)


@converts(*BINARY, to=("Eltwise",))
def binary(state: Conversion, node: Node) -> None:
    """Arithmetic with any number of inputs, from the left; a Mean is a Sum, divided."""
    eltwise = BINARY[node.op_type]
    count = len(node.inputs)
    if count == 1:
        state.settle(node, state.value(node))
        return
    operands: list[Value | Constant] = [
        state.value(node, i) if state.is_computed(node, i) else Constant.of(state, node, i)
        for i in range(count)
    ]
    left = operands[0]
    for number, right in enumerate(operands[1:], start=2):
        if isinstance(left, Constant) and isinstance(right, Constant):
            left = _of_constants(eltwise, left, right)
        else:
            last = number == count and node.op_type != "Mean"
            left = combine(state, node, eltwise, left, right, last=last)
    if isinstance(left, Constant):
        raise node.refuse("all of its inputs are constants")
    if node.op_type == "Mean":
        arguments = scalar_arguments(EltwiseType.PROD, 1 / count)
        state.emit(node, "Eltwise", (left.tensor,), left.shape, left.groups, arguments)


def _of_constants(eltwise: EltwiseType, left: Constant, right: Constant) -> Constant:
    operation = {
        EltwiseType.SUM: np.add,
        EltwiseType.MIN: np.minimum,
        EltwiseType.MAX: np.maximum,
    }[eltwise]
    values = operation(left.values, right.values)
    return Constant(f"{left.name}_{right.name}", np.asarray(values, np.float32))


def combine(
    state: Conversion,
    node: Node,
    eltwise: EltwiseType,
    left: Value | Constant,
    right: Value | Constant,
    *,
    last: bool,
) -> Value:
    """One Eltwise of two, at most one of them a constant; the ``last`` is ``node``'s result."""
    arguments: dict[str, ArgumentValue] = {"type": int(eltwise), "has_data_format": 1}
    if isinstance(left, Value) and isinstance(right, Value):
        base, left_tensor, right_tensor = _of_tensors(state, node, left, right)
        inputs: tuple[str, ...] = (left_tensor, right_tensor)
    else:
        index, constant = (0, left) if isinstance(left, Constant) else (1, right)
        source = right if index == 0 else left
        if not isinstance(source, Value) or not isinstance(constant, Constant):
            raise node.refuse("all of its inputs are constants")
        base = _widened(state, node, source, constant.values.shape)
        if constant.values.size == 1:
            number = float(constant.values.reshape(-1)[0])
            arguments = scalar_arguments(eltwise, number, index)
            inputs = (base.tensor,)
        else:
            name = _constant_operand(state, node, base, constant)
            inputs = (name, base.tensor) if index == 0 else (base.tensor, name)
    if last:
        state.emit(node, "Eltwise", inputs, base.shape, base.groups, arguments)
        return state.values[node.output]
    tensor = state.step(node, "partial", "Eltwise", inputs, base.shape, arguments)
    return Value(tensor, base.shape, base.groups)


def _widened(state: Conversion, node: Node, base: Value, constant: Shape) -> Value:
    """``base`` with the rank of the result; a constant may only add axes of size 1."""
    try:
        shape = np.broadcast_shapes(base.onnx_shape, constant)
    except ValueError as exc:
        raise node.refuse(f"{base.onnx_shape} and {constant} do not go together") from exc
    widened = base.reshaped(tuple(shape))
    if widened is None:
        base = state.plain(node, base)
        return expand(state, node, base, tuple(shape))
    return widened


def _of_tensors(state: Conversion, node: Node, left: Value, right: Value) -> tuple[Value, str, str]:
    """The operand that has the result's shape, and both operands' tensors, side by side."""
    shape = tuple(np.broadcast_shapes(left.onnx_shape, right.onnx_shape))
    rank = len(shape)
    padded = [
        value.regrouped(((),) * (rank - len(value.groups)) + value.groups)
        for value in (left, right)
    ]
    whole = [value.onnx_shape == shape for value in padded]
    if not any(whole):
        padded[0] = expand(state, node, padded[0], shape)
        whole[0] = True
    first = 0 if whole[0] else 1
    base, other = padded[first], padded[1 - first]
    other = _beside(state, node, base, other)
    if not _broadcasts(state, base, other):
        other = expand(state, node, other, shape)
        other = state.arrange(node, other, Layout.of(base))
    ordered = (base, other) if first == 0 else (other, base)
    return base, ordered[0].tensor, ordered[1].tensor


def _beside(state: Conversion, node: Node, base: Value, other: Value) -> Value:
    """``other`` with its axes where ``base`` has them."""
    sizes = [1, 1, 1, 1]
    groups = []
    for size, group in zip(other.onnx_shape, base.groups, strict=True):
        groups.append(group if size > 1 else ())
        for axis in groups[-1]:
            sizes[axis] = base.size(axis)
    return state.arrange(node, other, Layout(tuple(groups), tuple(sizes)))


def _broadcasts(state: Conversion, base: Value, other: Value) -> bool:
    """Whether MACE's Eltwise widens ``other`` to ``base``.

    Its GPU kernel takes one value per channel, per channel and batch, or per pixel.
    """
    if other.shape == base.shape or not state.runs_on_gpu:
        return True
    same = [
        mine == theirs for mine, theirs in zip(nchw(other.shape), nchw(base.shape), strict=True)
    ]
    pixel = other.size(H) == other.size(W) == 1
    per_channel = same[C] and pixel and other.size(N) == 1
    per_batch = same[C] and pixel and same[N]
    # One value in all is a vector of channels to it, and one too short.
    single = math.prod(other.shape) == 1
    per_pixel = other.size(C) == 1 and same[N] and same[H] and same[W] and not single
    return per_channel or per_batch or per_pixel


def expand(state: Conversion, node: Node, value: Value, shape: Shape) -> Value:
    """``value`` repeated to the ONNX shape ``shape``: a Tile, which MACE runs on the CPU."""
    rank = len(shape)
    value = value.regrouped(((),) * (rank - len(value.groups)) + value.groups)
    if value.onnx_shape == shape:
        return value
    layout = Layout.plain(shape)
    if layout is None:
        raise node.refuse(f"{shape} has too many axes; MACE's tensors have four")
    sizes = [1, 1, 1, 1]
    for size, group in zip(value.onnx_shape, layout.groups, strict=True):
        if size > 1:
            sizes[group[0]] = size
    groups = tuple(
        group if size > 1 else ()
        for size, group in zip(value.onnx_shape, layout.groups, strict=True)
    )
    value = state.arrange(node, value, Layout(groups, tuple(sizes)))
    return tile(state, node, value, layout)


def tile(state: Conversion, node: Node, value: Value, layout: Layout) -> Value:
    """``value`` repeated along MACE's axes to fill ``layout``."""
    shape = nhwc(layout.sizes)
    multiples = tuple(to // size for to, size in zip(shape, value.shape, strict=True))
    constant = state.new_constant(node, "multiples", np.array(multiples, np.int32))
    inputs = (value.tensor, constant)
    tensor = state.step(node, "tiled", "Tile", inputs, shape, {"has_data_format": 1})
    return Value(tensor, shape, layout.groups)


def _constant_operand(state: Conversion, node: Node, base: Value, constant: Constant) -> str:
    """A constant as MACE's Eltwise takes it beside ``base``.

    One value per channel, which both runtimes take as a vector; or every value, in the order that
    the runtime has: MACE does not turn constants round.
    """
    rank, array, name = len(base.groups), constant.values, constant.name
    aligned = array.reshape((1,) * (rank - array.ndim) + array.shape)
    # Each ONNX axis into the MACE axes that it consists of, then those into (n, c, h, w).
    split: list[int] = []
    for size, group in zip(aligned.shape, base.groups, strict=True):
        split += [base.size(axis) if size > 1 else 1 for axis in group]
    order = base.order
    placed = aligned.reshape(split).transpose(np.argsort(order)) if order else aligned
    sizes = [1, 1, 1, 1]
    for axis, size in zip(sorted(order), placed.shape, strict=True):
        sizes[axis] = size
    placed = placed.reshape(sizes)
    if placed.size == placed.shape[C]:
        return state.use_constant(name, placed.reshape(-1), node)
    whole = np.broadcast_to(placed, nchw(base.shape))
    return state.use_constant(
        name, whole.transpose(0, 2, 3, 1) if state.runs_on_gpu else whole, node
    )
