"""Recognising what an export has taken apart, and pads that a window can take in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from droidmace.convert.graph import Array, Graph, Node
from droidmace.convert.passes.weights import fold_pairs

_SHUFFLES = ((0, 2, 1, 3, 4), (0, 2, 1, 3))


def find_hard_sigmoids(graph: Graph) -> Graph:
    """Clip(x + 3, 0, 6) / 6: a HardSigmoid. PyTorch writes so below opset 14."""

    def clip_of_sum(
        graph: Graph, add: Node, clip: Node, constants: dict[str, Array]
    ) -> Node | None:
        number = _scalar(add, constants)
        bounds = _bounds(clip, constants)
        if add.op_type != "Add" or number is None or bounds is None or bounds[0] != 0.0:
            return None
        source = next((name for name in add.inputs if name not in constants), "")
        if source == "" or add.output in graph.outputs:
            return None
        attributes = {"offset": number, "high": bounds[1]}
        return Node(clip.name, "_ShiftedClip", (source,), clip.outputs, attributes)

    def divided(graph: Graph, clip: Node, after: Node, constants: dict[str, Array]) -> Node | None:
        number = _scalar(after, constants)
        if clip.op_type != "_ShiftedClip" or number is None or number == 0.0:
            return None
        if after.op_type == "Div" and after.input(0) != clip.output:
            return None
        factor = 1 / number if after.op_type == "Div" else number
        high = clip.number("high", 0.0)
        if not np.isclose(high * factor, 1.0, rtol=1e-6):
            return None
        attributes = {"alpha": factor, "beta": clip.number("offset", 0.0) * factor}
        return Node(after.name, "HardSigmoid", clip.inputs, after.outputs, attributes)

    found = fold_pairs(graph, frozenset({"Clip"}), clip_of_sum)
    found = fold_pairs(found, frozenset({"Div", "Mul"}), divided)
    return _restored(graph, _find_divided_products(found), "_ShiftedClip")


def _find_divided_products(graph: Graph) -> Graph:
    """x Clip(x + 3, 0, 6) / 6: a HardSwish whose division comes last."""
    writers = graph.producers()
    uses = graph.uses()
    gone: set[str] = set()
    swishes: dict[str, Node] = {}
    for node in graph.nodes:
        number = _scalar(node, graph.constants)
        if node.op_type not in {"Div", "Mul"} or not number:
            continue
        if node.op_type == "Div" and node.input(0) in graph.constants:
            continue
        inner = next((name for name in node.inputs if name not in graph.constants), "")
        product = writers.get(inner)
        if product is None or product.op_type != "Mul" or uses[inner] != 1:
            continue
        gate = next(
            (
                writers[name]
                for name in product.inputs
                if name in writers and writers[name].op_type == "_ShiftedClip"
            ),
            None,
        )
        factor = 1 / number if node.op_type == "Div" else number
        if gate is None or uses[gate.output] != 1 or gate.input(0) not in product.inputs:
            continue
        offset, high = gate.number("offset", 0.0), gate.number("high", 0.0)
        if np.isclose([offset * factor, high * factor, 6 * factor], [0.5, 1, 1], rtol=1e-6).all():
            gone |= {gate.output, product.output}
            swishes[node.output] = Node(node.name, "HardSwish", gate.inputs, node.outputs)
    nodes = tuple(swishes.get(node.output, node) for node in graph.nodes if node.output not in gone)
    return replace(graph, nodes=nodes)


def find_hard_swishes(graph: Graph) -> Graph:
    """x HardSigmoid(x) with its usual numbers: a HardSwish."""

    def fold(graph: Graph, gate: Node, product: Node, constants: dict[str, Array]) -> Node | None:
        usual = np.isclose(
            [gate.number("alpha", 0.2), gate.number("beta", 0.5)], [1 / 6, 0.5], rtol=1e-6
        )
        if gate.op_type != "HardSigmoid" or not usual.all():
            return None
        if sorted(product.inputs) != sorted((gate.input(0), gate.output)):
            return None
        return Node(product.name, "HardSwish", gate.inputs, product.outputs)

    return fold_pairs(graph, frozenset({"Mul"}), fold)


def find_mishes(graph: Graph) -> Graph:
    """x tanh(softplus(x)): a Mish, which needs no logarithm."""

    def gate(graph: Graph, first: Node, tanh: Node, constants: dict[str, Array]) -> Node | None:
        return (
            Node(tanh.name, "_MishGate", first.inputs, tanh.outputs)
            if first.op_type == "Softplus"
            else None
        )

    def fold(graph: Graph, gate: Node, product: Node, constants: dict[str, Array]) -> Node | None:
        if gate.op_type != "_MishGate":
            return None
        if sorted(product.inputs) != sorted((gate.input(0), gate.output)):
            return None
        return Node(product.name, "Mish", gate.inputs, product.outputs)

    found = fold_pairs(graph, frozenset({"Tanh"}), gate)
    found = fold_pairs(found, frozenset({"Mul"}), fold)
    return _restored(graph, found, "_MishGate")


def find_channel_shuffles(graph: Graph) -> Graph:
    """Reshape to (n, groups, channels of one, …), Transpose of those two, Reshape back."""

    def swap(graph: Graph, split: Node, turn: Node, constants: dict[str, Array]) -> Node | None:
        source = graph.shapes.get(split.input(0), ())
        shape = graph.shapes.get(split.output, ())
        if split.op_type != "Reshape" or turn.ints("perm") not in _SHUFFLES or len(source) != 4:
            return None
        whole = len(shape) > 3 and shape[0] == source[0] and shape[1] * shape[2] == source[1]
        if not whole:
            return None
        attributes = {"group": shape[1]}
        return Node(turn.name, "_Shuffled", split.inputs[:1], turn.outputs, attributes)

    def join(graph: Graph, turn: Node, back: Node, constants: dict[str, Array]) -> Node | None:
        if turn.op_type != "_Shuffled":
            return None
        if graph.shapes.get(back.output) != graph.shapes.get(turn.input(0)):
            return None
        return replace(turn, name=back.name, op_type="ChannelShuffle", outputs=back.outputs)

    found = fold_pairs(graph, frozenset({"Transpose"}), swap)
    found = fold_pairs(found, frozenset({"Reshape"}), join)
    return _restored(graph, found, "_Shuffled")


def _restored(graph: Graph, found: Graph, marker: str) -> Graph:
    """``found`` with every pair that is still only ``marker`` as it was in ``graph``."""
    remaining = {node.output for node in found.nodes if node.op_type == marker}
    writers = graph.producers()
    folded = writers.keys() - found.producers().keys()
    nodes: list[Node] = []
    for node in found.nodes:
        if node.output in remaining:
            second = writers[node.output]
            nodes += [writers[name] for name in second.inputs if name in folded]
            nodes.append(second)
        else:
            nodes.append(node)
    return replace(found, nodes=tuple(nodes))


def fold_pads(graph: Graph) -> Graph:
    """A Pad with zeros before a convolution, or before a pool that counts them: its padding."""

    def fold(graph: Graph, pad: Node, window: Node, constants: dict[str, Array]) -> Node | None:
        counts = window.op_type == "Conv" or window.integer("count_include_pad", 0)
        automatic = window.text("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}
        if pad.op_type != "Pad" or window.input(0) != pad.output or not counts or automatic:
            return None
        if pad.text("mode", "constant") != "constant" or window.integer("ceil_mode", 0):
            return None
        amounts = _pad_amounts(graph, pad, constants)
        if amounts is None or any(amounts[0][:2]) or any(amounts[1][:2]):
            return None
        dimensions = len(amounts[0]) - 2
        own = window.ints("pads") or (0,) * (2 * dimensions)
        pads = [
            mine + more for mine, more in zip(own, (*amounts[0][2:], *amounts[1][2:]), strict=True)
        ]
        if min(pads) < 0:
            return None
        attributes = {**window.attributes, "pads": pads, "auto_pad": b"NOTSET"}
        return replace(window, inputs=(pad.input(0), *window.inputs[1:]), attributes=attributes)

    return fold_pairs(graph, frozenset({"Conv", "AveragePool"}), fold)


def _pad_amounts(
    graph: Graph, pad: Node, constants: dict[str, Array]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Zeros before and after each axis, or None where they are others or computed."""
    rank = len(graph.shapes.get(pad.input(0), ()))
    value: float | None = pad.number("value", 0.0)
    if pad.input(2):
        number = constants.get(pad.input(2))
        value = None if number is None or number.size != 1 else float(number.reshape(-1)[0])
    pads = pad.ints("pads")
    if pads is None and pad.input(1) in constants:
        pads = tuple(int(amount) for amount in constants[pad.input(1)].reshape(-1))
    axes = tuple(range(rank))
    if pad.input(3):
        if pad.input(3) not in constants:
            return None
        axes = tuple(int(axis) % rank for axis in constants[pad.input(3)].reshape(-1))
    if rank < 3 or value != 0.0 or pads is None or len(pads) != 2 * len(axes):
        return None
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        before[axis], after[axis] = pads[index], pads[index + len(axes)]
    return tuple(before), tuple(after)


def _scalar(node: Node, constants: dict[str, Array] | object) -> float | None:
    """The one number among a node's two inputs, or None."""
    if len(node.inputs) != 2 or not isinstance(constants, dict):
        return None
    found = [constants[name] for name in node.inputs if name in constants]
    if len(found) != 1 or found[0].size != 1 or found[0].dtype.kind != "f":
        return None
    return float(found[0].reshape(-1)[0])


def _bounds(clip: Node, constants: dict[str, Array]) -> tuple[float, float] | None:
    """A Clip's bounds, where it has both."""
    if "min" in clip.attributes and "max" in clip.attributes:
        return clip.number("min", 0.0), clip.number("max", 0.0)
    both = [constants.get(clip.input(index)) for index in (1, 2)]
    low, high = both
    if low is None or high is None or low.size != 1 or high.size != 1:
        return None
    return float(low.reshape(-1)[0]), float(high.reshape(-1)[0])
