"""Folding what is constant into the weights before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.graph import Array, Graph, Node, Shape, fresh_name

Fold = Callable[[Graph, Node, Node, dict[str, Array]], Node | None]
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Ops that take in what follows them."""


def fold_pairs(graph: Graph, follower_types: frozenset[str], fold: Fold) -> Graph:
    """Merge each node of ``follower_types`` into the one it follows, where ``fold`` can.

    ``fold(graph, node, follower, constants)`` returns the merged node and adds its constants, or
    None. It is asked only where the follower is the node's only reader.
    """
    uses = graph.uses()
    constants = dict(graph.constants)
    # By output, in execution order. A merged node takes the place of the first of the two: what
    # the follower reads besides is constant, so the order still holds.
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        folded = None
        if node.op_type in follower_types:
            for name in node.inputs:
                if name in nodes and uses[name] == 1 and folded is None:
                    folded = fold(graph, nodes[name], node, constants)
                    if folded is not None:
                        nodes = {
                            folded.output if key == name else key: folded if key == name else value
                            for key, value in nodes.items()
                        }
        if folded is None:
            nodes[node.output] = node
    return replace(graph, nodes=tuple(nodes.values()), constants=constants)


def fold_affine(graph: Graph) -> Graph:
    """A node with weights, then a norm or arithmetic per channel: one node with other weights."""

    def fold(graph: Graph, node: Node, after: Node, constants: dict[str, Array]) -> Node | None:
        weights = constants.get(node.input(1))
        shape = graph.shapes.get(node.output)
        bias = constants.get(node.input(2)) if node.input(2) else None
        if node.op_type not in WEIGHTED or weights is None or shape is None:
            return None
        if node.input(2) and (bias is None or bias.shape[:-1] != (1,) * (bias.ndim - 1)):
            return None
        line = _line(after, node.output, shape, constants)
        if line is None:
            return None
        scale, shift = line
        attributes = dict(node.attributes)
        inputs = [*node.inputs, "", ""][:3]
        if not (scale == 1.0).all():
            inputs[1] = _owned(graph, node.input(1), after, constants)
            scaled = _scaled(node, weights.astype(np.float64), scale)
            constants[inputs[1]] = scaled.astype(np.float32)
        if bias is not None or shift.any() or after.op_type in {"Add", "BatchNormalization"}:
            inputs[2] = _bias_name(graph, node, after, constants)
            # beta scales the bias that was there, not the one that comes.
            beta = float(attributes.pop("beta", 1.0))
            old = 0.0 if bias is None else beta * bias.astype(np.float64).reshape(-1)
            total = np.broadcast_to(old * scale + shift, scale.shape)
            constants[inputs[2]] = total.astype(np.float32)
        return replace(
            node,
            # As MACE's converter names what it has folded.
            name=after.name if after.op_type == "Add" else node.name,
            inputs=tuple(inputs if inputs[2] else inputs[:2]),
            outputs=(after.output,),
            attributes=attributes,
        )

    return fold_pairs(graph, frozenset({"BatchNormalization", "Add", "Sub", "Mul", "Div"}), fold)


def _bias_name(graph: Graph, node: Node, after: Node, constants: Mapping[str, Array]) -> str:
    """As MACE's converter names the bias: the addend's, the one that was there, or a new one."""
    if after.op_type == "Add":
        addend = next(name for name in after.inputs if name != node.output)
        return _owned(graph, addend, after, constants)
    if node.input(2):
        return _owned(graph, node.input(2), after, constants)
    return _new_name(graph, f"{after.name}offset", constants)


def _line(
    node: Node, source: str, shape: Shape, constants: Mapping[str, Array]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What ``node`` makes of ``source`` as ``x * scale + shift`` per channel, or None."""
    channels = shape[1]
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type == "BatchNormalization":
        if node.attributes.get("training_mode", 0):
            raise node.refuse("it is in training mode", hint="export the model for inference")
        if node.input(0) != source:
            return None
        scale, shift = _scale_and_shift(node, constants)
        if scale.shape != (channels,):
            raise node.refuse(f"{scale.size} channels for {channels} of the node before it")
        return scale, shift
    first = node.input(0) == source
    operand = constants.get(node.input(1 if first else 0))
    if operand is None or len(node.inputs) != 2:
        return None
    # The constant must vary along the channels only, and not widen the result.
    aligned = (1,) * (len(shape) - operand.ndim) + operand.shape
    per_channel = len(aligned) == len(shape) and all(
        size == 1 for axis, size in enumerate(aligned) if axis != 1
    )
    if not per_channel or aligned[1] not in {1, channels}:
        return None
    values = np.broadcast_to(operand.reshape(-1), (channels,)).astype(np.float64)
    match node.op_type:
        case "Add":
            return ones, values
        case "Sub":
            return (ones, -values) if first else (-ones, values)
        case "Mul":
            return values, zeros
        case _:
            return (1 / values, zeros) if first and values.all() else None


def _scaled(
    node: Node, weights: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``weights`` with each output channel times its ``scale``."""
    if node.op_type == "Gemm":
        return weights * (scale[:, None] if node.integer("transB", 0) else scale)
    spatial = (1,) * (weights.ndim - 2)
    if node.op_type == "Conv":
        return weights * scale.reshape(-1, 1, *spatial)
    # (inputs, outputs of one group, h, w): the groups' inputs one after another.
    group = node.integer("group", 1)
    parts = weights.reshape(group, -1, *weights.shape[1:])
    return (parts * scale.reshape(group, 1, -1, *spatial)).reshape(weights.shape)


def _scale_and_shift(
    norm: Node, constants: Mapping[str, Array]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch normalization as ``x * scale + shift``, per channel."""
    gamma, beta, mean, variance = (_constant(norm, index, constants) for index in range(1, 5))
    # A negative variance gives NaN, which no weight may be.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + float(norm.attributes.get("epsilon", 1e-5)))
    return scale, beta - mean * scale


def matmul_to_gemm(graph: Graph) -> Graph:
    """A product of a matrix with constant weights is a Gemm without bias."""

    def convert(node: Node) -> Node:
        weights = graph.constants.get(node.input(1))
        rank = len(graph.shapes.get(node.input(0), ()))
        if node.op_type != "MatMul" or weights is None or weights.ndim != 2 or rank != 2:
            return node
        return replace(node, op_type="Gemm")

    return replace(graph, nodes=tuple(convert(node) for node in graph.nodes))


def _owned(graph: Graph, name: str, node: Node, constants: Mapping[str, Array]) -> str:
    """``name``, or one of ``node``'s own when others read that constant as it is."""
    if graph.uses()[name] == 1:
        return name
    return _new_name(graph, f"{node.name}_{name}", constants)


def _new_name(graph: Graph, wanted: str, constants: Mapping[str, Array]) -> str:
    """A name that neither the model nor a constant added since has, near ``wanted``."""
    return fresh_name(wanted, graph.tensor_names() | constants.keys())


def _constant(node: Node, index: int, constants: Mapping[str, Array]) -> NDArray[np.float64]:
    """Constant input ``index`` in double precision."""
    value = constants.get(node.input(index))
    if value is None:
        raise node.refuse(f"its input {index} ({node.input(index)!r}) is not a constant")
    return value.astype(np.float64)
