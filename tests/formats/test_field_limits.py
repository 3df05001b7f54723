"""A file made of very many fields is refused before it fills the memory."""

from __future__ import annotations

import pytest

from droidmace.errors import FormatError
from droidmace.formats.kvstore import KVPair, PairContainer
from droidmace.formats.message import parse_message, serialize_message
from droidmace.formats.protowire import iter_fields


def _limit(monkeypatch: pytest.MonkeyPatch, fields: int) -> None:
    monkeypatch.setattr("droidmace.formats.protowire.MAX_FIELDS", fields)


def test_fields_are_counted_over_all_nested_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty messages are two bytes each in a file, and hundreds in memory."""
    pairs = [KVPair("k", uint32s_value=(1, 2)) for _ in range(3)]
    data = serialize_message(PairContainer(tuple(pairs)))
    _limit(monkeypatch, 3 * (1 + 3))
    assert len(parse_message(PairContainer, data).pairs) == 3
    _limit(monkeypatch, 3 * (1 + 3) - 1)
    with pytest.raises(FormatError, match="more than 11 fields") as caught:
        parse_message(PairContainer, data)
    assert caught.value.offset == len(data) - 2


def test_fields_of_one_message_and_of_a_group_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _limit(monkeypatch, 4)
    assert len(list(iter_fields(b"\x08\x00" * 4))) == 4
    with pytest.raises(FormatError, match="more than 4 fields"):
        list(iter_fields(b"\x08\x00" * 5))
    with pytest.raises(FormatError, match="more than 4 fields"):
        list(iter_fields(b"\x0b" + b"\x08\x00" * 5 + b"\x0c"))
