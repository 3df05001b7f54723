"""Matrix products: fully connected layers, and products of two tensors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, Layout, N, Value, W
from droidmace.convert.lowering.arithmetic import Constant, combine, scalar_arguments
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue
from droidmace.formats.op_types import EltwiseType


@converts("Gemm", to=("FullyConnected", "MatMul"), limits=("a bias that is computed",))
def gemm(state: Conversion, node: Node) -> None:
    """Gemm: FullyConnected with constant weights, a MatMul with others.

    For ``Flatten + Gemm`` MACE writes Reshape and MatMul, which its GPU runtime does not take, so
    the net's tail falls back to the CPU. A FullyConnected that reads the image does the same.
    """
    if state.is_computed(node, 1):
        _computed_gemm(state, node)
        return
    source = state.value(node)
    if node.integer("transA", 0):
        source = source.regrouped(source.groups[::-1])
    weights = state.constant(node, 1)
    if not node.integer("transB", 0):
        weights = weights.T
    scaled = weights * np.float32(node.number("alpha", 1.0))
    beta = node.number("beta", 1.0)
    bias_shape = state.constant(node, 2).shape if node.input(2) else ()
    if bias_shape[:-1] != (1,) * (len(bias_shape) - 1):
        product = fully_connected(state, node, source, scaled, (), last=False)
        addend = Constant(node.input(2), state.constant(node, 2) * np.float32(beta))
        combine(state, node, EltwiseType.SUM, product, addend, last=True)
        return
    fully_connected(state, node, source, scaled, state.bias(node, weights.shape[0], beta))


@converts("MatMul", to=("FullyConnected", "Conv2D", "MatMul"), limits=("vectors",))
def matmul(state: Conversion, node: Node) -> None:
    """MatMul: with constant weights FullyConnected, or a convolution of one pixel where the summed
    axis is the channels; else a MatMul, which MACE runs on the CPU.
    """
    if not state.is_computed(node, 0):
        # A constant from the left: (A B)ᵀ = Bᵀ Aᵀ, and turning round costs nothing.
        _constant_from_the_left(state, node)
        return
    source = state.value(node)
    if state.is_computed(node, 1):
        _product(state, node, source, state.value(node, 1))
        return
    weights = state.constant(node, 1)
    if weights.ndim > 2 and weights.size == math.prod(weights.shape[-2:]):
        weights = weights.reshape(weights.shape[-2:])
    if weights.ndim != 2 or len(source.groups) < 2:
        raise node.refuse(f"a product of {source.onnx_shape} and a constant {weights.shape}")
    if len(source.groups) == 2:
        fully_connected(state, node, source, weights.T, ())
    else:
        _along_last(state, node, source, weights)


def fully_connected(
    state: Conversion,
    node: Node,
    source: Value,
    weights: NDArray[np.float32],
    bias: tuple[str, ...],
    *,
    last: bool = True,
) -> Value:
    """A matrix times constant ``weights`` (outputs, inputs); ``node``'s result if ``last``."""
    outputs, inputs = weights.shape
    batch, summed = source.groups
    if source.onnx_shape[1] != inputs:
        raise node.refuse(f"weights for {inputs} values, the input has {source.onnx_shape}")
    if any(axis != N for axis in batch) or N in summed:
        source = state.arrange(node, source, Layout.at(source.onnx_shape, (N, C)))
        summed = source.groups[1]
    # Columns in the order in which ONNX runs through the image, then as an OIHW filter lies.
    columns = weights.reshape(outputs, *(source.size(axis) for axis in summed))
    laid_out = columns.transpose(0, *(1 + place for place in np.argsort(summed)))
    filters = laid_out.reshape(outputs, source.size(C), source.size(H), source.size(W))
    name = state.use_constant(node.input(1), filters, node)
    rows = source.size(N)
    shape, groups = (rows, 1, 1, outputs), Layout.at((rows, outputs), (N, C)).groups
    reads, work = (source.tensor, name, *bias), rows * outputs * inputs
    if last:
        state.emit(node, "FullyConnected", reads, shape, groups, multiply_adds=work)
        return state.values[node.output]
    return Value(
        state.step(node, "product", "FullyConnected", reads, shape, multiply_adds=work),
        shape,
        groups,
    )


def _along_last(state: Conversion, node: Node, source: Value, weights: NDArray[np.float32]) -> None:
    """Weights (inputs, outputs) along the last axis of a tensor of any rank."""
    inputs, outputs = weights.shape
    if source.onnx_shape[-1] != inputs:
        raise node.refuse(f"weights for {inputs} values, the input has {source.onnx_shape}")
    work = math.prod(source.shape) * outputs
    batch, height, width, _ = source.shape
    if source.groups[-1] in {(C,), ()} and C not in [a for g in source.groups[:-1] for a in g]:
        filters = np.ascontiguousarray(weights.T).reshape(outputs, inputs, 1, 1)
        name = state.use_constant(node.input(1), filters, node)
        groups = (*source.groups[:-1], (C,) if outputs > 1 else ())
        arguments: dict[str, ArgumentValue] = {
            "strides": (1, 1),
            "kernels": (1, 1),
            "padding_values": (0, 0),
            "group": 1,
            "dilations": (1, 1),
        }
        inputs_of_op = (source.tensor, name)
        shape = (batch, height, width, outputs)
        state.emit(node, "Conv2D", inputs_of_op, shape, groups, arguments, multiply_adds=work)
        return
    source = _as_matrices(state, node, source, len(source.groups))
    name = state.use_constant(node.input(1), weights, node)
    _emit_product(state, node, source, (source.tensor, name), (source.size(H), outputs), work)


def _constant_from_the_left(state: Conversion, node: Node) -> None:
    weights = state.constant(node, 0)
    source = state.value(node, 1)
    if weights.ndim != 2 or len(source.groups) != 2:
        raise node.refuse(
            f"a constant {weights.shape} times {source.onnx_shape}",
            hint="let the constant be the second input, or a matrix",
        )
    turned = source.regrouped(source.groups[::-1])
    batch, summed = turned.groups
    if any(axis != N for axis in batch) or N in summed:
        turned = state.arrange(node, turned, Layout.at(turned.onnx_shape, (N, C)))
    outputs, inputs = weights.shape
    columns = turned.onnx_shape[0]
    layout = [turned.size(axis) for axis in turned.groups[1]]
    filters = weights.reshape(outputs, *layout)
    filters = filters.transpose(0, *(1 + place for place in np.argsort(turned.groups[1])))
    filters = filters.reshape(outputs, turned.size(C), turned.size(H), turned.size(W))
    name = state.use_constant(node.input(0), filters, node)
    place = Layout.at((columns, outputs), (N, C)).groups
    state.emit(
        node,
        "FullyConnected",
        (turned.tensor, name),
        (columns, 1, 1, outputs),
        place[::-1],
        multiply_adds=outputs * inputs * columns,
    )


def _computed_gemm(state: Conversion, node: Node) -> None:
    left, right = state.value(node, 0), state.value(node, 1)
    if node.integer("transA", 0):
        left = left.regrouped(left.groups[::-1])
    if node.integer("transB", 0):
        right = right.regrouped(right.groups[::-1])
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    has_bias = bool(node.input(2))
    if alpha == 1.0 and not has_bias:
        _product(state, node, left, right)
        return
    left, right = _as_matrices(state, node, left, 2), _as_matrices(state, node, right, 2)
    rows, columns = left.size(H), right.size(W)
    shape = (1, rows, columns, 1)
    inputs = (left.tensor, right.tensor)
    product = state.step(node, "product", "MatMul", inputs, shape, _PLAIN_PRODUCT)
    result = Value(product, shape, Layout.at((rows, columns), (H, W)).groups)
    if alpha != 1.0:
        arguments = scalar_arguments(EltwiseType.PROD, alpha)
        if not has_bias:
            state.emit(node, "Eltwise", (result.tensor,), shape, result.groups, arguments)
            return
        tensor = state.step(node, "scaled", "Eltwise", (result.tensor,), shape, arguments)
        result = Value(tensor, shape, result.groups)
    if state.is_computed(node, 2):
        raise node.refuse("its bias is computed", hint="add it with an Add node")
    combine(
        state,
        node,
        EltwiseType.SUM,
        result,
        Constant(node.input(2), state.constant(node, 2) * np.float32(beta)),
        last=True,
    )


_PLAIN_PRODUCT: dict[str, ArgumentValue] = {"transpose_a": 0, "transpose_b": 0}


def _product(state: Conversion, node: Node, left: Value, right: Value) -> None:
    """A product of two computed tensors, matrix by matrix."""
    rank = max(len(left.groups), len(right.groups))
    if min(len(left.groups), len(right.groups)) < 2:
        raise node.refuse("one of its inputs is a vector", hint="unsqueeze it to a matrix")
    if rank > 4:
        raise node.refuse(f"tensors of {rank} axes; MACE's have four")
    shapes = [(1,) * (4 - len(v.groups)) + v.onnx_shape for v in (left, right)]
    if shapes[0][:2] != shapes[1][:2]:
        raise node.refuse(
            f"{left.onnx_shape} times {right.onnx_shape}: MACE multiplies as many matrices by as "
            "many",
            hint="expand the smaller of the two first",
        )
    left, right = _as_matrices(state, node, left, rank), _as_matrices(state, node, right, rank)
    rows, columns = left.size(H), right.size(W)
    work = math.prod(left.shape) * columns
    _emit_product(state, node, left, (left.tensor, right.tensor), (rows, columns), work)


def _as_matrices(state: Conversion, node: Node, value: Value, rank: int) -> Value:
    """``value`` with its last two axes at (h, w), where MACE's MatMul multiplies."""
    value = value.regrouped(((),) * (rank - len(value.groups)) + value.groups)
    if len(value.groups) > 4:
        raise node.refuse(f"a tensor of {len(value.groups)} axes; MACE's have four")
    places = (N, H, W) if len(value.groups) == 3 else (N, C, H, W)[-len(value.groups) :]
    return state.arrange(node, value, Layout.at(value.onnx_shape, places))


def _emit_product(
    state: Conversion,
    node: Node,
    left: Value,
    inputs: tuple[str, str],
    matrix: tuple[int, int],
    work: int,
) -> None:
    rows, columns = matrix
    shape = (left.size(N), rows, columns, left.size(C))
    expected = state.graph.shapes.get(node.output)
    rank = len(expected) if expected is not None else len(left.groups)
    sizes = (left.size(N), left.size(C), rows, columns)
    if rank == 3:
        layout = Layout.at((sizes[0], rows, columns), (N, H, W))
    else:
        layout = Layout.at(sizes[-rank:], (N, C, H, W)[-rank:])
    state.emit(node, "MatMul", inputs, shape, layout.groups, _PLAIN_PRODUCT, multiply_adds=work)
