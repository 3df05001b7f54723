"""IDX files and labelled images, whole and broken."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError, InputError
from droidmace.validation.dataset import input_bytes, load_labelled_images
from droidmace.validation.idx import parse_idx, read_idx

CODES = {"uint8": 8, "int8": 9, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def encode(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, CODES[array.dtype.name], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([7, 0, 9], dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    images, labels = tmp_path / "images.gz", tmp_path / "labels"
    images.write_bytes(gzip.compress(encode(IMAGES)))
    labels.write_bytes(encode(LABELS))
    return images, labels


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


def test_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(FormatError, match="more than 1000 bytes"):
        read_idx(tmp_path / "x", max_bytes=1000)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read_idx(tmp_path / "nothing")


def test_inputs_in_both_layouts(files: tuple[Path, Path]) -> None:
    dataset = load_labelled_images(*files)
    assert len(dataset) == 3
    assert dataset.labels.tolist() == [7, 0, 9]
    nchw = dataset.inputs(mean=2, scale=4, layout="NCHW")
    nhwc = dataset.inputs(mean=2, scale=4, layout="NHWC")
    assert nchw.shape == (3, 1, 2, 4)
    assert nhwc.shape == (3, 2, 4, 1)
    assert nchw.dtype == np.float32
    assert nchw[1, 0, 0].tolist() == [1.5, 1.75, 2.0, 2.25]
    assert nhwc[1, 0, :, 0].tolist() == [1.5, 1.75, 2.0, 2.25]
    assert input_bytes(nchw)[1][:8] == struct.pack("<2f", 1.5, 1.75)
    assert [len(blob) for blob in input_bytes(nhwc)] == [32, 32, 32]


def test_limit(files: tuple[Path, Path]) -> None:
    assert load_labelled_images(*files, limit=2).labels.tolist() == [7, 0]
    assert len(load_labelled_images(*files, limit=99)) == 3
    with pytest.raises(InputError, match="leaves no image"):
        load_labelled_images(*files, limit=0)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (IMAGES, LABELS[:2], "labels: holds 2 labels for 3 images"),
        (LABELS, LABELS, "images.gz: holds uint8"),
        (IMAGES.astype(np.float32), LABELS, "instead of uint8 images"),
        (IMAGES, IMAGES, "instead of one integer label"),
        (IMAGES, LABELS.astype(np.float32), "instead of one integer label"),
        (IMAGES[:0], LABELS[:0], "holds no image"),
    ],
)
def test_files_that_do_not_fit(
    files: tuple[Path, Path], images: np.ndarray, labels: np.ndarray, complaint: str
) -> None:
    files[0].write_bytes(gzip.compress(encode(images)))
    files[1].write_bytes(encode(labels))
    with pytest.raises(FormatError, match=complaint):
        load_labelled_images(*files)


def test_scale_of_zero(files: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="scale is 0"):
        load_labelled_images(*files).inputs(mean=0, scale=0, layout="NCHW")
