"""Folding what an ONNX file computes from nothing but constants and static shapes.

Exports carry their shapes as subgraphs (Shape, Gather, Concat, Range, Where, …). Once the inputs'
shapes are fixed they are constants: shape inference and ONNX's own reference evaluator take turns
until nothing changes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.onnx_file import check_shape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

MAX_FOLDED_ELEMENTS = 1 << 24
"""Larger results are left to be refused by name: a damaged file asks for any size."""
_DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})
_RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)
_UNFIT = (
    ValueError,
    TypeError,
    RuntimeError,
    IndexError,
    KeyError,
    AttributeError,
    ArithmeticError,
)
"""What the reference evaluator raises for a node that makes no sense."""


def fold(onnx: ModuleType, model: ModelProto) -> ModelProto:
    """``model`` with every shape inferred and every constant result an initializer.

    Raises what ``onnx.shape_inference`` raises, and ``ModelError`` for a shape that nothing has.
    """
    constants: dict[str, NDArray[Any]] = {}
    while True:
        # Without propagating data: it spreads a shape of 2^62 out in memory, and folding does the
        # same with values that were looked at.
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
            check_shape(value.name, _static_shape(value) or ())
        if not _fold_once(onnx, model, constants):
            return model


def _fold_once(onnx: ModuleType, model: ModelProto, constants: dict[str, NDArray[Any]]) -> bool:
    """Replace the nodes that can be evaluated; whether there were any.

    ``constants`` are those that are known already, and grow.
    """
    graph = model.graph
    shapes = {
        value.name: shape
        for value in (*graph.input, *graph.value_info, *graph.output)
        if (shape := _static_shape(value)) is not None
    }
    outputs = {value.name for value in graph.output}
    protos = {tensor.name: tensor for tensor in graph.initializer}
    kept: list[NodeProto] = []
    folded = False
    for node in graph.node:
        if node.op_type == "Constant":
            kept.append(node)
            if node.output[0] not in constants:
                constants.update(_evaluated(onnx, model, node, {}) or {})
            continue
        inputs = {name: _value(onnx, name, constants, protos) for name in node.input if name}
        results = None
        if not outputs.intersection(node.output):
            results = _shape_of(node, shapes)
            whole = all(value is not None for value in inputs.values())
            if results is None and whole and _may_fold(onnx, node, shapes):
                results = _evaluated(onnx, model, node, inputs)
        if results is None:
            kept.append(node)
            continue
        folded = True
        for name, value in results.items():
            constants[name] = value
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    if folded:
        del graph.node[:]
        graph.node.extend(kept)
        names = {tensor.name for tensor in graph.initializer}
        remaining = [value for value in graph.value_info if value.name not in names]
        del graph.value_info[:]
        graph.value_info.extend(remaining)
    return folded


def _static_shape(value: ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims = tensor.shape.dim
    if any(not dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(int(dim.dim_value) for dim in dims)


def _value(
    onnx: ModuleType, name: str, constants: dict[str, NDArray[Any]], protos: Mapping[str, Any]
) -> NDArray[Any] | None:
    if name not in constants and name in protos:
        try:
            constants[name] = onnx.numpy_helper.to_array(protos[name])
        except (ValueError, TypeError):
            return None
    return constants.get(name)


def _shape_of(
    node: NodeProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[Any]] | None:
    """The result of Shape and Size, which need no values."""
    if node.op_type not in {"Shape", "Size"} or node.input[0] not in shapes:
        return None
    shape = shapes[node.input[0]]
    if node.op_type == "Size":
        return {node.output[0]: np.array(math.prod(shape), np.int64)}
    bounds = {attribute.name: int(attribute.i) for attribute in node.attribute}
    part = shape[bounds.get("start", 0) : bounds.get("end", len(shape))]
    return {node.output[0]: np.array(part, np.int64)}


def _may_fold(onnx: ModuleType, node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if node.domain not in _DEFAULT_DOMAINS or node.op_type in _RANDOM:
        return False
    if any(
        attribute.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
        for attribute in node.attribute
    ):
        return False
    sizes = [math.prod(shapes[name]) if name in shapes else None for name in node.output if name]
    return all(size is not None and size <= MAX_FOLDED_ELEMENTS for size in sizes)


def _evaluated(
    onnx: ModuleType, model: ModelProto, node: NodeProto, inputs: Mapping[str, Any]
) -> dict[str, NDArray[Any]] | None:
    """What a node gives for constant inputs, or None where it cannot be evaluated."""
    from onnx.reference import ReferenceEvaluator

    info = functools.partial(onnx.helper.make_value_info, type_proto=onnx.TypeProto())
    names = [name for name in node.output if name]
    graph = onnx.helper.make_graph(
        [node], "node", [info(name) for name in inputs], [info(name) for name in names]
    )
    alone = onnx.helper.make_model(graph, opset_imports=list(model.opset_import))
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(alone).run(names, dict(inputs))
    except _UNFIT:
        return None
    if not all(isinstance(value, (np.ndarray, np.generic)) for value in values):
        return None
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
