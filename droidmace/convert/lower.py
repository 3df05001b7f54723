"""ONNX nodes to MACE ops.

Conventions (read off MACE's ``onnx_converter.py``, ``transformer.py`` and ``net_def_adapter.cc``,
and off what they write): activations are NHWC, convolution filters OIHW, depthwise filters MIHW;
activations are arguments of the op before them; a convolution whose window is its whole input is a
FullyConnected. Where a tensor lies is :mod:`droidmace.convert.layout`'s matter, what becomes of an
op that of :mod:`droidmace.convert.lowering`.
"""

from __future__ import annotations

from dataclasses import dataclass

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Array, Graph, Node
from droidmace.convert.lowering import HANDLERS, SUPPORTED, OpSupport
from droidmace.convert.mace_ops import OpDraft
from droidmace.errors import ModelError

__all__ = ["HANDLERS", "REFUSED", "SUPPORTED", "Lowered", "OpSupport", "lower"]

REFUSED = {
    "Erf": "MACE has no error function; export GELU with approximate='tanh'",
    "Log": "MACE has no logarithm",
    "Softplus": "MACE has no logarithm",
    "LSTM": "MACE's LSTM is TensorFlow's cell",
    "GRU": "MACE has no recurrent op",
    "RNN": "MACE has no recurrent op",
    "If": "MACE has no branches; export with the condition fixed",
    "Loop": "MACE has no loops; unroll it",
    "Scan": "MACE has no loops; unroll it",
    "NonMaxSuppression": "run it behind the model, in the app",
    "TopK": "run it behind the model, in the app",
    "QuantizeLinear": "only float models can be converted: export the model unquantized",
    "DequantizeLinear": "only float models can be converted: export the model unquantized",
    "Equal": "MACE's tensors are floats; comparisons give others",
    "Greater": "MACE's tensors are floats; comparisons give others",
    "Less": "MACE's tensors are floats; comparisons give others",
    "Where": "its condition is computed; MACE's GPU runtime has no choice by condition",
}
"""ONNX ops that are met and cannot be converted, and why or what instead."""


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
        state.take_input(name)
    for node in graph.nodes:
        HANDLERS[node.op_type](state, node)
    for name in graph.outputs:
        state.finish_output(name)
    ops = tuple(state.ops)
    if winograd:
        block = {"wino_block_size": winograd}
        ops = tuple(op.with_arguments(block) if op.type == "Conv2D" else op for op in ops)
    return Lowered(ops, state.ordered_constants())


def _unsupported(nodes: list[Node]) -> ModelError:
    first = nodes[0]
    reason = REFUSED.get(first.op_type)
    return ModelError(
        f"{first.op_type} node {first.name!r}: this op cannot be converted",
        hint=reason or "replace it in the model; convertible are " + ", ".join(sorted(SUPPORTED)),
        details="\n".join(f"{node.op_type} {node.name!r}" for node in nodes),
    )
