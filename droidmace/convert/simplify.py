"""Passes on the ONNX graph before it becomes MACE ops: each takes a graph and returns one.

They do what MACE's own converter does first (``tools/python/transform/transformer.py``): leave out
what has no effect, and fold what is constant into the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.graph import Array, Graph, Node, fresh_name

_CONSTANT_ATTRIBUTES = ("value", "value_float", "value_floats", "value_int", "value_ints")


def simplify(graph: Graph) -> Graph:
    """All passes, in the order in which they need each other."""
    for step in (
        _drop_unreachable,
        _lift_constants,
        _drop_identities,
        _fold_batch_norms,
        _matmul_to_gemm,
        _fold_bias_adds,
    ):
        graph = step(graph)
    return graph


def _drop_unreachable(graph: Graph) -> Graph:
    """Leave out what no output needs."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def _lift_constants(graph: Graph) -> Graph:
    """Turn Constant nodes into constants."""
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        if node.op_type != "Constant":
            nodes.append(node)
            continue
        value = next(
            (node.attributes[key] for key in _CONSTANT_ATTRIBUTES if key in node.attributes), None
        )
        if value is None:
            raise node.refuse("its value is neither a number nor a dense tensor")
        array = np.asarray(value)
        constants[node.output] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _drop_identities(graph: Graph) -> Graph:
    """Leave out Identity, and Dropout as it is at inference."""
    constants = dict(graph.constants)
    renamed: dict[str, str] = {}
    kept: list[Node] = []
    uses = graph.uses()
    for original in graph.nodes:
        node = _renamed(original, renamed)
        if node.op_type not in {"Identity", "Dropout"}:
            kept.append(node)
            continue
        if any(uses[name] for name in node.outputs[1:]):
            raise node.refuse("its mask is used", hint="export the model for inference")
        training = constants.get(node.input(2))
        if training is not None and bool(training.any()):
            raise node.refuse("it is in training mode", hint="export the model for inference")
        source = node.input(0)
        if node.output not in graph.outputs:
            renamed[node.output] = source
        elif source in graph.inputs or source in graph.outputs or source in constants:
            raise node.refuse(
                f"the output {node.output!r} is only another name of {source!r}",
                hint="declare one of the two",
            )
        else:
            # The output keeps its name: whoever wrote the source now writes the output.
            renamed = {old: node.output if new == source else new for old, new in renamed.items()}
            renamed[source] = node.output
            kept = [_renamed(earlier, renamed) for earlier in kept]
    return replace(graph, nodes=tuple(kept))


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(
        node,
        inputs=tuple(names.get(name, name) for name in node.inputs),
        outputs=tuple(names.get(name, name) for name in node.outputs),
    )


def _fold_pairs(
    graph: Graph,
    follower_type: str,
    fold: Callable[[Graph, Node, Node, dict[str, Array]], Node | None],
) -> Graph:
    """Merge each node of ``follower_type`` into the one it follows, where ``fold`` can.

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
        if node.op_type == follower_type:
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


def _fold_batch_norms(graph: Graph) -> Graph:
    """Conv then BatchNormalization: one Conv with scaled weights."""

    def fold(graph: Graph, conv: Node, norm: Node, constants: dict[str, Array]) -> Node | None:
        weights = constants.get(conv.input(1))
        if conv.op_type != "Conv" or weights is None or norm.input(0) != conv.output:
            return None
        if norm.attributes.get("training_mode", 0):
            raise norm.refuse("it is in training mode", hint="export the model for inference")
        scale, shift = _scale_and_shift(norm, constants)
        if scale.shape != (weights.shape[0],):
            raise norm.refuse(f"{scale.size} channels for {weights.shape[0]} of the convolution")
        weights_name = _owned(graph, conv.input(1), norm, constants)
        per_filter = scale.reshape(-1, *[1] * (weights.ndim - 1))
        folded = weights.astype(np.float64) * per_filter
        constants[weights_name] = folded.astype(np.float32)
        if conv.input(2):
            bias_name = _owned(graph, conv.input(2), norm, constants)
            shift = _constant(conv, 2, constants) * scale + shift
        else:
            # As MACE's converter names a new bias.
            bias_name = _new_name(graph, f"{norm.name}offset", constants)
        constants[bias_name] = shift.astype(np.float32)
        return replace(
            conv, inputs=(conv.input(0), weights_name, bias_name), outputs=(norm.output,)
        )

    return _fold_pairs(graph, "BatchNormalization", fold)


def _scale_and_shift(
    norm: Node, constants: Mapping[str, Array]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch normalization as ``x * scale + shift``, per channel."""
    gamma, beta, mean, variance = (_constant(norm, index, constants) for index in range(1, 5))
    # A negative variance gives NaN, which no weight may be.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + float(norm.attributes.get("epsilon", 1e-5)))
    return scale, beta - mean * scale


def _matmul_to_gemm(graph: Graph) -> Graph:
    """A product of a matrix with constant weights is a Gemm without bias."""

    def convert(node: Node) -> Node:
        weights = graph.constants.get(node.input(1))
        rank = len(graph.shapes.get(node.input(0), ()))
        if node.op_type != "MatMul" or weights is None or weights.ndim != 2 or rank != 2:
            return node
        return replace(node, op_type="Gemm")

    return replace(graph, nodes=tuple(convert(node) for node in graph.nodes))


def _fold_bias_adds(graph: Graph) -> Graph:
    """Conv or Gemm then Add of a constant per channel: a bias."""

    def fold(graph: Graph, node: Node, add: Node, constants: dict[str, Array]) -> Node | None:
        if node.op_type not in {"Conv", "Gemm"}:
            return None
        addend_name = next((name for name in add.inputs if name != node.output), "")
        addend = constants.get(addend_name)
        shape = graph.shapes.get(node.output)
        if addend is None or shape is None or constants.get(node.input(1)) is None:
            return None
        channels = shape[1]
        # The constant must vary along the channels only, and not widen the result.
        aligned = (1,) * (len(shape) - addend.ndim) + addend.shape
        per_channel = len(aligned) == len(shape) and all(
            size == 1 for axis, size in enumerate(aligned) if axis != 1
        )
        if not per_channel or aligned[1] not in {1, channels}:
            return None
        bias: NDArray[Any] = np.broadcast_to(addend.reshape(-1), (channels,)).astype(np.float64)
        # It scales the bias that was there, not the one that comes.
        attributes = dict(node.attributes)
        beta = float(attributes.pop("beta", 1.0))
        if node.input(2):
            bias = bias + beta * _constant(node, 2, constants)
        name = _owned(graph, addend_name, add, constants)
        constants[name] = bias.astype(np.float32)
        return replace(
            node,
            name=add.name,
            inputs=(node.input(0), node.input(1), name),
            outputs=(add.output,),
            attributes=attributes,
        )

    return _fold_pairs(graph, "Add", fold)


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
