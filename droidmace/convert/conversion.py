"""What a conversion knows while it goes through the nodes: where each tensor is, the ops so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.graph import Array, Graph, Node, Shape, fresh_name
from droidmace.convert.mace_ops import OpDraft
from droidmace.errors import ModelError

ONE_PIXEL_HINT = "only a Gemm or MatMul can follow a flattening of more than one pixel"


@dataclass(frozen=True, slots=True)
class Value:
    """Where an ONNX tensor is: a MACE tensor of ``shape`` (n, h, w, c).

    ``flat`` marks an ONNX tensor of two dimensions. MACE keeps it as (n, h, w, c) all the same;
    with more than one pixel its values would lie in another order than ONNX's.
    """

    tensor: str
    shape: Shape
    flat: bool = False

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.shape[1] * self.shape[2]


class Conversion:
    """One conversion: the ops and constants so far, and where each ONNX tensor is.

    ``ops`` are in execution order, by the tensor they write.
    """

    def __init__(self, graph: Graph, *, runs_on_gpu: bool) -> None:
        self.graph = graph
        self.runs_on_gpu = runs_on_gpu
        self.uses = graph.uses()
        self.ops: dict[str, OpDraft] = {}
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Array] = {}
        self._names = graph.tensor_names()

    def new_name(self, wanted: str) -> str:
        """A name for a tensor or constant that the model does not have, near ``wanted``."""
        name = fresh_name(wanted, self._names)
        self._names.add(name)
        return name

    def value(self, node: Node, index: int = 0, *, whole_pixel: bool = True) -> Value:
        """Where input ``index`` is; with ``whole_pixel`` its order must be ONNX's own."""
        name = node.input(index)
        value = self.values.get(name)
        if value is None:
            what = "a constant" if name in self.graph.constants else "not an image tensor"
            raise node.refuse(f"its input {index} ({name!r}) is {what}")
        if whole_pixel and value.flat and value.pixels != 1:
            raise node.refuse("its input is flattened from several pixels", hint=ONE_PIXEL_HINT)
        return value

    def emit(self, node: Node, op: OpDraft, *, flat: bool = False) -> None:
        """Append the op that computes ``node``; its shape must be the one that ONNX infers."""
        if op.shape != self._expected_shape(node, op.shape, flat=flat):
            raise node.refuse(
                f"MACE gives it the shape {op.shape} (n, h, w, c), "
                f"ONNX {self.graph.shapes[node.output]}"
            )
        self.ops[op.output] = op
        self.values[node.output] = Value(op.output, op.shape, flat)

    def _expected_shape(self, node: Node, shape: Shape, *, flat: bool) -> Shape:
        """What ONNX's shape inference makes of it, as NHWC; ``shape`` itself if it cannot say."""
        onnx_shape = self.graph.shapes.get(node.output)
        if onnx_shape is None:
            return shape
        if flat:
            return (onnx_shape[0], 1, 1, math.prod(onnx_shape[1:]))
        return nhwc(onnx_shape) if len(onnx_shape) == 4 else ()

    def use_constant(self, name: str, array: NDArray[Any], node: Node) -> str:
        """Register a constant as this op reads it; another layout of the same gets its own name."""
        values = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(values).all():
            raise node.refuse(
                f"its weights {name!r} hold NaN or infinity",
                hint="the training diverged or the export is damaged",
            )
        present = self.constants.get(name)
        if present is not None and not (
            present.shape == values.shape and np.array_equal(present, values)
        ):
            name = self.new_name(f"{node.name}_{name}")
        self.constants[name] = values
        return name

    def constant(self, node: Node, index: int) -> NDArray[np.float32]:
        """Input ``index``, which must be a constant."""
        value = self.graph.constants.get(node.input(index))
        if value is None:
            raise node.refuse(
                f"its input {index} ({node.input(index)!r}) is not a constant",
                hint="weights must be stored in the model",
            )
        return value.astype(np.float32)

    def bias(self, node: Node, channels: int, factor: float = 1.0) -> tuple[str, ...]:
        """The third input as a constant of one value per channel, if there is one."""
        name = node.input(2)
        if not name:
            return ()
        bias = self.constant(node, 2)
        if bias.size not in {1, channels} or bias.shape[:-1] != (1,) * (bias.ndim - 1):
            raise node.refuse(f"a bias of shape {bias.shape} for {channels} channels")
        spread = np.broadcast_to(bias.reshape(-1), (channels,)) * np.float32(factor)
        return (self.use_constant(name, spread, node),)

    def ordered_constants(self) -> dict[str, Array]:
        """As MACE orders them: those of the model as they stand there, then the new ones."""
        used = {name for op in self.ops.values() for name in op.inputs}
        known = [name for name in self.graph.constants if name in self.constants]
        new = [name for name in self.constants if name not in self.graph.constants]
        return {name: self.constants[name] for name in [*known, *new] if name in used}

    def finish_output(self, name: str) -> None:
        """Give the op that writes an output the output's own name."""
        value = self.values.get(name)
        if value is None:
            raise ModelError(
                f"output {name!r} is a constant, or not the first output of its node",
                hint="declare a tensor that the model computes from its inputs",
            )
        if value.tensor == name:
            return
        if value.pixels != 1 and value.flat:
            raise ModelError(
                f"output {name!r} is flattened from several pixels, and MACE keeps them in "
                "another order",
                hint="declare the tensor before the flattening as the output",
            )
        if value.tensor in self.graph.outputs or value.tensor not in self.ops:
            raise ModelError(
                f"output {name!r} is only another name of {value.tensor!r}",
                hint="declare one of the two",
            )
        self.ops = {
            name if key == value.tensor else key: replace(
                op,
                inputs=tuple(name if read == value.tensor else read for read in op.inputs),
                output=name if op.output == value.tensor else op.output,
            )
            for key, op in self.ops.items()
        }
        self.values = {
            key: replace(other, tensor=name) if other.tensor == value.tensor else other
            for key, other in self.values.items()
        }


def nhwc(shape: Shape) -> Shape:
    """ONNX's order of axes to MACE's."""
    return (shape[0], shape[2], shape[3], shape[1])


def nchw(shape: Shape) -> Shape:
    """MACE's order of axes to ONNX's."""
    return (shape[0], shape[3], shape[1], shape[2])
