"""Reading an ONNX file into a :class:`~droidmace.convert.graph.Graph`, checked.

The only module that knows the ``onnx`` package; its exceptions end here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from droidmace.config import TensorSpec
from droidmace.convert.graph import Array, Graph, Node, Shape, fresh_name
from droidmace.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, TensorShapeProto

MAX_FILE_BYTES = 2**31 - 1
"""Protobuf's own limit for one message."""
MIN_OPSET = 7
"""Before it, broadcasting and batch normalization meant something else."""
_DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})
_NCHW_FROM_NHWC = (0, 3, 1, 2)
_INPUT_TYPES = {1: "float32", 6: "int32", 7: "int32"}
"""ONNX's number of an element type to the word of ``input_data_types``; MACE has no 64 bits."""


def read_onnx(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Graph:
    """Read, check and shape-infer the ONNX file ``path``.

    ``inputs`` and ``outputs`` are what the deployment file declares: they must exist in the model
    with those shapes, and they fix a symbolic dimension (a batch size left open). Raises
    ``ModelError`` for everything that is wrong with the file or does not fit the declaration, and
    ``MissingExtraError`` without the ``onnx`` package.
    """
    onnx = _import_onnx()
    model = _load(onnx, path)
    opset = _opset(model, path)
    _fix_input_shapes(model, inputs, path)
    try:
        # Not only the file: the declared shapes may contradict what the nodes make of them.
        model = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as exc:
        raise ModelError(
            "ONNX shape inference fails",
            where=str(path),
            hint="compare the declared input_shapes with what the model was exported for",
            details=str(exc),
        ) from exc
    nodes = _nodes(onnx, model, path)
    _check_whole_inputs(nodes, inputs, path)
    graph = Graph(
        nodes=nodes,
        constants=_constants(onnx, model, path),
        shapes=_shapes(model, path),
        inputs=tuple(spec.name for spec in inputs),
        outputs=tuple(spec.name for spec in outputs),
        opset=opset,
    )
    _check_outputs(graph, outputs, path)
    return graph


def onnx_shape(spec: TensorSpec) -> Shape:
    """The declared shape in ONNX's order of axes (NCHW)."""
    if spec.data_format == "NHWC" and len(spec.shape) == 4:
        return tuple(spec.shape[axis] for axis in _NCHW_FROM_NHWC)
    return spec.shape


def _import_onnx() -> ModuleType:
    try:
        import onnx
        import onnx.checker
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as exc:
        raise MissingExtraError("onnx", "convert", "converting an ONNX model") from exc
    return onnx


def _load(onnx: ModuleType, path: Path) -> ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"{size} bytes are more than one ONNX message holds",
                where=str(path),
                hint="export the weights to an external file beside the model",
            )
        content = path.read_bytes()
    except OSError as exc:
        raise ModelError(
            f"cannot be read: {exc.strerror or exc}",
            where=str(path),
            hint="check model_file_path and the file's permissions",
        ) from exc
    if not content:
        raise ModelError("the ONNX file is empty", where=str(path), hint="export the model again")
    try:
        model: ModelProto = onnx.load_model_from_string(content)
    except DecodeError as exc:
        raise ModelError(
            "not an ONNX model, or a truncated one",
            where=str(path),
            hint="copy or export the file again",
            details=str(exc),
        ) from exc
    _check_names(model, path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    # A location outside the model's folder is a ValidationError, a missing file or one shorter
    # than the tensor an OSError or ValueError.
    except (onnx.checker.ValidationError, OSError, ValueError) as exc:
        raise ModelError(
            "the ONNX checker rejects the model",
            where=str(path),
            hint="export the model again; weights in external files must lie beside it",
            details=str(exc),
        ) from exc
    return model


def _check_names(model: ModelProto, path: Path) -> None:
    """Protobuf hands out a string that is not UTF-8 as bytes; the file is damaged then."""
    graph = model.graph
    names = [tensor.name for tensor in graph.initializer]
    for value in (*graph.input, *graph.value_info, *graph.output):
        names.append(value.name)
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    broken = next((name for name in names if not isinstance(name, str)), None)
    if broken is not None:
        raise ModelError(
            f"the name {broken!r} is not text",
            where=str(path),
            hint="the file is damaged: copy or export it again",
        )


def _opset(model: ModelProto, path: Path) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in _DEFAULT_DOMAINS]
    if not versions or versions[0] < MIN_OPSET:
        found = f"opset {versions[0]}" if versions else "no standard opset"
        raise ModelError(
            f"{found}; at least opset {MIN_OPSET} is needed",
            where=str(path),
            hint="export the model with opset_version=13",
        )
    return int(versions[0])


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
        _check_input_type(spec, tensor_type.elem_type, path)
        expected = onnx_shape(spec)
        dims = tensor_type.shape.dim
        fits = len(dims) == len(expected) and all(
            not dim.HasField("dim_value") or dim.dim_value == size
            for dim, size in zip(dims, expected, strict=True)
        )
        if not fits:
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


def _check_outputs(graph: Graph, outputs: Sequence[TensorSpec], path: Path) -> None:
    produced = graph.producers()
    for spec in outputs:
        if spec.name not in produced:
            raise ModelError(
                f"the model has no output {spec.name!r}",
                where=str(path),
                hint="correct output_tensors; the last node writes "
                + (repr(graph.nodes[-1].output) if graph.nodes else "nothing"),
            )
        if spec.data_type != "float32":
            raise ModelError(
                f"output {spec.name!r} is not declared as float32",
                where=str(path),
                hint="correct output_data_types",
            )
        if graph.shapes.get(spec.name) != onnx_shape(spec):
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
        if proto.domain not in _DEFAULT_DOMAINS:
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


def _shapes(model: ModelProto, path: Path) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        if not value.type.tensor_type.HasField("shape"):
            continue
        dims = value.type.tensor_type.shape.dim
        if any(not dim.HasField("dim_value") for dim in dims):
            raise ModelError(
                f"tensor {value.name!r} has an open shape, {_proto_shape(dims)}",
                where=str(path),
                hint="export the model with static shapes",
            )
        shapes[value.name] = tuple(int(dim.dim_value) for dim in dims)
    return shapes


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def _proto_shape(dims: Iterable[TensorShapeProto.Dimension]) -> str:
    return ",".join(
        str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims
    )
