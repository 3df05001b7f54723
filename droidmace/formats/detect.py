"""What a file is, by its content: none of MACE's formats has a magic number."""

from __future__ import annotations

import json
from enum import StrEnum

from droidmace.errors import FormatError
from droidmace.formats.kvstore import KeyValueStore, has_right_crc, looks_legacy
from droidmace.formats.netdef import parse_model
from droidmace.formats.protowire import WireType, iter_fields, read_varint
from droidmace.formats.store_keys import PLATFORM_INFO_KEY


class FileKind(StrEnum):
    """The kinds of files that droidmace has to do with."""

    COMPILED_PROGRAM = "compiled-program"
    TUNED_PARAMETERS = "tuned-parameters"
    MULTI_NET_DEF = "multi-net-def"
    NET_DEF = "net-def"
    ONNX = "onnx"
    BUNDLE_MANIFEST = "bundle-manifest"
    UNKNOWN = "unknown"


_MANIFEST_KEYS = frozenset({"schema_version", "droidmace_version"})
"""A bundle's manifest has both at its top."""
_MAX_JSON_BYTES = 1 << 20
"""A manifest is far smaller; JSON takes many times its size in memory."""
_FOREIGN = (
    (b"\x7fELF", "an ELF program or library"),
    (b"PK\x03\x04", "a ZIP archive (an APK, an AAR, a PyTorch model)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
)
_OP_ONLY = range(4, 11)
"""Fields of an op that a pair does not have."""
_VERSION_TAG = b"\x08"
"""``MultiNetDef.version_code``: field 1, varint."""
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
"""Tags of length-delimited fields."""
_TFLITE_MAGIC_OFFSET = 4


def detect(data: bytes) -> FileKind:
    """What a whole and undamaged file is; ``UNKNOWN`` for everything else."""
    if is_manifest(data):
        return FileKind.BUNDLE_MANIFEST
    store = _store(data)
    if store is not None:
        compiled = store.find(PLATFORM_INFO_KEY) is not None
        return FileKind.COMPILED_PROGRAM if compiled else FileKind.TUNED_PARAMETERS
    if is_onnx(data):
        return FileKind.ONNX
    try:
        model = parse_model(data)
    except FormatError:
        return FileKind.UNKNOWN
    return FileKind.NET_DEF if model.is_bare_net else FileKind.MULTI_NET_DEF


def _store(data: bytes) -> KeyValueStore | None:
    if not (has_right_crc(data) or looks_legacy(data)):
        return None
    try:
        return KeyValueStore.parse(data)
    except FormatError:
        return None


def is_manifest(data: bytes) -> bool:
    """Whether this is a bundle's ``manifest.json``."""
    if data[:1] != b"{" or len(data) > _MAX_JSON_BYTES:
        return False
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() >= _MANIFEST_KEYS


def is_onnx(data: bytes) -> bool:
    """Whether this is an ONNX ``ModelProto``: ir_version (1), graph (7) and opset_import (8)."""
    wanted = {
        (1, WireType.VARINT),
        (7, WireType.LENGTH_DELIMITED),
        (8, WireType.LENGTH_DELIMITED),
    }
    try:
        return wanted <= {(found.number, found.wire_type) for found in iter_fields(data)}
    except FormatError:
        return False


def explain(data: bytes) -> FormatError:
    """Why :func:`detect` does not know a file: the error of the kind that it resembles most."""
    if not data:
        return FormatError("the file is empty", offset=0, hint="make or pull it again")
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            return _not_ours(f"this is {what}")
    if data[_TFLITE_MAGIC_OFFSET : _TFLITE_MAGIC_OFFSET + 4] == b"TFL3":
        return _not_ours("this is a TensorFlow Lite model")
    if data[:1] == b"{" and len(data) <= _MAX_JSON_BYTES:
        return _json_error(data)
    try:
        if _resembles_store(data):
            KeyValueStore.parse(data)
        elif _resembles_model(data):
            parse_model(data)
    except FormatError as error:
        return error
    return _not_ours(f"it begins with the bytes {data[:8].hex(' ')}")


def _json_error(data: bytes) -> FormatError:
    try:
        json.loads(data)
    except json.JSONDecodeError as exc:
        return FormatError(f"this JSON breaks: {exc.msg}", offset=exc.pos, hint="make it again")
    except (ValueError, RecursionError) as exc:  # not UTF-8, a huge number, too deep
        return FormatError(f"this is not readable as JSON: {exc}", offset=0, hint="make it again")
    return FormatError(
        "this is JSON, but not a bundle's manifest",
        offset=0,
        hint="give the bundle's folder: its results are shown with it",
    )


def _not_ours(what: str) -> FormatError:
    return FormatError(
        f"{what}; that is neither a compiled program, nor tuned parameters, nor a model",
        offset=0,
        hint="give mace_cl_compiled_program.bin, a tuned parameter file, a MACE .pb,"
        " a bundle folder or its manifest.json",
    )


def _resembles_store(data: bytes) -> bool:
    """Whether a key-value file begins like this, even if it is cut off soon after.

    A pair and an op are both field 1 and both begin with a name, but an op's type is its field 4.
    """
    if looks_legacy(data):
        return True
    start = _payload_start(data, 0, _FIELD_1)
    if start is None:
        return False
    if data[start : start + 1] not in (_FIELD_1, b""):
        return False
    length, _ = read_varint(data, 1, len(data))
    try:
        fields = iter_fields(data, start, min(start + length, len(data)))
        return not any(found.number in _OP_ONLY for found in fields)
    except FormatError:
        return True  # cut off inside of the first pair


def _resembles_model(data: bytes) -> bool:
    """Whether a model file begins like this: a version, or a net with an op, or an op."""
    if data[:1] == _VERSION_TAG:
        return True
    net = _payload_start(data, 0, _FIELD_3)
    op = _payload_start(data, 0 if net is None else net, _FIELD_1)
    return op is not None and data[op : op + 1] in (_FIELD_1, _FIELD_2, _FIELD_3, b"")


def _payload_start(data: bytes, offset: int, tag: bytes) -> int | None:
    """Where the payload of a length-delimited field begins, if ``tag`` stands at ``offset``."""
    if data[offset : offset + 1] != tag:
        return None
    try:
        return read_varint(data, offset + 1, len(data))[1]
    except FormatError:
        return None
