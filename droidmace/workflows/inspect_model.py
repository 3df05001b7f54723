"""What models hold: MACE's, and in a few words ONNX's."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from droidmace.errors import FormatError
from droidmace.formats.netdef import (
    Argument,
    DataFormat,
    DeviceType,
    InputOutputInfo,
    MemoryType,
    MultiNetDef,
    NetDef,
    OperatorDef,
    check_all_weights,
)
from droidmace.formats.protowire import WireType, decode_text, iter_fields
from droidmace.workflows.inspection import Column, Fact, Findings, Json, Section


def inspect_model(path: Path, model: MultiNetDef) -> Findings:
    """Nets, ops and constants of the graph ``path``; a ``.data`` file beside it is checked.

    Raises ``FormatError`` naming that file when a tensor does not lie in it.
    """
    weights = path.with_suffix(".data")
    weights_bytes = weights.stat().st_size if weights.is_file() else None
    if weights_bytes is not None:
        _check_all_weights(model, weights, weights_bytes)
    nets = model.nets
    types = collections.Counter(op.type for net in nets for op in net.ops)
    facts = (
        Fact("layout", "layout", "NetDef" if model.is_bare_net else "MultiNetDef"),
        Fact("version_code", "version code", model.version_code),
        Fact("model_name", "name", model.name),
        Fact("inputs", "inputs", list(model.input_tensors)),
        Fact("outputs", "outputs", list(model.output_tensors)),
        Fact("op_count", "ops", types.total()),
        Fact("weight_bytes", "weight bytes", sum(_weight_bytes(net) for net in nets)),
        Fact("weights_file", "weights", None if weights_bytes is None else str(weights)),
        Fact("weights_file_bytes", "weights file bytes", weights_bytes),
    )
    sections = (
        _section("nets", "Nets", NET_COLUMNS, [_net_row(net) for net in nets]),
        _section(
            "tensors_in_out",
            "Inputs and outputs",
            IN_OUT_COLUMNS,
            [
                _in_out_row(net, role, info)
                for net in nets
                for role, infos in (("input", net.input_infos), ("output", net.output_infos))
                for info in infos
            ],
        ),
        _section(
            "op_types",
            "Ops by type",
            (("type", "type"), ("count", "count")),
            [(kind, count) for kind, count in types.most_common()],
        ),
        _section(
            "arguments",
            "Arguments of the nets",
            (("net", "net"), ("name", "name"), ("value", "value")),
            [(net.name, arg.name, _argument_value(arg)) for net in nets for arg in net.args],
        ),
        _section(
            "ops", "Ops", OP_COLUMNS, [_op_row(net, op) for net in nets for op in net.ops], True
        ),
        _section(
            "tensors",
            "Constants",
            TENSOR_COLUMNS,
            [
                (net.name, t.name, list(t.dims), t.data_type.name, t.offset, t.size_bytes)
                for net in nets
                for t in net.tensors
            ],
            True,
        ),
    )
    return Findings("MACE model", facts, sections)


NET_COLUMNS = (
    ("name", "net"), ("ops", "ops"), ("runtime", "runtime"), ("memory_type", "memory"),
    ("data_type", "data type"), ("data_format", "data format"),
    ("filter_format", "filter format"), ("weight_bytes", "weight bytes"),
)  # fmt: skip
IN_OUT_COLUMNS = (
    ("net", "net"), ("role", "role"), ("name", "name"), ("shape", "shape"),
    ("data_type", "data type"), ("data_format", "data format"),
)  # fmt: skip
OP_COLUMNS = (
    ("net", "net"), ("name", "name"), ("type", "type"), ("inputs", "inputs"),
    ("outputs", "outputs"), ("output_shapes", "output shapes"), ("device", "device"),
    ("arguments", "arguments"),
)  # fmt: skip
TENSOR_COLUMNS = (
    ("net", "net"), ("name", "name"), ("shape", "shape"), ("data_type", "data type"),
    ("offset", "offset"), ("size_bytes", "bytes"),
)  # fmt: skip


def _section(
    key: str,
    title: str,
    columns: tuple[tuple[str, str], ...],
    rows: Sequence[tuple[Json, ...]],
    detail: bool = False,
) -> Section:
    return Section(key, title, tuple(Column(*column) for column in columns), tuple(rows), detail)


def _check_all_weights(model: MultiNetDef, weights: Path, weights_bytes: int) -> None:
    try:
        check_all_weights(model, weights_bytes)
    except FormatError as error:
        error.where = str(weights)
        raise


def _weight_bytes(net: NetDef) -> int:
    return sum(tensor.size_bytes for tensor in net.tensors)


def _name(members: type[IntEnum], value: int | None) -> str | None:
    """The name of an enum's number; the number itself if MACE has no name for it."""
    if value is None:
        return None
    return members(value).name if value in set(members) else str(value)


def _net_row(net: NetDef) -> tuple[Json, ...]:
    def named(argument: str, members: type[IntEnum]) -> str | None:
        return _name(members, net.int_arg(argument) if net.arg(argument) else None)

    return (
        net.name,
        len(net.ops),
        named("runtime_type", DeviceType),
        named("opencl_mem_type", MemoryType),
        net.data_type.name,
        named("data_format", DataFormat),
        named("filter_format", DataFormat),
        _weight_bytes(net),
    )


def _in_out_row(net: NetDef, role: str, info: InputOutputInfo) -> tuple[Json, ...]:
    return (
        net.name,
        role,
        info.name,
        list(info.dims),
        info.data_type.name,
        _name(DataFormat, info.data_format),
    )


def _op_row(net: NetDef, op: OperatorDef) -> tuple[Json, ...]:
    return (
        net.name,
        op.name,
        op.type,
        list(op.inputs),
        list(op.outputs),
        [list(shape.dims) for shape in op.output_shapes],
        _name(DeviceType, op.device_type),
        {argument.name: _argument_value(argument) for argument in op.args},
    )


def _argument_value(argument: Argument) -> Json:
    value = argument.value
    if isinstance(value, bytes):
        return decode_text(value)
    return list(value) if isinstance(value, tuple) else value


def inspect_onnx(data: bytes) -> Findings:
    """The little that can be said without the ``onnx`` package."""
    ir_version: int | None = None
    texts = {2: "", 3: ""}
    for found in iter_fields(data):
        if found.number == 1 and found.wire_type is WireType.VARINT:
            ir_version = found.value
        elif found.number in texts and found.wire_type is WireType.LENGTH_DELIMITED:
            texts[found.number] = decode_text(data[found.start : found.end])
    facts = (
        Fact("ir_version", "IR version", ir_version),
        Fact("producer", "producer", " ".join(text for text in texts.values() if text)),
        Fact("next_step", "next step", "`droidmace convert -c FILE` makes a MACE model of it"),
    )
    return Findings("ONNX model", facts)
