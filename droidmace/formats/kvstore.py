"""MACE's key-value files: compiled programs and tuned parameters are both one of these.

Two generations, neither with a magic number (facts: ``mace/core/kv_storage.cc`` and
``mace/utils/tuner.h`` of XiaoMi/mace):

* *current* (MACE 1.0.3 and later): a protobuf ``PairContainer``, then the CRC-32 of it in 4 bytes,
  little endian;
* *legacy* (up to 1.0.2): ``uint64 count``, then per pair ``int32 key_size, key, int32 value_size,
  value``, little endian; no checksum.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from droidmace.errors import FormatError
from droidmace.formats.message import (
    Kind,
    Message,
    Origin,
    optional,
    parse_message,
    repeated,
    serialize_message,
)
from droidmace.formats.protowire import decode_text, encode_text

CRC_BYTES = 4
MAX_LEGACY_PAIRS = 1 << 20
"""Real files hold dozens; a larger number is no count but something else."""
_COUNT = struct.Struct("<Q")
_SIZE = struct.Struct("<i")
_CUT_HINT = "the file was cut or changed: pull it again from the device"


class Generation(StrEnum):
    """Which of the two layouts a file has."""

    CURRENT = "current"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class KVPair(Message):
    """One pair (``mace.KVPair``). Legacy files have ``bytes_value`` only."""

    key: str = optional(1, Kind.STRING, "")
    bytes_value: bytes | None = optional(2, Kind.BYTES, None)
    uint32s_value: tuple[int, ...] = repeated(3, Kind.UINT32)


@dataclass(frozen=True, slots=True)
class PairContainer(Message):
    """All pairs in file order (``mace.PairContainer``)."""

    pairs: tuple[KVPair, ...] = repeated(1, Kind.MESSAGE, of=KVPair)


@dataclass(frozen=True, slots=True)
class KeyValueStore:
    """A key-value file of either generation: every pair in file order, duplicates included."""

    container: PairContainer = field(default_factory=PairContainer)
    generation: Generation = Generation.CURRENT

    @property
    def pairs(self) -> tuple[KVPair, ...]:
        """The pairs in file order."""
        return self.container.pairs

    def find(self, key: str) -> KVPair | None:
        """The pair of that key, or None. Of several with one key MACE keeps the first."""
        return next((pair for pair in self.pairs if pair.key == key), None)

    @classmethod
    def build(
        cls, pairs: Iterable[KVPair], generation: Generation = Generation.CURRENT
    ) -> KeyValueStore:
        """A new store of these pairs, in this order."""
        return cls(PairContainer(tuple(pairs)), generation)

    @classmethod
    def parse(cls, data: bytes) -> KeyValueStore:
        """Read a file of either generation.

        Raises ``FormatError`` with the byte offset for everything else: an empty file, a wrong
        CRC, a structure that breaks off.
        """
        if not data:
            raise FormatError("the file is empty", offset=0, hint=_CUT_HINT)
        if has_right_crc(data):
            container = parse_message(PairContainer, data, 0, len(data) - CRC_BYTES)
            return cls(container, Generation.CURRENT)
        if looks_legacy(data):
            return cls(_parse_legacy(data), Generation.LEGACY)
        raise _crc_error(data)

    def serialize(self) -> bytes:
        """Write the file; byte for byte what was read if no pair was replaced since.

        Raises ``ValueError`` for a value that the generation cannot hold.
        """
        if self.generation is Generation.LEGACY:
            return _serialize_legacy(self.container)
        content = serialize_message(self.container)
        return content + zlib.crc32(content).to_bytes(CRC_BYTES, "little")


def stored_crc(data: bytes) -> int:
    """The CRC-32 in a current-generation file's last 4 bytes."""
    return int.from_bytes(data[-CRC_BYTES:], "little")


def has_right_crc(data: bytes) -> bool:
    """Whether the last 4 bytes are the CRC-32 of all before them."""
    return len(data) >= CRC_BYTES and zlib.crc32(memoryview(data)[:-CRC_BYTES]) == stored_crc(data)


def looks_legacy(data: bytes) -> bool:
    """Whether this begins as a legacy file: with a 64-bit number that can be a count of pairs.

    In a current file these bytes are inside of the first pair's key, which is text.
    """
    return len(data) >= _COUNT.size and _COUNT.unpack_from(data)[0] <= MAX_LEGACY_PAIRS


def _crc_error(data: bytes) -> FormatError:
    if len(data) < CRC_BYTES:
        return FormatError(
            f"{len(data)} bytes are too few for a CRC-32", offset=len(data), hint=_CUT_HINT
        )
    end = len(data) - CRC_BYTES
    structure = "its structure is whole, so some value in it was changed"
    try:
        parse_message(PairContainer, data, 0, end)
    except FormatError as error:
        structure = f"its structure breaks: {error.message}"
    return FormatError(
        f"CRC-32 is 0x{stored_crc(data):08x} but the content has"
        f" 0x{zlib.crc32(memoryview(data)[:end]):08x}",
        offset=end,
        hint=_CUT_HINT,
        details=structure,
    )


def _parse_legacy(data: bytes) -> PairContainer:
    (count,) = _COUNT.unpack_from(data)
    smallest = 2 * _SIZE.size
    room = (len(data) - _COUNT.size) // smallest
    if count > room:
        raise FormatError(
            f"legacy layout: it claims {count} pairs but has room for {room} at most",
            offset=0,
            hint=_CUT_HINT,
        )
    pairs: list[KVPair] = []
    offset = _COUNT.size
    for index in range(count):
        begin = offset
        key, offset = _read_sized(data, offset, f"key of pair {index}")
        value, offset = _read_sized(data, offset, f"value of pair {index}")
        pair = KVPair(decode_text(key), value)
        origin = Origin(data[begin:offset], begin, (), frozenset({"key", "bytes_value"}))
        pairs.append(dataclasses.replace(pair, origin=origin))
    if offset != len(data):
        raise FormatError(
            f"legacy layout: {len(data) - offset} bytes follow after the last of {count} pairs",
            offset=offset,
            hint=_CUT_HINT,
        )
    return PairContainer(tuple(pairs))


def _read_sized(data: bytes, offset: int, what: str) -> tuple[bytes, int]:
    left = len(data) - offset
    if left < _SIZE.size:
        raise FormatError(f"legacy layout: the {what} is cut off", offset=offset, hint=_CUT_HINT)
    (size,) = _SIZE.unpack_from(data, offset)
    begin = offset + _SIZE.size
    if not 0 <= size <= len(data) - begin:
        raise FormatError(
            f"legacy layout: the {what} claims {size} bytes but {len(data) - begin} are left",
            offset=offset,
            hint=_CUT_HINT,
        )
    return data[begin : begin + size], begin + size


def _serialize_legacy(container: PairContainer) -> bytes:
    if container.unknown:
        raise ValueError("the legacy layout has no place for unknown fields")
    parts = [_COUNT.pack(len(container.pairs))]
    for pair in container.pairs:
        if pair.uint32s_value or pair.unknown:
            raise ValueError(f"{pair.key!r}: a legacy value is bytes only")
        for part in (encode_text(pair.key), pair.bytes_value or b""):
            parts += (_SIZE.pack(len(part)), part)
    return b"".join(parts)
