"""Leaving out what has no effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from droidmace.convert.graph import Graph, Node

_CONSTANT_ATTRIBUTES = ("value", "value_float", "value_floats", "value_int", "value_ints")
_FLOAT_TYPES = frozenset({1, 10, 11})
"""``TensorProto.DataType`` of float32, float16 and float64: all of them become floats here."""


def drop_unreachable(graph: Graph) -> Graph:
    """Leave out what no output needs."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def lift_constants(graph: Graph) -> Graph:
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


def drop_identities(graph: Graph) -> Graph:
    """Leave out Identity, Dropout as it is at inference, and casts to a float.

    One that writes an output stays: the output needs its name.
    """
    renamed: dict[str, str] = {}
    kept: list[Node] = []
    uses = graph.uses()
    for original in graph.nodes:
        node = _renamed(original, renamed)
        if not _is_identity(graph, node):
            kept.append(node)
            continue
        if any(uses[name] for name in node.outputs[1:]):
            raise node.refuse("its mask is used", hint="export the model for inference")
        if node.output in graph.outputs:
            kept.append(node)
        else:
            renamed[node.output] = node.input(0)
    return replace(graph, nodes=tuple(kept))


def _is_identity(graph: Graph, node: Node) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Cast":
        computed = node.input(0) not in graph.constants
        return computed and node.integer("to", 0) in _FLOAT_TYPES
    if node.op_type != "Dropout":
        return False
    training = graph.constants.get(node.input(2))
    if training is not None and bool(training.any()):
        raise node.refuse("it is in training mode", hint="export the model for inference")
    return True


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
