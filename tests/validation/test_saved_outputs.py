"""Outputs kept for another validation: written from a store, read as a reference."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from droidmace.errors import InputError
from droidmace.formats.tensor_values import Values
from droidmace.validation.layouts import ChannelOrder, Tensor
from droidmace.validation.saved_outputs import save_outputs
from droidmace.validation.store import OutputStore
from droidmace.validation.stored_outputs import StoredOutputs

TENSORS = (
    Tensor("a/b", (1, 3), "float32", "NONE"),
    Tensor("ids", (1, 2), "int32", "NONE"),
)


@dataclass(frozen=True)
class Piece:
    first: int
    outputs: dict[str, Values]


def filled(folder: Path, count: int, piece: int) -> tuple[OutputStore, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    floats = generator.normal(size=(count, 3)).astype(np.float32)
    whole = generator.integers(-9, 9, size=(count, 2)).astype(np.int32)
    store = OutputStore(folder, {"model": "m"})
    for first in reversed(range(0, count, piece)):
        rows = slice(first, first + piece)
        store.append(Piece(first, {"a/b": floats[rows], "ids": whole[rows]}))
    return store, floats, whole


@pytest.mark.parametrize(("count", "piece"), [(1, 1), (7, 3), (3000, 1024)])
def test_what_is_saved_is_what_a_reference_reads(tmp_path: Path, count: int, piece: int) -> None:
    store, floats, whole = filled(tmp_path / "store", count, piece)
    path = tmp_path / "deep" / "outputs.npz"
    with store:
        save_outputs(store, TENSORS, count, path)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["a/b"], floats)
        np.testing.assert_array_equal(arrays["ids"], whole)
        assert arrays["ids"].dtype == np.int32
    reference = StoredOutputs.open([path], TENSORS)
    assert reference.count == count
    found = reference.run({"image": np.zeros((1, 1))}, first=count - 1)
    np.testing.assert_array_equal(found["a/b"], floats[-1:])
    np.testing.assert_array_equal(found["ids"], whole[-1:])


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("out", (1, 8, 8, 4), data_format="NHWC"),
        Tensor("out", (1, 4, 8, 8), data_format="NCHW"),
        Tensor("out", (1, 8, 8, 8), data_format="NHWC"),
        Tensor("out", (100, 4), data_format="NONE"),
        Tensor("out", (2, 3, 4, 5), data_format="NHWC"),
        Tensor("out", (5,), data_format="NONE"),
    ],
)
def test_a_phone_agrees_with_its_own_outputs_in_any_layout(
    tmp_path: Path, tensor: Tensor, count: int, order: ChannelOrder
) -> None:
    values = np.arange(count * math.prod(tensor.shape), dtype=np.float32).reshape(count, -1)
    path = tmp_path / "outputs.npz"
    with OutputStore(tmp_path / "store", {}) as store:
        store.append(Piece(0, {"out": values}))
        save_outputs(store, [tensor], count, path, order=order)
    reference = StoredOutputs.open([path], [tensor], order=order)
    found = reference.run({"image": np.zeros((count, 1))})
    np.testing.assert_array_equal(found["out"], values)


def test_images_are_saved_as_the_original_model_has_them(tmp_path: Path) -> None:
    values = np.arange(2 * 24, dtype=np.float32).reshape(2, 2, 3, 4)
    path = tmp_path / "outputs.npz"
    with OutputStore(tmp_path / "store", {}) as store:
        store.append(Piece(0, {"out": values.reshape(2, -1)}))
        save_outputs(store, [Tensor("out", (1, 2, 3, 4))], 2, path, order="NCHW")
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["out"], values.transpose(0, 3, 1, 2).reshape(2, -1))


def test_a_file_that_was_there_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "outputs.npz"
    path.write_bytes(b"older")
    store, *_ = filled(tmp_path / "store", 4, 2)
    with store, pytest.raises(ValueError, match="not all known"):
        save_outputs(store, TENSORS, 5, path)
    assert path.read_bytes() == b"older"
    assert {one.name for one in tmp_path.iterdir()} == {"store", "outputs.npz"}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store, *_ = filled(tmp_path / "store", 2, 2)
    with store, pytest.raises(InputError, match="cannot be written"):
        save_outputs(store, TENSORS, 2, tmp_path / "file" / "outputs.npz")


def test_the_members_are_not_compressed_so_that_rows_are_found_at_once(tmp_path: Path) -> None:
    store, *_ = filled(tmp_path / "store", 2, 2)
    with store:
        save_outputs(store, TENSORS, 2, tmp_path / "outputs.npz")
    with zipfile.ZipFile(tmp_path / "outputs.npz") as archive:
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
