"""ONNX nodes to MACE ops.

Conventions (read off MACE's ``onnx_converter.py`` and ``transformer.py``, and off what they write):
activations are NHWC, convolution filters OIHW, depthwise filters MIHW; ReLU and ReLU6 are arguments
of the op before them; a convolution whose window is its whole input is a FullyConnected.

One thing is done differently on purpose. For ``Flatten + Gemm`` MACE writes Reshape and MatMul,
neither of which its GPU runtime takes in two dimensions, so the net's tail falls back to the CPU.
Here it becomes the equivalent FullyConnected, and stays on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from droidmace.convert import plain_ops, weighted_ops
from droidmace.convert.conversion import Conversion, Value, nhwc
from droidmace.convert.graph import Array, Graph, Node
from droidmace.convert.mace_ops import OpDraft
from droidmace.errors import ModelError

HANDLERS: Mapping[str, Callable[[Conversion, Node], None]] = {
    "Add": plain_ops.add,
    "Clip": plain_ops.clip,
    "Conv": weighted_ops.conv,
    "Flatten": plain_ops.flatten,
    "Gemm": weighted_ops.gemm,
    "GlobalAveragePool": plain_ops.global_average_pool,
    "ReduceMean": plain_ops.reduce_mean,
    "Relu": plain_ops.relu,
    "Reshape": plain_ops.flatten,
    "Softmax": plain_ops.softmax,
}
"""ONNX op to what makes MACE ops of it."""
FOLDED = ("BatchNormalization after Conv", "Constant", "Dropout", "Identity", "MatMul")
"""What is gone from a simplified graph."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """MACE ops in execution order, and the constants they read, in the order of the weights."""

    ops: tuple[OpDraft, ...]
    constants: dict[str, Array]


def lower(graph: Graph, *, runs_on_gpu: bool, winograd: int) -> Lowered:
    """Turn a simplified graph into MACE ops.

    ``winograd`` (0, 2 or 4) becomes ``wino_block_size`` of every Conv2D; MACE itself decides
    where it applies. Raises ``ModelError`` naming the first node that MACE cannot express.
    """
    unknown = [node for node in graph.nodes if node.op_type not in HANDLERS]
    if unknown:
        raise _unsupported(unknown)
    state = Conversion(graph, runs_on_gpu=runs_on_gpu)
    for name in graph.inputs:
        shape = graph.shapes[name]
        if len(shape) != 4:
            raise ModelError(
                f"input {name!r} has {len(shape)} dimensions; MACE's image ops need four",
                hint="give the model an input of batch, channels, height and width",
            )
        state.values[name] = Value(name, nhwc(shape))
    for node in graph.nodes:
        HANDLERS[node.op_type](state, node)
    for name in graph.outputs:
        state.finish_output(name)
    ops = tuple(state.ops.values())
    if winograd:
        block = {"wino_block_size": winograd}
        ops = tuple(op.with_arguments(block) if op.type == "Conv2D" else op for op in ops)
    return Lowered(ops, state.ordered_constants())


def _unsupported(nodes: list[Node]) -> ModelError:
    first = nodes[0]
    return ModelError(
        f"{first.op_type} node {first.name!r}: this op cannot be converted yet",
        hint="replace it in the model; convertible are " + ", ".join((*HANDLERS, *FOLDED)),
        details="\n".join(f"{node.op_type} {node.name!r}" for node in nodes),
    )
