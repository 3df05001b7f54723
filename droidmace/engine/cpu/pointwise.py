"""Ops that work value by value: Eltwise, AddN, BiasAdd, Where, Cast …"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from droidmace.engine.array_shapes import eltwise_shape
from droidmace.engine.attributes import unsupported
from droidmace.engine.cpu.base import FLOAT, INT, Array, CpuContext, per_channel
from droidmace.formats.netdef import DataType, OperatorDef
from droidmace.formats.op_types import EltwiseType

_EQUAL, _NOT_EQUAL = 10, 15
"""The eltwise types that only the CPU has."""


def eltwise(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Eltwise: of two tensors, or of one and ``scalar_input``, which comes first if
    ``scalar_input_index`` is 0. Comparisons give int32."""
    kind = op.int_arg("type", -1)
    known = kind in _UNARY or kind in _BINARY or kind == EltwiseType.CLIP
    if not known or not 1 <= len(inputs) <= 2:
        raise unsupported(op, f"eltwise type {kind} of {len(inputs)} inputs")
    shapes = [value.shape for value in inputs]
    operands = [value.reshape(eltwise_shape(value.shape, shapes, op)) for value in inputs]
    coefficients = op.floats_arg("coeff")
    if kind == EltwiseType.CLIP:
        if len(coefficients) != 2 or not coefficients[0] < coefficients[1]:
            raise unsupported(op, f"limits {list(coefficients)}")
        return [np.clip(inputs[0], *np.array(coefficients, inputs[0].dtype))]
    if kind in _UNARY:
        return [_UNARY[kind](inputs[0])]
    if len(operands) == 1:
        scalar = np.array(op.float_arg("scalar_input", 1.0)).astype(inputs[0].dtype)
        operands.insert(0 if op.int_arg("scalar_input_index", 1) == 0 else 1, scalar)
    a, b = operands
    if kind == EltwiseType.SUM and coefficients:
        if len(coefficients) != 2:
            raise unsupported(op, f"{len(coefficients)} coefficients")
        return [a * FLOAT(coefficients[0]) + b * FLOAT(coefficients[1])]
    result = _BINARY[kind](a, b)
    return [result.astype(INT if result.dtype == np.bool_ else a.dtype, copy=False)]


def _divide(a: Array, b: Array) -> Array:
    # integers as in C: towards zero
    return np.trunc(a / b) if a.dtype.kind == "i" else a / b


_UNARY: dict[int, Callable[[Array], Array]] = {
    EltwiseType.NEG: np.negative,
    EltwiseType.ABS: np.abs,
    EltwiseType.SIGN: np.sign,
}
_BINARY: dict[int, Callable[[Array, Array], Array]] = {
    EltwiseType.SUM: np.add,
    EltwiseType.SUB: np.subtract,
    EltwiseType.PROD: np.multiply,
    EltwiseType.DIV: _divide,
    EltwiseType.MIN: np.minimum,
    EltwiseType.MAX: np.maximum,
    EltwiseType.SQR_DIFF: lambda a, b: np.square(a - b),
    EltwiseType.POW: np.power,
    _EQUAL: np.equal,
    EltwiseType.FLOOR_DIV: lambda a, b: np.floor(a / b),
    _NOT_EQUAL: np.not_equal,
}


def add_n(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """AddN: the sum of all inputs."""
    total = np.array(inputs[0])
    for value in inputs[1:]:
        total = total + value
    return [total]


def bias_add(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """BiasAdd: a value per channel, or per image and channel (Caffe)."""
    x, bias = inputs[0], inputs[1]
    if bias.ndim == 2 and x.ndim == 4 and bias.shape[0] == x.shape[0]:
        wide = (bias.shape[0], bias.shape[1], 1, 1) if context.nchw else (*bias.shape[:1], 1, 1, -1)
        return [x + bias.reshape(wide)]
    return [x + per_channel(bias.reshape(-1), x, context)]


def where(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Where and Select: the second input's value where the first is not 0, else the third's.

    Select's condition may lack trailing axes.
    """
    condition, x, y = inputs
    if op.type == "Select":
        condition = condition.reshape(*condition.shape, *(1,) * (x.ndim - condition.ndim))
    return [np.where(condition != 0, x, y)]


def cast(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Cast to the op's first ``output_type``; without one, to float."""
    wanted = op.output_types[0] if op.output_types else DataType.DT_FLOAT
    integral = wanted in (DataType.DT_INT32, DataType.DT_BOOL)
    if wanted == DataType.DT_BOOL:
        return [(inputs[0] != 0).astype(INT)]
    return [inputs[0].astype(INT if integral else FLOAT)]


def identity(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Identity."""
    return [inputs[0]]
