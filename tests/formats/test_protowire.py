from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.formats.protowire import (
    MAX_FIELD_NUMBER,
    WireType,
    decode_text,
    encode_length_delimited,
    encode_tag,
    encode_text,
    encode_varint,
    iter_fields,
    read_varint,
    signed,
)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_round_trip_anywhere(value: int, before: bytes, after: bytes) -> None:
    encoded = encode_varint(value)
    data = before + encoded + after
    end = len(before) + len(encoded)
    assert read_varint(data, len(before), len(data)) == (value, end)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (-1, "ff" * 9 + "01")],
)
def test_varints_as_documented(value: int, encoded: str) -> None:
    assert encode_varint(value).hex() == encoded
    assert signed(read_varint(bytes.fromhex(encoded), 0, len(encoded) // 2)[0], 64) == value


@given(st.integers(0, 2**64 - 1))
def test_a_cut_varint_names_its_own_offset(value: int) -> None:
    data = b"xyz" + encode_varint(value)
    for end in range(3, len(data)):
        with pytest.raises(FormatError) as caught:
            read_varint(data, 3, end)
        assert caught.value.offset == 3


@pytest.mark.parametrize("encoded", [b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"])
def test_varints_beyond_64_bits_are_refused(encoded: bytes) -> None:
    with pytest.raises(FormatError, match="longer than 64 bits"):
        read_varint(encoded, 0, len(encoded))


def test_encoding_refuses_what_does_not_fit() -> None:
    for value in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match="does not fit into 64 bits"):
            encode_varint(value)


FIELDS = st.one_of(
    st.tuples(st.just(WireType.VARINT), st.integers(0, 2**64 - 1).map(encode_varint)),
    st.tuples(st.just(WireType.FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(WireType.FIXED64), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(WireType.LENGTH_DELIMITED), st.binary(max_size=200)),
)


@given(st.lists(st.tuples(st.integers(1, MAX_FIELD_NUMBER), FIELDS), max_size=8))
def test_fields_are_found_where_they_lie(
    fields: list[tuple[int, tuple[WireType, bytes]]],
) -> None:
    data = b"\xff\xff"  # what is before the message does not matter
    expected = []
    for number, (wire_type, payload) in fields:
        offset = len(data)
        if wire_type is WireType.LENGTH_DELIMITED:
            data += encode_length_delimited(number, payload)
        else:
            data += encode_tag(number, wire_type) + payload
        expected.append((number, wire_type, offset, payload, len(data)))

    found = [
        (field.number, field.wire_type, field.offset, data[field.start : field.end],
         field.next_offset)
        for field in iter_fields(data, 2)
    ]  # fmt: skip

    assert found == expected


def test_groups_are_one_field_and_must_be_closed() -> None:
    inner = encode_tag(3, WireType.START_GROUP) + b"\x08\x01" + encode_tag(3, WireType.END_GROUP)
    group = encode_tag(2, WireType.START_GROUP) + inner + encode_tag(2, WireType.END_GROUP)
    (field,) = iter_fields(group)
    assert (field.number, field.next_offset) == (2, len(group))

    for cut in range(1, len(group)):
        with pytest.raises(FormatError):
            list(iter_fields(group[:cut]))
    with pytest.raises(FormatError, match="inside of another"):
        list(iter_fields(encode_tag(2, WireType.START_GROUP) + encode_tag(3, WireType.END_GROUP)))
    with pytest.raises(FormatError, match="never began"):
        list(iter_fields(encode_tag(2, WireType.END_GROUP)))
    with pytest.raises(FormatError, match="too deeply"):
        list(iter_fields(encode_tag(2, WireType.START_GROUP) * 1000))


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"\x08\x01\x00", "0 is not a field number", 2),
        (b"\x08\x01\x0e", "6 is not a wire type", 2),
        (b"\x08\x01\x0a\xff\xff\xff\xff\x0f", r"claims 4294967295 bytes but only 0 are left", 2),
        (b"\x0d\x00\x00", "needs 4 bytes but only 2 are left", 0),
        (b"\x09\x00", "needs 8 bytes but only 1 are left", 0),
    ],
)
def test_what_is_wrong_is_said_with_its_offset(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        list(iter_fields(data))
    assert caught.value.offset == offset
    assert f"byte offset {offset}" in str(caught.value)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_fields_or_a_format_error(data: bytes) -> None:
    try:
        fields = list(iter_fields(data))
    except FormatError as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(data)
    else:
        assert b"".join(data[f.offset : f.next_offset] for f in fields) == data


@given(st.binary(max_size=30))
def test_text_loses_no_byte(data: bytes) -> None:
    assert encode_text(decode_text(data)) == data
