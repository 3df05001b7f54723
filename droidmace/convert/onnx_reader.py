"""Reading an ONNX file into a :class:`~droidmace.convert.graph.Graph`, checked.

With ``onnx_file`` the only module that knows the ``onnx`` package; its exceptions end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from droidmace.config import TensorSpec
from droidmace.convert.borders import image_places, onnx_shape
from droidmace.convert.graph import Array, Graph, Node, Shape, fresh_name
from droidmace.convert.onnx_file import (
    DEFAULT_DOMAINS,
    first_line,
    import_onnx,
    load_onnx,
)
from droidmace.convert.onnx_fold import fold
from droidmace.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, TensorShapeProto

_FLOAT_TYPES = frozenset({1, 10, 11})
_INTEGER_TYPES = frozenset({6, 7})
_FROM_CPP = (ValueError, IndexError, OverflowError, RuntimeError, MemoryError)
"""What becomes of C++ exceptions that ONNX's shape inference does not turn into its own."""
_INPUT_TYPES = {1: "float32", 6: "int32", 7: "int32"}
"""ONNX's number of an element type to the word of ``input_data_types``; MACE has no 64 bits."""


def read_onnx(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Graph:
    """Read, check and shape-infer the ONNX file ``path``.

    ``inputs`` and ``outputs`` are what the deployment file declares: they must exist in the model
    with those shapes, and they fix a symbolic dimension (a batch size left open). Raises
    ``ModelError`` for everything that is wrong with the file or does not fit the declaration, and
    ``MissingExtraError`` without the ``onnx`` package.
    """
    onnx = import_onnx()
    model = load_onnx(path)
    _fix_input_shapes(model, inputs, path)
    try:
        # Not only the file: the declared shapes may contradict what the nodes make of them.
        model = fold(onnx, model)
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        *_FROM_CPP,
    ) as exc:
        raise ModelError(
            f"ONNX shape inference fails: {first_line(exc)}",
            where=str(path),
            hint="compare the declared input_shapes with what the model was exported for",
            details=str(exc),
        ) from exc
    nodes = _nodes(onnx, model, path)
    _check_whole_inputs(nodes, inputs, path)
    graph = Graph(
        nodes=nodes,
        constants=_constants(onnx, model, path),
        shapes=_shapes(model, {spec.name for spec in outputs}, path),
        inputs=tuple(spec.name for spec in inputs),
        outputs=tuple(spec.name for spec in outputs),
        opset=_opset(model),
    )
    _check_outputs(model, graph, outputs, path)
    places = {
        spec.name: places
        for spec in (*inputs, *outputs)
        if (places := image_places(spec, graph)) is not None
    }
    whole = frozenset(spec.name for spec in inputs if spec.data_type == "int32")
    return replace(graph, places=places, whole=whole)


def _opset(model: ModelProto) -> int:
    return int(next(item.version for item in model.opset_import if item.domain in DEFAULT_DOMAINS))


def _fix_input_shapes(model: ModelProto, inputs: Sequence[TensorSpec], path: Path) -> None:
    """Check the declared inputs and write their sizes over symbolic dimensions."""
    constants = {tensor.name for tensor in model.graph.initializer}
    declared = {spec.name: spec for spec in inputs}
    fed = {value.name: value for value in model.graph.input if value.name not in constants}
    for name in declared:
        if name not in fed:
            raise ModelError(
                f"the model has no input {name!r}",
                where=str(path),
                hint="its inputs: " + ", ".join(fed),
            )
    for name, value in fed.items():
        if name not in declared:
            raise ModelError(
                f"the model's input {name!r} is not declared",
                where=str(path),
                hint="name it under input_tensors, with its shape under input_shapes",
            )
        spec = declared[name]
        tensor_type = value.type.tensor_type
        if any(not 1 <= size < 1 << 31 for size in spec.shape):
            raise ModelError(
                f"input {name!r} is declared as {_text(spec.shape)}: a size is no size",
                where=str(path),
                hint="correct input_shapes: every size is at least 1 and below 2^31",
            )
        _check_input_type(spec, tensor_type.elem_type, path)
        dims = tensor_type.shape.dim
        fixed = [int(dim.dim_value) if dim.HasField("dim_value") else None for dim in dims]
        expected = onnx_shape(spec, fixed, _nodes_of(model), reads=True)
        if expected is None:
            raise ModelError(
                f"input {name!r} is declared as {_text(spec.shape)} {spec.data_format}, "
                f"the model has {_proto_shape(dims)}",
                where=str(path),
                hint="correct input_shapes or input_data_formats",
            )
        for dim, size in zip(dims, expected, strict=True):
            dim.dim_value = size


def _check_input_type(spec: TensorSpec, found: int, path: Path) -> None:
    if found not in _INPUT_TYPES:
        raise ModelError(
            f"input {spec.name!r} is neither float32 nor a whole number",
            where=str(path),
            hint="only float models can be converted: export one",
        )
    if spec.data_type != _INPUT_TYPES[found]:
        raise ModelError(
            f"input {spec.name!r} is declared as {spec.data_type}, the model has "
            f"{_INPUT_TYPES[found]}",
            where=str(path),
            hint=f"set input_data_types to {_INPUT_TYPES[found]}",
        )


def _check_whole_inputs(nodes: Sequence[Node], inputs: Sequence[TensorSpec], path: Path) -> None:
    """Whole numbers choose rows; every other op of MACE takes their bits for floats."""
    whole = {spec.name for spec in inputs if spec.data_type == "int32"}
    for node in nodes:
        for index, name in enumerate(node.inputs):
            if name in whole and (node.op_type, index) != ("Gather", 1):
                error = node.refuse(
                    f"it computes with the whole numbers of the input {name!r}",
                    hint="whole numbers can only be the indices of a Gather",
                )
                error.where = str(path)
                raise error


def _nodes_of(model: ModelProto) -> list[tuple[str, list[str], list[str], tuple[int, ...]]]:
    """Every node's op, inputs, outputs and ``perm``."""
    return [
        (
            node.op_type,
            list(node.input),
            list(node.output),
            next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ()),
        )
        for node in model.graph.node
    ]


def _check_outputs(
    model: ModelProto, graph: Graph, outputs: Sequence[TensorSpec], path: Path
) -> None:
    produced = graph.producers()
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.output)
    }
    for spec in outputs:
        if spec.name not in produced:
            raise ModelError(
                f"the model has no output {spec.name!r}",
                where=str(path),
                hint="correct output_tensors; the last node writes "
                + (repr(graph.nodes[-1].output) if graph.nodes else "nothing"),
            )
        element = types.get(spec.name, 1)
        fitting = {"float32": _FLOAT_TYPES, "int32": _INTEGER_TYPES}.get(spec.data_type)
        if fitting is None or element not in fitting:
            proper = "int32" if element in _INTEGER_TYPES else "float32"
            raise ModelError(
                f"output {spec.name!r} is not declared as {proper}",
                where=str(path),
                hint="correct output_data_types",
            )
        shape = graph.shapes.get(spec.name)
        if shape is None or onnx_shape(spec, shape, _nodes_of(model), reads=False) is None:
            raise ModelError(
                f"output {spec.name!r} is declared as {_text(spec.shape)} {spec.data_format}, "
                f"the model has {_text(graph.shapes.get(spec.name, ()))}",
                where=str(path),
                hint="correct output_shapes or output_data_formats",
            )


def _nodes(onnx: ModuleType, model: ModelProto, path: Path) -> tuple[Node, ...]:
    nodes = []
    names: set[str] = set()
    for proto in model.graph.node:
        # MACE names an anonymous op after its outputs; names must differ.
        name = fresh_name(proto.name or "_".join(proto.output), names)
        names.add(name)
        if proto.domain not in DEFAULT_DOMAINS:
            raise ModelError(
                f"{proto.op_type} node {name!r} is of the domain {proto.domain!r}",
                where=str(path),
                hint="only standard ONNX ops can be converted",
            )
        attributes = {
            attribute.name: onnx.helper.get_attribute_value(attribute)
            for attribute in proto.attribute
        }
        if "value" in attributes and proto.op_type == "Constant":
            attributes["value"] = _array(onnx, attributes["value"], name, path)
        nodes.append(Node(name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes))
    return tuple(nodes)


def _constants(onnx: ModuleType, model: ModelProto, path: Path) -> dict[str, Array]:
    constants = {}
    for tensor in model.graph.initializer:
        array = _array(onnx, tensor, tensor.name, path)
        constants[tensor.name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return constants


def _array(onnx: ModuleType, tensor: TensorProto, name: str, path: Path) -> Array:
    try:
        array: Array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as exc:
        raise ModelError(
            f"the weights {name!r} do not fill their shape",
            where=str(path),
            hint="export the model again",
            details=str(exc),
        ) from exc
    return array


def _shapes(model: ModelProto, outputs: set[str], path: Path) -> dict[str, Shape]:
    """The shapes that are known; those of inputs and outputs must be."""
    shapes: dict[str, Shape] = {}
    border = outputs | {value.name for value in model.graph.input}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            continue
        dims = tensor.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(int(dim.dim_value) for dim in dims)
        elif value.name in border:
            raise ModelError(
                f"tensor {value.name!r} has an open shape, {_proto_shape(dims)}",
                where=str(path),
                hint="export the model with static shapes",
            )
    return shapes


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def _proto_shape(dims: Iterable[TensorShapeProto.Dimension]) -> str:
    return ",".join(
        str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims
    )
