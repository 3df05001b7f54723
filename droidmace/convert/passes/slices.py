"""Slices that together are a Split: what PyTorch's ``chunk`` becomes where sizes were open."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from droidmace.convert.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class _Part:
    """A Slice of one axis, forwards and without gaps."""

    node: Node
    start: int
    end: int


def join_slices(graph: Graph) -> Graph:
    """Slices of one tensor that share out an axis in equal parts: one Split."""
    found: dict[tuple[str, int], list[_Part]] = defaultdict(list)
    for node in graph.nodes:
        if node.op_type == "Slice" and (part := _part(graph, node)) is not None:
            axis, cut = part
            found[node.input(0), axis].append(cut)
    first: dict[str, Node] = {}
    gone: set[str] = set()
    for (source, axis), parts in found.items():
        parts.sort(key=lambda part: part.start)
        size = graph.shapes[source][axis]
        bounds = [0, *(part.end for part in parts)]
        each = size // len(parts)
        even = [each * number for number in range(len(parts) + 1)]
        starts = [part.start for part in parts]
        if len(parts) < 2 or bounds != even or starts != even[:-1] or bounds[-1] != size:
            continue
        outputs = tuple(part.node.output for part in parts)
        earliest = next(node for node in graph.nodes if node.output in outputs)
        first[earliest.output] = Node(earliest.name, "Split", (source,), outputs, {"axis": axis})
        gone.update(outputs)
    nodes = tuple(
        first.get(node.output, node)
        for node in graph.nodes
        if node.output in first or node.output not in gone
    )
    return replace(graph, nodes=nodes)


def _part(graph: Graph, node: Node) -> tuple[int, _Part] | None:
    """The axis that a Slice cuts and where; None if it does more."""
    shape = graph.shapes.get(node.input(0))
    numbers = [
        _numbers(graph, node, index, name)
        for index, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    ]
    starts, ends, axes, steps = numbers
    if shape is None or starts is None or ends is None or len(starts) != 1 or len(ends) != 1:
        return None
    if node.input(3) and axes is None:
        return None
    if steps not in {None, (1,)} or (node.input(4) and steps is None):
        return None
    axis = (axes or (0,))[0] % len(shape)
    start, end, _ = slice(starts[0], ends[0]).indices(shape[axis])
    return axis, _Part(node, start, end)


def _numbers(graph: Graph, node: Node, index: int, attribute: str) -> tuple[int, ...] | None:
    own = node.ints(attribute)
    if own is not None:
        return own
    constant = graph.constants.get(node.input(index))
    return None if constant is None else tuple(int(number) for number in constant.reshape(-1))
