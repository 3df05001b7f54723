"""Frozen dataclasses that are proto2 messages: the schema is written down once, as their fields.

A message that was read keeps its *origin*, the very bytes it was read from, and is written back as
those bytes for as long as none of its values was replaced. So whatever encoding another writer
chose (packed or not, field order, overlong varints) survives. A changed or a new message is encoded
as protobuf does: fields in order of their numbers, then the unknown ones as they were.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, TypeVar, cast

from droidmace.errors import FormatError
from droidmace.formats.protowire import (
    WireField,
    WireType,
    check_field_count,
    decode_text,
    encode_length_delimited,
    encode_tag,
    encode_text,
    encode_varint,
    iter_fields,
    read_varint,
    signed,
)

T = TypeVar("T")
M = TypeVar("M", bound="Message")

_METADATA_KEY = "proto"
_FLOAT = struct.Struct("<f")


class Kind(Enum):
    """The scalar types that MACE's schemas use, and nested messages."""

    INT32 = "int32"
    INT64 = "int64"
    UINT32 = "uint32"
    BOOL = "bool"
    FLOAT = "float"
    ENUM = "enum"
    STRING = "string"
    BYTES = "bytes"
    MESSAGE = "message"


_WIRE_TYPES = {
    Kind.FLOAT: WireType.FIXED32,
    Kind.STRING: WireType.LENGTH_DELIMITED,
    Kind.BYTES: WireType.LENGTH_DELIMITED,
    Kind.MESSAGE: WireType.LENGTH_DELIMITED,
}
"""Every kind that is not here is a varint."""


@dataclass(frozen=True, slots=True)
class _Spec:
    """How one attribute lies on the wire. ``of`` is the enum or message class."""

    number: int
    kind: Kind
    repeated: bool
    packed: bool
    of: type[Any] | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message was read from: its bytes, their offset in the file, and the values read.

    ``present`` names the attributes that the bytes set, as proto2 tells a default that was
    written from one that was not.
    """

    data: bytes
    offset: int
    values: tuple[object, ...]
    present: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Base of all messages. ``unknown`` holds fields that the schema does not have, encoded."""

    unknown: bytes = b""
    origin: Origin | None = field(default=None, compare=False, repr=False)


def optional(number: int, kind: Kind, default: T, *, of: type[Any] | None = None) -> T:
    """An ``optional`` field with proto2's default. With the default None, absence is a value."""
    spec = _Spec(number, kind, repeated=False, packed=False, of=of)
    return field(default=default, metadata={_METADATA_KEY: spec})


def repeated(
    number: int, kind: Kind, *, of: type[Any] | None = None, packed: bool = False
) -> tuple[Any, ...]:
    """A ``repeated`` field. Numbers are read packed or not; ``packed`` is how they are written."""
    spec = _Spec(number, kind, repeated=True, packed=packed, of=of)
    return field(default=(), metadata={_METADATA_KEY: spec})


def _schema(cls: type[Message]) -> dict[int, tuple[str, _Spec]]:
    """Field number to attribute name and spec, in order of the numbers."""
    return _schema_of(cast(Hashable, cls))


@functools.cache
def _schema_of(cls: Any) -> dict[int, tuple[str, _Spec]]:  # noqa: ANN401
    specs = [
        (attribute.metadata[_METADATA_KEY], attribute.name)
        for attribute in dataclasses.fields(cls)
        if _METADATA_KEY in attribute.metadata
    ]
    specs.sort(key=lambda entry: entry[0].number)
    return {spec.number: (name, spec) for spec, name in specs}


def parse_message(cls: type[M], data: bytes, start: int = 0, end: int | None = None) -> M:
    """Read the message in ``data[start:end]``.

    A field whose wire type does not fit its kind is an error here, where protobuf would file it
    under the unknown ones: in these formats that only ever means another or a damaged file.
    Raises ``FormatError`` with the absolute byte offset.
    """
    return _parse(cls, data, start, len(data) if end is None else end, _FieldCount())


@dataclass(slots=True)
class _FieldCount:
    """The fields read so far, over all nested messages of a file."""

    fields: int = 0


def _parse(cls: type[M], data: bytes, start: int, limit: int, count: _FieldCount) -> M:
    schema = _schema(cls)
    values: dict[str, Any] = {}
    unknown: list[bytes] = []
    for found in iter_fields(data, start, limit):
        count.fields += 1
        check_field_count(count.fields, found.offset)
        known = schema.get(found.number)
        if known is None:
            unknown.append(data[found.offset : found.next_offset])
            continue
        name, spec = known
        if spec.repeated:
            values.setdefault(name, []).extend(_read_repeated(cls, name, spec, data, found, count))
        else:
            values[name] = _read_one(cls, name, spec, data, found, count)
    present = frozenset(values)
    frozen = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    message = cls(unknown=b"".join(unknown), **cast(dict[str, Any], frozen))
    # nobody has seen the message yet; dataclasses.replace would take a third of the time
    object.__setattr__(
        message, "origin", Origin(data[start:limit], start, _values(message), present)
    )
    return message


def _values(message: Message) -> tuple[object, ...]:
    values: tuple[object, ...] = _getter(cast(Hashable, type(message)))(message)
    return values


@functools.cache
def _getter(cls: Any) -> operator.attrgetter[Any]:  # noqa: ANN401
    """Reads all of a message's fields at once."""
    return operator.attrgetter("unknown", *(name for name, _ in _schema(cls).values()))


def is_unchanged(message: Message) -> bool:
    """Whether the message still holds the very values that were read from its origin."""
    if message.origin is None:
        return False
    return all(
        now is then for now, then in zip(_values(message), message.origin.values, strict=True)
    )


def _wire_type_error(cls: type[Message], name: str, spec: _Spec, found: WireField) -> FormatError:
    return FormatError(
        f"field {found.number} ({cls.__name__}.{name}, {spec.kind.value})"
        f" cannot have wire type {found.wire_type.value}",
        offset=found.offset,
    )


def _read_repeated(
    cls: type[Message],
    name: str,
    spec: _Spec,
    data: bytes,
    found: WireField,
    count: _FieldCount,
) -> list[Any]:
    wire_type = _WIRE_TYPES.get(spec.kind, WireType.VARINT)
    if found.wire_type is wire_type:
        return [_read_one(cls, name, spec, data, found, count)]
    if found.wire_type is not WireType.LENGTH_DELIMITED:
        raise _wire_type_error(cls, name, spec, found)
    size = found.end - found.start
    if spec.kind is Kind.FLOAT:
        if size % _FLOAT.size:
            raise FormatError(
                f"{cls.__name__}.{name}: {size} bytes are not a whole number of floats",
                offset=found.offset,
            )
        return list(struct.unpack_from(f"<{size // _FLOAT.size}f", data, found.start))
    numbers: list[Any] = []
    position = found.start
    while position < found.end:
        value, after = read_varint(data, position, found.end)
        numbers.append(_number(cls, name, spec, value, position))
        position = after
    return numbers


def _read_one(
    cls: type[Message],
    name: str,
    spec: _Spec,
    data: bytes,
    found: WireField,
    count: _FieldCount,
) -> Any:  # noqa: ANN401
    if found.wire_type is not _WIRE_TYPES.get(spec.kind, WireType.VARINT):
        raise _wire_type_error(cls, name, spec, found)
    if spec.kind is Kind.FLOAT:
        return _FLOAT.unpack_from(data, found.start)[0]
    if spec.kind is Kind.STRING:
        return decode_text(data[found.start : found.end])
    if spec.kind is Kind.BYTES:
        return data[found.start : found.end]
    if spec.kind is Kind.MESSAGE:
        return _parse(cast(type[Message], spec.of), data, found.start, found.end, count)
    return _number(cls, name, spec, found.value, found.offset)


def _number(cls: type[Message], name: str, spec: _Spec, value: int, offset: int) -> int:
    """A varint as its field's type; too large ones are cut to its width, as protobuf does."""
    if spec.kind is Kind.BOOL:
        return value != 0
    if spec.kind is Kind.UINT32:
        return value & 0xFFFF_FFFF
    if spec.kind is Kind.INT64:
        return signed(value, 64)
    number = signed(value, 32)
    if spec.kind is not Kind.ENUM:
        return number
    members = cast(type[IntEnum], spec.of)
    try:
        return members(number)
    except ValueError as exc:
        raise FormatError(
            f"{cls.__name__}.{name}: {number} is not a {members.__name__} that MACE has",
            offset=offset,
        ) from exc


def serialize_message(message: Message) -> bytes:
    """Write the message; byte for byte what was read if nothing was replaced since.

    Raises ``ValueError`` when a value does not fit its field: that is the caller's mistake.
    """
    if message.origin is not None and is_unchanged(message):
        return message.origin.data
    present = message.origin.present if message.origin else frozenset()
    defaults = {
        attribute.name: attribute.default for attribute in dataclasses.fields(type(message))
    }
    parts: list[bytes] = []
    for name, spec in _schema(type(message)).values():
        value = getattr(message, name)
        if spec.repeated:
            parts.append(_encode_repeated(name, spec, value))
        elif value is not None and (value != defaults[name] or name in present):
            parts.append(_encode_one(name, spec, value))
    parts.append(message.unknown)
    return b"".join(parts)


def _encode_repeated(name: str, spec: _Spec, values: tuple[Any, ...]) -> bytes:
    if not spec.packed:
        return b"".join(_encode_one(name, spec, value) for value in values)
    if not values:
        return b""
    encode = _PAYLOADS[spec.kind]
    return encode_length_delimited(spec.number, b"".join(_fit(name, encode, v) for v in values))


def _encode_one(name: str, spec: _Spec, value: Any) -> bytes:  # noqa: ANN401
    payload = _fit(name, _PAYLOADS[spec.kind], value)
    wire_type = _WIRE_TYPES.get(spec.kind, WireType.VARINT)
    if wire_type is WireType.LENGTH_DELIMITED:
        return encode_length_delimited(spec.number, payload)
    return encode_tag(spec.number, wire_type) + payload


def _fit(name: str, encode: Callable[[Any], bytes], value: Any) -> bytes:  # noqa: ANN401
    try:
        return encode(value)
    except (OverflowError, ValueError) as exc:
        raise ValueError(f"{name}: {value!r} does not fit its field: {exc}") from exc


def _encode_bounded(low: int, high: int) -> Callable[[int], bytes]:
    def encode(value: int) -> bytes:
        if not low <= value <= high:
            raise ValueError(f"not in {low}..{high}")
        return encode_varint(value)

    return encode


_PAYLOADS: dict[Kind, Callable[[Any], bytes]] = {
    Kind.INT32: _encode_bounded(-(1 << 31), (1 << 31) - 1),
    Kind.INT64: _encode_bounded(-(1 << 63), (1 << 63) - 1),
    Kind.UINT32: _encode_bounded(0, (1 << 32) - 1),
    Kind.BOOL: lambda value: encode_varint(int(value)),
    Kind.ENUM: lambda value: encode_varint(int(value)),
    Kind.FLOAT: _FLOAT.pack,
    Kind.STRING: encode_text,
    Kind.BYTES: bytes,
    Kind.MESSAGE: serialize_message,
}
