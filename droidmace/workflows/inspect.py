"""Look into a file: what it is and what it holds."""

from __future__ import annotations

import collections
import hashlib
import zlib
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from droidmace.bundle.reader import read_bundle
from droidmace.bundle.writer import MANIFEST_NAME
from droidmace.errors import FormatError, InputError
from droidmace.formats.acceptance import stored_platform_version
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.detect import FileKind, detect, explain
from droidmace.formats.kvstore import Generation, KeyValueStore
from droidmace.formats.netdef import (
    Argument,
    DataFormat,
    DeviceType,
    InputOutputInfo,
    MemoryType,
    MultiNetDef,
    NetDef,
    OperatorDef,
    check_weights,
    parse_model,
)
from droidmace.formats.obfuscation import readable_program_key
from droidmace.formats.protowire import WireType, decode_text, iter_fields
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.formats.tuning_key import LaunchShape, TuningKey
from droidmace.workflows.inspection import Column, Fact, Inspection, Json, Section

MAX_FILE_BYTES = 1 << 30
"""Larger files are none of those that this looks into."""


def inspect_path(path: Path) -> Inspection:
    """Look into a compiled program, tuned parameters, a model, a bundle folder or its manifest.

    Raises ``FormatError`` (damaged, or none of these; ``where`` is the path) and ``InputError``
    (not there, not readable).
    """
    if path.is_dir():
        if not (path / MANIFEST_NAME).is_file():
            raise InputError(
                f"this folder is not a bundle: it has no {MANIFEST_NAME}",
                where=str(path),
                hint="give a bundle folder as `droidmace tune` writes it, or a file",
            )
        return _bundle(path)
    data = _read(path)
    try:
        return _inspect(path, data)
    except FormatError as error:
        if error.where is None:
            error.where = str(path)
        raise


def _read(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise FormatError(
                f"{size_bytes} bytes are too many for any file that droidmace looks into",
                where=str(path),
                hint="give the model's graph (.pb), not its weights",
            )
        return path.read_bytes()
    except OSError as exc:
        raise InputError(
            f"cannot be read: {exc.strerror or exc}", where=str(path), hint="check the path"
        ) from exc


def _inspect(path: Path, data: bytes) -> Inspection:
    kind = detect(data)
    match kind:
        case FileKind.COMPILED_PROGRAM:
            found = _compiled_program(CompiledProgram.parse(data), data)
        case FileKind.TUNED_PARAMETERS:
            found = _tuned_parameters(TunedParameters.parse(data), data)
        case FileKind.MULTI_NET_DEF | FileKind.NET_DEF:
            found = _model(path, parse_model(data))
        case FileKind.ONNX:
            found = _onnx(data)
        case FileKind.BUNDLE_MANIFEST:
            return _bundle(path.parent)
        case FileKind.UNKNOWN:
            raise explain(data)
    title, facts, sections = found
    basics = (
        Fact("size_bytes", "size (bytes)", len(data)),
        Fact("sha256", "SHA-256", hashlib.sha256(data).hexdigest()),
    )
    return Inspection(str(path), kind.value, title, (*basics, *facts), sections)


_Found = tuple[str, tuple[Fact, ...], tuple[Section, ...]]


def _store_facts(store: KeyValueStore, data: bytes) -> tuple[Fact, ...]:
    current = store.generation is Generation.CURRENT
    keys = collections.Counter(pair.key for pair in store.pairs)
    duplicates = sorted(key for key, count in keys.items() if count > 1)
    facts = [
        Fact("generation", "layout", store.generation.value),
        Fact("crc32", "CRC-32", f"0x{zlib.crc32(data[:-4]):08x}" if current else None),
        Fact("pairs", "pairs", len(store.pairs)),
    ]
    if duplicates:
        facts.append(Fact("duplicate_keys", "keys that stand twice (first counts)", duplicates))
    return tuple(facts)


def _compiled_program(program: CompiledProgram, data: bytes) -> _Found:
    programs = list(program.programs.values())
    info = program.platform_info
    facts = (
        *_store_facts(program.store, data),
        Fact("platform_info", "platform info", info),
        Fact("platform_version", "OpenCL version MACE compares", stored_platform_version(info)),
        Fact("mace_version", "MACE version", info.rpartition(", ")[2]),
        Fact("gpu_name", "GPU", program.device_name),
        Fact("program_count", "programs", len(programs)),
        Fact("binary_bytes", "program bytes", sum(len(stored.binary) for stored in programs)),
    )
    columns = (
        Column("program", "program"),
        Column("options", "options"),
        Column("binary_bytes", "bytes"),
        Column("source_hash", "source hash"),
        Column("key", "key", detail=True),
        Column("readable_key", "readable key", detail=True),
        Column("binary_sha256", "SHA-256 of the binary", detail=True),
    )
    rows: list[tuple[Json, ...]] = []
    for stored in programs:
        readable = readable_program_key(stored.key)
        rows.append(
            (
                stored.name,
                readable.partition(" ")[2],
                len(stored.binary),
                stored.source_hash,
                stored.key,
                readable,
                hashlib.sha256(stored.binary).hexdigest(),
            )
        )
    return (
        "compiled OpenCL program",
        facts,
        (Section("programs", "Programs", columns, tuple(rows)),),
    )


def _tuned_parameters(parameters: TunedParameters, data: bytes) -> _Found:
    rows: list[tuple[Json, ...]] = []
    obfuscated = 0
    for key, values in parameters.entries.items():
        parsed = TuningKey.parse(key)
        shape = LaunchShape.of(values)
        obfuscated += parsed.obfuscated
        rows.append(
            (
                parsed.kernel,
                list(parsed.sizes),
                list(shape.lws) if shape else None,
                shape.block if shape else None,
                key,
                parsed.readable,
                list(values),
            )
        )
    facts = (
        *_store_facts(parameters.store, data),
        Fact("entry_count", "entries", len(rows)),
        Fact("obfuscated_keys", "obfuscated keys", obfuscated),
        Fact("queue_window_size", "queue window size", parameters.queue_window_size),
    )
    columns = (
        Column("kernel", "kernel"),
        Column("sizes", "sizes in the key"),
        Column("lws", "local work-group size"),
        Column("block", "block"),
        Column("key", "key"),
        Column("readable_key", "readable key", detail=True),
        Column("values", "values", detail=True),
    )
    return "tuned parameters", facts, (Section("entries", "Entries", columns, tuple(rows)),)


def _model(path: Path, model: MultiNetDef) -> _Found:
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
    return "MACE model", facts, sections


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
        for net in model.nets:
            for tensor in net.tensors:
                if not (tensor.float_data or tensor.int32_data):
                    check_weights(net, weights_bytes, tensor)
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


def _onnx(data: bytes) -> _Found:
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
    return "ONNX model", facts, ()


def _bundle(folder: Path) -> Inspection:
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    device = manifest.device
    facts = (
        Fact("model", "model", manifest.model_name),
        Fact("model_graph_sha256", "SHA-256 of the graph", manifest.model_graph.sha256),
        Fact("model_data_sha256", "SHA-256 of the weights", manifest.model_data.sha256),
        Fact("binary_sha256", "SHA-256 of mace_run", manifest.binary.sha256),
        Fact("mace_version", "MACE version", manifest.mace_version),
        Fact("device_model", "device", device.model),
        Fact("device_name", "device name", device.device_name),
        Fact("soc", "soc", device.soc),
        Fact("abi", "abi", device.abi),
        Fact("gpu", "GPU", device.gpu),
        Fact("platform_info", "platform info", device.platform_info),
        Fact("android_release", "Android", device.android_release),
        Fact("created_utc", "made", manifest.created_utc),
        Fact("droidmace_version", "droidmace", manifest.droidmace_version),
        *(Fact(key, label, _plain(bundle.results.get(key))) for key, label in RESULT_FACTS),
    )
    rows = [
        (record.name, detect(_read(folder / record.name)).value, record.size_bytes, record.sha256)
        for record in manifest.files
        if record != manifest.results
    ]
    section = _section("contents", "Artefacts (hashes verified)", CONTENT_COLUMNS, rows)
    kind = FileKind.BUNDLE_MANIFEST.value
    return Inspection(str(folder), kind, "bundle", facts, (section,))


RESULT_FACTS = (
    ("verdict", "verdict"), ("init_ms", "init (ms)"), ("warmup_ms", "warm-up (ms)"),
    ("run_ms", "run (ms)"), ("top1", "Top-1"), ("samples", "samples"),
    ("programs", "programs"), ("tuned_entries", "tuned entries"),
)  # fmt: skip
CONTENT_COLUMNS = (
    ("name", "file"), ("kind", "kind"), ("size_bytes", "bytes"), ("sha256", "SHA-256"),
)  # fmt: skip


def _plain(value: object) -> Json:
    """A value of ``results.json`` if it is as flat as it should be; else None."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): inner for key, inner in value.items() if _is_scalar(inner)}
    return None


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
