"""The ONNX graph as plain values: what the passes read and return."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import ModelError

Array = NDArray[np.generic]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX node. An absent optional input is an empty string, as in ONNX."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The first output: the only one that any op we know has a use for."""
        return self.outputs[0]

    def input(self, index: int) -> str:
        """Input ``index``, or an empty string when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def integer(self, attribute: str, default: int) -> int:
        """An integer attribute."""
        return int(self.attributes.get(attribute, default))

    def number(self, attribute: str, default: float) -> float:
        """A float attribute."""
        return float(self.attributes.get(attribute, default))

    def text(self, attribute: str, default: str) -> str:
        """A text attribute."""
        value = self.attributes.get(attribute, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def ints(self, attribute: str) -> tuple[int, ...] | None:
        """An attribute of integers, or None where it is absent."""
        values = self.attributes.get(attribute)
        return None if values is None else tuple(int(value) for value in values)

    def refuse(self, why: str, *, hint: str | None = None) -> ModelError:
        """The error that says that this node cannot be converted."""
        return ModelError(
            f"{self.op_type} node {self.name!r}: {why}",
            hint=hint or "change this part of the model and export it again",
        )


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX graph with static shapes.

    ``nodes`` are in execution order; ``constants`` in the file's order (initializers, then
    constants from nodes); ``shapes`` hold every other tensor's dimensions as ONNX has them.
    ``places`` tell for an input or output that is an image which of n, c, h, w (0…3) each of its
    axes is; ``whole`` are the inputs of whole numbers.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()

    def uses(self) -> Counter[str]:
        """How often each tensor is read; being an output of the graph is a use."""
        counts = Counter(name for node in self.nodes for name in node.inputs if name)
        counts.update(self.outputs)
        return counts

    def tensor_names(self) -> set[str]:
        """Every name that a tensor or constant of the model has."""
        of_nodes = (name for node in self.nodes for name in (*node.inputs, *node.outputs))
        return {*self.constants, *self.shapes, *self.inputs, *self.outputs, *of_nodes}

    def producers(self) -> dict[str, Node]:
        """The node that writes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}


def fresh_name(wanted: str, taken: Container[str]) -> str:
    """``wanted``, or with a number behind it where that name is ``taken``."""
    numbered = (f"{wanted}_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], numbered) if name not in taken)
