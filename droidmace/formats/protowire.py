"""Protocol Buffers' wire format: tags, varints, fixed-size and length-delimited fields.

Encoding as documented at https://protobuf.dev/programming-guides/encoding/. Offsets in values and
errors are absolute in the buffer that is read, also inside of nested messages. A length is checked
against what is really there before anything is sliced by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from droidmace.errors import FormatError

MAX_VARINT_BYTES = 10
"""A 64-bit value in groups of 7 bits."""
MAX_FIELD_NUMBER = (1 << 29) - 1
MAX_FIELDS = 1 << 18
"""Fields of a whole file, those of nested messages included. Real models have some ten thousand;
what has more is made to eat memory: an empty message is two bytes in a file and hundreds here.
"""
MAX_GROUP_DEPTH = 100
"""How deep protobuf's own parsers follow nested groups."""

_UINT64_MASK = (1 << 64) - 1


class WireType(IntEnum):
    """How a field's payload is laid out; the low three bits of a tag."""

    VARINT = 0
    FIXED64 = 1
    LENGTH_DELIMITED = 2
    START_GROUP = 3
    END_GROUP = 4
    FIXED32 = 5


_WIRE_TYPES = tuple(sorted(WireType))
_FIXED_BYTES = {WireType.FIXED64: 8, WireType.FIXED32: 4}


@dataclass(frozen=True, slots=True)
class WireField:
    """One field as it lies in the buffer.

    ``offset`` is where its tag begins, ``start`` and ``end`` bound the payload (without the length
    prefix), ``next_offset`` is where the next field begins. ``value`` is the number of a varint or
    fixed-size field, unsigned; 0 for the others.
    """

    number: int
    wire_type: WireType
    offset: int
    start: int
    end: int
    next_offset: int
    value: int = 0


def read_varint(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """Read an unsigned 64-bit varint in ``data[offset:end]``; return it and the offset after it.

    Raises ``FormatError`` when it is cut off or longer than 64 bits.
    """
    if offset < end and data[offset] < 0x80:  # as nearly all of them are
        return data[offset], offset + 1
    value = 0
    position = offset
    for index in range(MAX_VARINT_BYTES):
        if position >= end:
            raise FormatError("a varint is cut off", offset=offset)
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value > _UINT64_MASK:
                break
            return value, position
    raise FormatError("a varint is longer than 64 bits", offset=offset)


def iter_fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[WireField]:
    """Yield the fields of the message in ``data[start:end]``, in order.

    A group (obsolete, but legal among unknown fields) is yielded as one field that spans it.
    Raises ``FormatError`` at the first byte that is not a field, and at the field that is one too
    many.
    """
    limit = len(data) if end is None else end
    offset = start
    count = 0
    while offset < limit:
        count += 1
        check_field_count(count, offset)
        field = _read_field(data, offset, limit)
        if field.wire_type is WireType.END_GROUP:
            raise FormatError("a group ends that never began", offset=field.offset)
        if field.wire_type is WireType.START_GROUP:
            field = _whole_group(data, field, limit)
        yield field
        offset = field.next_offset


def check_field_count(count: int, offset: int) -> None:
    """Raise ``FormatError`` if the field at ``offset`` is one too many."""
    if count > MAX_FIELDS:
        raise FormatError(
            f"more than {MAX_FIELDS} fields; no file of MACE has so many", offset=offset
        )


def _read_field(data: bytes, offset: int, end: int) -> WireField:
    tag, position = read_varint(data, offset, end)
    number, code = tag >> 3, tag & 7
    if not 1 <= number <= MAX_FIELD_NUMBER:
        raise FormatError(f"{number} is not a field number", offset=offset)
    if code >= len(_WIRE_TYPES):
        raise FormatError(f"{code} is not a wire type (field {number})", offset=offset)
    wire_type = _WIRE_TYPES[code]
    if wire_type is WireType.VARINT:
        value, after = read_varint(data, position, end)
        return WireField(number, wire_type, offset, position, after, after, value)
    if wire_type is WireType.LENGTH_DELIMITED:
        length, payload = read_varint(data, position, end)
        if length > end - payload:
            raise FormatError(
                f"field {number} claims {length} bytes but only {end - payload} are left",
                offset=offset,
            )
        return WireField(number, wire_type, offset, payload, payload + length, payload + length)
    if wire_type in _FIXED_BYTES:
        size = _FIXED_BYTES[wire_type]
        if size > end - position:
            raise FormatError(
                f"field {number} needs {size} bytes but only {end - position} are left",
                offset=offset,
            )
        after = position + size
        value = int.from_bytes(data[position:after], "little")
        return WireField(number, wire_type, offset, position, after, after, value)
    return WireField(number, wire_type, offset, position, position, position)


def _whole_group(data: bytes, opening: WireField, end: int) -> WireField:
    """Follow a group to the tag that closes it."""
    open_numbers = [opening.number]
    position = opening.next_offset
    count = 0
    while open_numbers:
        count += 1
        check_field_count(count, position)
        if position >= end:
            raise FormatError(f"group {open_numbers[-1]} is cut off", offset=opening.offset)
        field = _read_field(data, position, end)
        position = field.next_offset
        if field.wire_type is WireType.START_GROUP:
            if len(open_numbers) == MAX_GROUP_DEPTH:
                raise FormatError("groups are nested too deeply", offset=field.offset)
            open_numbers.append(field.number)
        elif field.wire_type is WireType.END_GROUP and field.number != open_numbers.pop():
            raise FormatError(f"group {field.number} ends inside of another", offset=field.offset)
    return WireField(
        opening.number, opening.wire_type, opening.offset, opening.start, position, position
    )


def encode_varint(value: int) -> bytes:
    """Encode a number of 0 to 2**64 - 1; a negative one as the 64-bit two's complement."""
    if not -(1 << 63) <= value <= _UINT64_MASK:
        raise ValueError(f"{value} does not fit into 64 bits")
    rest = value & _UINT64_MASK
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def encode_tag(number: int, wire_type: WireType) -> bytes:
    """Encode a field's tag."""
    return encode_varint(number << 3 | wire_type)


def encode_length_delimited(number: int, payload: bytes) -> bytes:
    """Encode a field that carries its own length: bytes, text, a message, packed numbers."""
    return encode_tag(number, WireType.LENGTH_DELIMITED) + encode_varint(len(payload)) + payload


def signed(value: int, bits: int) -> int:
    """The low ``bits`` of an unsigned number, read as two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def decode_text(payload: bytes) -> str:
    """Text from a file. Bytes that are not UTF-8 become lone surrogates, so nothing is lost.

    MACE keeps names and keys in C++ strings and never checks that they are UTF-8.
    """
    return payload.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes that :func:`decode_text` read ``text`` from."""
    return text.encode("utf-8", "surrogateescape")
