"""Our wire format against Google's protobuf package, on every message that MACE has."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.formats import kvstore, netdef
from droidmace.formats.message import Message, parse_message, serialize_message

pytest.importorskip("google.protobuf", reason="the reference implementation")

from mace_schema import DATA_TYPES, OPTIONAL, REFERENCE, SCHEMA

OURS: dict[str, type[Message]] = {
    name: getattr(kvstore if name in ("KVPair", "PairContainer") else netdef, name)
    for name in SCHEMA
    if name != "PackedPair"
}
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "bool": st.booleans(),
    "float": st.floats(width=32, allow_nan=False),
    "string": st.text(max_size=8),
    "bytes": st.binary(max_size=8),
    "DataType": st.integers(0, len(DATA_TYPES) - 1),
}


def reference_messages(name: str) -> st.SearchStrategy[Any]:
    """Random messages of protobuf's own making; every optional field may be absent."""

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        message = REFERENCE[name]()
        for label, kind, field, _, _ in SCHEMA[name]:
            value = SCALARS[kind] if kind in SCALARS else reference_messages(kind)
            if label != OPTIONAL:
                getattr(message, field).extend(draw(st.lists(value, max_size=2)))
            elif draw(st.booleans()):
                setattr(message, field, draw(value))
        return message

    return build()


def assert_same(name: str, ours: Any, reference: Any) -> None:
    for label, kind, field, _, attribute in SCHEMA[name]:
        theirs, mine = getattr(reference, field), getattr(ours, attribute)
        if kind in SCHEMA:
            assert len(mine) == len(theirs)
            for our_item, their_item in zip(mine, theirs, strict=True):
                assert_same(kind, our_item, their_item)
        elif label != OPTIONAL:
            assert mine == tuple(theirs)
        elif mine is None:
            assert not reference.HasField(field)
        else:
            assert mine == theirs


def forget_origin_bytes(message: Any) -> Any:
    """The same message, but it no longer knows the bytes it was read from (only which were set)."""
    values = {
        field.name: tuple(forget_origin_bytes(item) for item in getattr(message, field.name))
        for field in dataclasses.fields(message)
        if isinstance(getattr(message, field.name), tuple)
        and any(isinstance(item, Message) for item in getattr(message, field.name))
    }
    origin = message.origin
    forgotten = dataclasses.replace(origin, data=b"", values=tuple(object() for _ in origin.values))
    return dataclasses.replace(message, origin=forgotten, **values)


@pytest.mark.parametrize("name", sorted(OURS))
@given(data=st.data())
def test_reads_and_writes_what_protobuf_does(name: str, data: st.DataObject) -> None:
    reference = data.draw(reference_messages(name))
    encoded = reference.SerializeToString(deterministic=True)

    ours = parse_message(OURS[name], encoded)

    assert_same(name, ours, reference)
    assert serialize_message(ours) == encoded
    assert serialize_message(forget_origin_bytes(ours)) == encoded


@given(data=st.data())
def test_keeps_fields_that_the_schema_does_not_have(data: st.DataObject) -> None:
    # An op read as a pair: what a pair does not have must come out again as it was.
    reference = REFERENCE["InputOutputInfo"]()
    reference.name = data.draw(st.text(max_size=5))
    reference.max_byte_size = data.draw(SCALARS["int32"])
    reference.scale = data.draw(SCALARS["float"])
    reference.alias = data.draw(st.text(max_size=5))
    encoded = reference.SerializeToString(deterministic=True)

    pair = parse_message(kvstore.KVPair, encoded)
    renamed = dataclasses.replace(pair, key="other")

    assert pair.key == reference.name
    assert serialize_message(pair) == encoded
    again = REFERENCE["InputOutputInfo"].FromString(serialize_message(renamed))
    reference.name = "other"
    assert again == reference


@given(st.text(max_size=5), st.lists(SCALARS["uint32"], max_size=5))
def test_reads_packed_numbers(key: str, numbers: list[int]) -> None:
    encoded = REFERENCE["PackedPair"](key=key, uint32s_value=numbers).SerializeToString()

    pair = parse_message(kvstore.KVPair, encoded)

    assert pair.uint32s_value == tuple(numbers)
    assert serialize_message(pair) == encoded
    changed = dataclasses.replace(pair, uint32s_value=(*numbers, 7))
    assert REFERENCE["KVPair"].FromString(serialize_message(changed)).uint32s_value == [*numbers, 7]
