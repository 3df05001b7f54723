"""IDX files, whole and broken."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.validation.idx import IdxFile, parse_idx, read_idx
from tests.validation.labelled_files import idx_bytes

CODES = {"uint8": 8, "int8": 9, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def encode(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, CODES[array.dtype.name], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([7, 0, 9], dtype=np.uint8)


@pytest.mark.parametrize("name", CODES)
def test_every_type_round_trips(tmp_path: Path, name: str) -> None:
    array = np.array([[1, -2], [3, 100]]).astype(name)
    (tmp_path / "x").write_bytes(encode(array))
    read = read_idx(tmp_path / "x")
    assert read.dtype == np.dtype(name)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("data", "complaint", "offset"),
    [
        (b"", "too few", 0),
        (b"\0\0\x08", "too few", 3),
        (b"PK\x08\x01", "not an IDX file", 0),
        (b"\0\0\x0a\x01", "unknown IDX type 0x0a", 2),
        (b"\0\0\x08\x00", "0 dimensions", 3),
        (b"\0\0\x08\x02\0\0\0\1", "ends in its header", 8),
        (encode(LABELS)[:-1], "announces 3 bytes of values", 10),
        (encode(LABELS) + b"x", "but 4 follow", 11),
        (b"\0\0\x0e\x03" + b"\xff" * 12, "but 0 follow", 16),
    ],
)
def test_broken_files(tmp_path: Path, data: bytes, complaint: str, offset: int) -> None:
    with pytest.raises(FormatError, match=complaint) as caught:
        parse_idx(data)
    assert caught.value.offset == offset
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(FormatError, match=f"x: .*{complaint}.*byte offset {offset}"):
        read_idx(tmp_path / "x")


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\0\0\x08\x01" + tail))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        array = parse_idx(data)
    except FormatError:
        return
    assert encode(array) == data


@pytest.mark.parametrize("cut", [15, -4])
def test_damaged_gzip(tmp_path: Path, cut: int) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(encode(IMAGES))[:cut])
    with pytest.raises(FormatError, match="damaged gzip"):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((3,), "announces 3 bytes of values"),
        ((1 << 20,), "more than 1000 bytes"),
        ((1 << 31, 1 << 31), r"announces \d+ bytes of values .*; the file has \d+"),
    ],
)
def test_gzip_bomb_is_not_unpacked(tmp_path: Path, shape: tuple[int, ...], complaint: str) -> None:
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    (tmp_path / "x").write_bytes(gzip.compress(header + bytes(1 << 20)))
    with pytest.raises(FormatError, match=complaint):
        read_idx(tmp_path / "x", max_bytes=1000)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read_idx(tmp_path / "nothing")


def test_values_of_another_file_are_not_taken_for_those_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "images"
    first = np.zeros((4, 2, 2), np.uint8)
    path.write_bytes(idx_bytes(first))
    with IdxFile(path) as file:
        np.testing.assert_array_equal(file.read(0, 2), first[:2])
        (tmp_path / "other").write_bytes(idx_bytes(first + 1))
        (tmp_path / "other").replace(path)
        with pytest.raises(FormatError, match="it changed while it was read"):
            file.read(2, 4)
