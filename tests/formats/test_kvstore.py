from __future__ import annotations

import dataclasses
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.formats.kvstore import Generation, KeyValueStore, KVPair
from droidmace.formats.protowire import decode_text, encode_length_delimited

KEYS = st.binary(max_size=12).map(decode_text)
CURRENT_PAIRS = st.lists(
    st.builds(
        KVPair,
        KEYS,
        st.none() | st.binary(max_size=20),
        st.lists(st.integers(0, 2**32 - 1), max_size=4).map(tuple),
    ),
    max_size=5,
)
LEGACY_PAIRS = st.lists(st.builds(KVPair, KEYS, st.binary(max_size=20)), max_size=5)


def current(content: bytes) -> bytes:
    return content + struct.pack("<I", zlib.crc32(content))


def legacy(*pairs: tuple[bytes, bytes]) -> bytes:
    data = struct.pack("<Q", len(pairs))
    for key, value in pairs:
        data += struct.pack("<i", len(key)) + key + struct.pack("<i", len(value)) + value
    return data


@given(CURRENT_PAIRS)
def test_current_round_trip(pairs: list[KVPair]) -> None:
    built = KeyValueStore.build(pairs)
    data = built.serialize()
    parsed = KeyValueStore.parse(data)
    assert parsed == built
    assert parsed.generation is Generation.CURRENT
    assert parsed.serialize() == data


@given(LEGACY_PAIRS)
def test_legacy_round_trip(pairs: list[KVPair]) -> None:
    built = KeyValueStore.build(pairs, Generation.LEGACY)
    data = built.serialize()
    parsed = KeyValueStore.parse(data)
    assert parsed == built
    assert parsed.generation is Generation.LEGACY
    assert parsed.serialize() == data


def test_layouts_by_hand() -> None:
    pair = b"\x0a\x01k\x12\x02vv\x18\x05\x18\xac\x02"
    data = current(b"\x0a" + bytes([len(pair)]) + pair)
    assert KeyValueStore.build([KVPair("k", b"vv", (5, 300))]).serialize() == data
    assert KeyValueStore.parse(data).pairs == (KVPair("k", b"vv", (5, 300)),)

    data = legacy((b"key", b"value"), (b"", b""))
    pairs = (KVPair("key", b"value"), KVPair("", b""))
    assert KeyValueStore.parse(data).pairs == pairs
    assert KeyValueStore.build(pairs, Generation.LEGACY).serialize() == data


def test_other_writers_encodings_survive() -> None:
    packed = b"\x0a\x01k\x1a\x03\x05\xac\x02"  # packed numbers
    overlong = b"\x0a\x81\x00k\x18\x85\x00"  # varints longer than needed
    reordered = b"\x18\x05\x0a\x01k"  # the value before the key
    strange = b"\x0a\x01k\x18\x05\x2a\x03abc"  # an unknown field
    content = b"".join(
        encode_length_delimited(1, pair) for pair in (packed, overlong, reordered, strange, strange)
    )
    data = current(content + b"\x78\x07")  # and an unknown field of the container

    store = KeyValueStore.parse(data)

    assert [pair.key for pair in store.pairs] == ["k"] * 5
    assert store.pairs[0].uint32s_value == (5, 300)
    assert store.serialize() == data
    assert store.find("k") is store.pairs[0]

    # Dropping one pair leaves the others and the unknown field as they were.
    rest = dataclasses.replace(store.container, pairs=store.pairs[1:])
    kept = dataclasses.replace(store, container=rest).serialize()
    assert kept == current(
        b"".join(encode_length_delimited(1, p) for p in (overlong, reordered, strange, strange))
        + b"\x78\x07"
    )


@given(st.binary(max_size=80))
@example(bytes(4))
@example(bytes(8))
@example(legacy((b"k", b"v")))
def test_arbitrary_bytes_are_a_store_or_a_format_error(data: bytes) -> None:
    try:
        store = KeyValueStore.parse(data)
    except FormatError as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(data)
    else:
        assert store.serialize() == data


@given(st.binary(max_size=80))
def test_arbitrary_content_with_a_right_crc(content: bytes) -> None:
    data = current(content)
    try:
        store = KeyValueStore.parse(data)
    except FormatError as error:
        assert error.offset is not None
    else:
        assert store.serialize() == data


@given(CURRENT_PAIRS.filter(bool))
def test_every_truncation_of_a_current_file_is_noticed(pairs: list[KVPair]) -> None:
    data = KeyValueStore.build(pairs).serialize()
    for end in range(len(data)):
        with pytest.raises(FormatError):
            KeyValueStore.parse(data[:end])


@given(LEGACY_PAIRS.filter(bool))
def test_every_truncation_of_a_legacy_file_is_noticed(pairs: list[KVPair]) -> None:
    data = KeyValueStore.build(pairs, Generation.LEGACY).serialize()
    for end in range(len(data)):
        with pytest.raises(FormatError):
            KeyValueStore.parse(data[:end])
    with pytest.raises(FormatError, match="follow after the last"):
        KeyValueStore.parse(data + b"\0")


@given(CURRENT_PAIRS, st.data())
def test_every_flipped_bit_of_a_current_file_is_noticed(
    pairs: list[KVPair], data: st.DataObject
) -> None:
    whole = KeyValueStore.build(pairs).serialize()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FormatError):
        KeyValueStore.parse(bytes(damaged))


def test_a_wrong_crc_says_both_values_and_what_to_do() -> None:
    data = bytearray(KeyValueStore.build([KVPair("key", b"value")]).serialize())
    data[-1] ^= 0xFF
    with pytest.raises(FormatError) as caught:
        KeyValueStore.parse(bytes(data))
    error = caught.value
    stored, actual = struct.unpack("<I", data[-4:])[0], zlib.crc32(data[:-4])
    assert f"CRC-32 is 0x{stored:08x} but the content has 0x{actual:08x}" in error.message
    assert error.offset == len(data) - 4
    assert "pull it again" in (error.hint or "")
    assert "structure is whole" in (error.details or "")


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "empty", 0),
        (b"\x01\x02", "too few for a CRC-32", 2),
        (struct.pack("<Q", 2**20), "claims 1048576 pairs but has room for 0", 0),
        (struct.pack("<Q", 2**20 + 1), "CRC-32 is", 4),
        (legacy((b"k", b"v"))[:-1], "value of pair 0 claims 1 bytes but 0 are left", 13),
        (struct.pack("<Qii", 1, -5, 0), "key of pair 0 claims -5 bytes", 8),
        (struct.pack("<Qi", 1, 2**31 - 1) + bytes(8), "key of pair 0 claims 2147483647", 8),
    ],
)
def test_errors_say_where(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        KeyValueStore.parse(data)
    assert caught.value.offset == offset


def test_a_legacy_file_cannot_hold_what_it_has_no_place_for() -> None:
    for pair in (KVPair("k", b"", (1,)), KVPair("k", b"", unknown=b"\x28\x01")):
        with pytest.raises(ValueError, match="bytes only"):
            KeyValueStore.build([pair], Generation.LEGACY).serialize()
