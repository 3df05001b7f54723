"""An ONNX file into memory, checked: nothing in it is believed before it was looked at.

A model comes from anywhere. What it declares is held against what it holds before anything of the
declared size is made, and each complaint names the node or the tensor.
"""

from __future__ import annotations

import math
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from droidmace.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

MAX_FILE_BYTES = 2**31 - 1
"""Protobuf's own limit for one message, and MACE's for all weights (``NetDef.data_size``)."""
MIN_OPSET = 7
"""Before it, broadcasting and batch normalization meant something else."""
MAX_OPSET = 21
"""The newest whose ops were compared with what is made of them."""
MAX_NODES = 20_000
"""Far more than any net for phones has."""
MAX_RANK = 16
MAX_DIM = 2**31 - 1
MAX_ELEMENTS = 2**29
"""Of one tensor: 2 GiB of float32."""
DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})
# onnx.TensorProto.DataType: name, bytes of an element, and the field for it if not raw_data
_ELEMENTS = {
    1: ("FLOAT", 4, "float_data"),
    2: ("UINT8", 1, "int32_data"),
    3: ("INT8", 1, "int32_data"),
    4: ("UINT16", 2, "int32_data"),
    5: ("INT16", 2, "int32_data"),
    6: ("INT32", 4, "int32_data"),
    7: ("INT64", 8, "int64_data"),
    9: ("BOOL", 1, "int32_data"),
    10: ("FLOAT16", 2, "int32_data"),
    11: ("DOUBLE", 8, "double_data"),
    12: ("UINT32", 4, "uint64_data"),
    13: ("UINT64", 8, "uint64_data"),
    16: ("BFLOAT16", 2, "int32_data"),
}
_QUOTED_CHARACTERS = 300
_EXTERNAL = 1  # TensorProto.DataLocation


def load_onnx(path: Path) -> ModelProto:
    """The model in ``path``, with its external weights, through onnx's own checker as well.

    Raises ``ModelError`` for a file that is damaged, contradicts itself, points outside its folder
    or is larger than what MACE can hold; ``MissingExtraError`` without the ``onnx`` package.
    """
    onnx = import_onnx()
    try:
        model = _parse(onnx, path)
        _check_names(model)
        _check_opset(model)
        _check_nodes(model)
        _load_external(model, path.parent)
        for tensor, owner in _tensors(model):
            _check_tensor(tensor, owner)
        _check_wiring(model.graph)
        _check_splits(model)
        _run_checker(onnx, model)
    except ModelError as error:
        error.where = error.where or str(path)
        raise
    return model


def import_onnx() -> ModuleType:
    """The ``onnx`` package with what we use of it. Raises ``MissingExtraError``."""
    try:
        import onnx
        import onnx.checker
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as exc:
        raise MissingExtraError("onnx", "convert", "converting an ONNX model") from exc
    return onnx


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise ``ModelError`` for a shape that no tensor of a phone has."""
    if len(shape) > MAX_RANK:
        raise ModelError(
            f"tensor {name!r} has {len(shape)} dimensions, more than {MAX_RANK}",
            hint="the file is damaged, or was made to harm",
        )
    wrong = next((size for size in shape if not 0 <= size <= MAX_DIM), None)
    if wrong is not None or math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(
            f"tensor {name!r} has the shape {','.join(map(str, shape))}"
            + (f": {wrong} is no size" if wrong is not None else ", too large for any phone"),
            hint="compare the declared input_shapes with what the model was exported for",
        )


def _parse(onnx: ModuleType, path: Path) -> ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    content = _read(path)
    if not content:
        raise ModelError("the ONNX file is empty", hint="export the model again")
    try:
        model: ModelProto = onnx.load_model_from_string(content)
    except DecodeError as exc:
        raise ModelError(
            "not an ONNX model, or a truncated one",
            hint="copy or export the file again",
            details=str(exc),
        ) from exc
    return model


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("this is not a regular file", hint="check model_file_path")
        if status.st_size > MAX_FILE_BYTES:
            raise ModelError(
                f"{status.st_size} bytes are more than one ONNX message holds",
                hint="export the weights to an external file beside the model",
            )
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(
            f"cannot be read: {exc.strerror or exc}",
            hint="check model_file_path and the file's permissions",
        ) from exc


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    """The graph and, in whatever depth, the graphs in its nodes' attributes."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs]


def _tensors(model: ModelProto) -> Iterator[tuple[TensorProto, NodeProto | None]]:
    """Every stored tensor, and the node that carries it as an attribute."""
    for graph in _graphs(model):
        for tensor in graph.initializer:
            yield tensor, None
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t, node
                for tensor in attribute.tensors:
                    yield tensor, node


def _check_names(model: ModelProto) -> None:
    """Protobuf hands out a string that is not UTF-8 as bytes; the file is damaged then."""
    for graph in _graphs(model):
        names = [tensor.name for tensor in graph.initializer]
        for value in (*graph.input, *graph.value_info, *graph.output):
            names.append(value.name)
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
        broken = next((name for name in names if not isinstance(name, str)), None)
        if broken is not None:
            raise ModelError(
                f"the name {broken!r} is not text",
                hint="the file is damaged: copy or export it again",
            )


def _check_opset(model: ModelProto) -> None:
    if not model.HasField("graph"):
        raise ModelError("the file holds no graph", hint="export the model again")
    versions = [entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS]
    wrong = [version for version in versions if not MIN_OPSET <= version <= MAX_OPSET]
    if wrong or not versions:
        found = f"opset {wrong[0]}" if wrong else "no standard opset"
        raise ModelError(
            f"{found}; opset {MIN_OPSET} to {MAX_OPSET} is needed",
            hint="export the model with opset_version=18",
        )


def _check_nodes(model: ModelProto) -> None:
    count = 0
    for graph in _graphs(model):
        count += len(graph.node)
        if count > MAX_NODES:
            raise ModelError(
                f"graph {graph.name!r} brings the model to {count} nodes, more than {MAX_NODES}",
                hint="the file is damaged, or was made to harm",
            )
        for sparse in graph.sparse_initializer:
            raise ModelError(
                f"the weights {sparse.values.name!r} are sparse",
                hint="export the model with dense weights",
            )
    for function in model.functions:
        raise ModelError(
            f"the model defines an op of its own, {function.name!r}",
            hint="export it with standard ops: inline the functions (onnx.inliner)",
        )


def _label(tensor: TensorProto, owner: NodeProto | None) -> str:
    if owner is None:
        return f"the weights {tensor.name!r}"
    return f"{owner.op_type} node {owner.name or ', '.join(owner.output)!r}: its constant"


def _check_tensor(tensor: TensorProto, owner: NodeProto | None) -> None:
    """Hold what a tensor declares against what it holds."""
    label = _label(tensor, owner)
    if tensor.data_type not in _ELEMENTS:
        raise ModelError(
            f"{label}: values of the type {tensor.data_type}, which MACE does not know",
            hint="only models of ordinary numbers can be converted",
        )
    _, size_bytes, field = _ELEMENTS[tensor.data_type]
    shape = tuple(tensor.dims)
    check_shape(tensor.name or label, shape)
    elements = math.prod(shape)
    if tensor.HasField("raw_data"):
        found, rest = divmod(len(tensor.raw_data), size_bytes)
        found = -1 if rest else found
    else:
        found = len(getattr(tensor, field))
    if found != elements:
        holds = "half an element" if found < 0 else f"{found} values"
        raise ModelError(
            f"{label}: {holds} do not fill the shape {','.join(map(str, shape))}",
            hint="the file is damaged: copy or export it again",
        )


def _load_external(model: ModelProto, folder: Path) -> None:
    """Bring weights from files beside the model into it."""
    total = 0
    for tensor, owner in _tensors(model):
        if tensor.data_location != _EXTERNAL:
            continue
        label = _label(tensor, owner)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = _external_file(label, location, folder)
        _, size_bytes, _ = _ELEMENTS.get(tensor.data_type, ("", 0, ""))
        check_shape(tensor.name or label, tuple(tensor.dims))
        wanted = math.prod(tensor.dims) * size_bytes
        offset = _number(label, "offset", entries.get("offset", "0"))
        length = _number(label, "length", entries.get("length", str(wanted)))
        if length != wanted:
            raise ModelError(
                f"{label}: {length} bytes in {location!r} for a shape of {wanted}",
                hint="the file is damaged: copy or export it again",
            )
        total += length
        if total > MAX_FILE_BYTES:
            raise ModelError(
                f"{label} brings the weights to {total} bytes, more than MACE can number",
                hint=f"all weights of a model have at most {MAX_FILE_BYTES} bytes",
            )
        tensor.raw_data = _region(label, file, offset, length)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _external_file(label: str, location: str, folder: Path) -> Path:
    hint = "weights in external files must lie beside the model: copy them there"
    if not location or "\0" in location:
        raise ModelError(f"{label} lie in an external file without a name", hint=hint)
    try:
        file = (folder / location).resolve()
        inside = file.is_relative_to(folder.resolve()) and not Path(location).is_absolute()
        if inside and not file.is_file():
            raise ModelError(f"{label} lie in {location!r}, which is not there", hint=hint)
    except (OSError, RuntimeError) as exc:
        raise ModelError(f"{label} lie in {location!r}: {exc}", hint=hint) from exc
    if not inside:
        raise ModelError(f"{label} lie outside the model's folder, in {location!r}", hint=hint)
    return file


def _number(label: str, key: str, text: str) -> int:
    # More digits than this are no offset in any file, and slow to read.
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ModelError(
            f"{label}: {text[:40]!r} is no {key} in a file",
            hint="the file is damaged: copy or export it again",
        )
    return int(text)


def _region(label: str, file: Path, offset: int, length: int) -> bytes:
    try:
        size = file.stat().st_size
        if offset + length > size:
            raise ModelError(
                f"{label} need bytes {offset} to {offset + length} of {file.name!r}, "
                f"which has {size}",
                hint="the file is truncated: copy it again",
            )
        with file.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    except OSError as exc:
        raise ModelError(
            f"{label} cannot be read from {file.name!r}: {exc.strerror or exc}",
            hint="check the file's permissions",
        ) from exc


def _check_wiring(graph: GraphProto) -> None:
    """Every name is made once, and before it is read."""
    made: set[str] = set()
    for kind, names in (
        ("weights", [tensor.name for tensor in graph.initializer]),
        ("input", [value.name for value in graph.input]),
    ):
        name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise ModelError(
                f"the name {name!r} stands for more than one {kind}", hint="export the model again"
            )
        made.update(names)
    later = {name for node in graph.node for name in node.output}
    for node in graph.node:
        label = f"{node.op_type} node {node.name or ', '.join(node.output)!r}"
        for name in node.input:
            if name and name not in made:
                why = (
                    "which is made only after it: the nodes are in the wrong order, or in a circle"
                    if name in later
                    else "which nothing makes"
                )
                raise ModelError(
                    f"{label}: it reads {name!r}, {why}", hint="export the model again"
                )
        for name in node.output:
            if name and name in made:
                raise ModelError(
                    f"{label}: its output {name!r} is there already", hint="export the model again"
                )
            made.add(name)
    for value in graph.output:
        if value.name not in made:
            raise ModelError(
                f"nothing makes the output {value.name!r}", hint="export the model again"
            )


def _check_splits(model: ModelProto) -> None:
    """On this contradiction ONNX's shape inference ends the process instead of saying so."""
    for graph in _graphs(model):
        for node in graph.node:
            for attribute in node.attribute:
                wrong = attribute.name == "num_outputs" and attribute.i != len(node.output)
                if node.op_type == "Split" and wrong:
                    raise ModelError(
                        f"Split node {node.name or ', '.join(node.output)!r}: {attribute.i} "
                        f"num_outputs, but {len(node.output)} outputs",
                        hint="export the model again",
                    )


def _run_checker(onnx: ModuleType, model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
    # A ValueError where the message is too large to be written again.
    except (onnx.checker.ValidationError, ValueError) as exc:
        raise ModelError(
            f"the ONNX checker rejects the model: {first_line(exc)}",
            hint="export the model again",
            details=str(exc),
        ) from exc


def first_line(error: Exception) -> str:
    """What to quote of a foreign error in one of ours; it names the node."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_QUOTED_CHARACTERS]
