"""Arrays from .npz files: images, ready inputs, and all that can be wrong with them."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import FormatError, InputError
from droidmace.validation.labels import ClassNames, Labels
from droidmace.validation.npy import read_header, read_npy
from droidmace.validation.sources.npz import NpzSource
from tests.validation.labelled_files import AnInput, noise

INPUTS = [AnInput((1, 1, 2, 2)), AnInput((1, 3), name="b", data_format="NONE")]


def opened(path: Path, inputs: list[AnInput] | None = None) -> NpzSource:
    return NpzSource(path, INPUTS[:1] if inputs is None else inputs, ClassNames())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_in_any_order(tmp_path: Path, save: object) -> None:
    images = noise(3000, 28, 28)
    path = tmp_path / "x.npz"
    save(path, x_test=images, y_test=np.arange(3000) % 10)  # type: ignore[operator]
    source = opened(path)
    assert source.count == 3000
    for begin, end in [(0, 3000), (2999, 3000), (10, 12), (12, 1500)]:
        found = list(source.read(begin, end))
        assert [sample.label for sample in found] == [n % 10 for n in range(begin, end)]
        stacked = np.stack([sample.pixels for sample in found if sample.pixels is not None])
        np.testing.assert_array_equal(stacked[..., 0], images[begin:end])


def test_colour_images_and_labels_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=noise(2, 4, 5, 3))
    source = NpzSource(tmp_path / "x.npz", INPUTS, ClassNames(), Labels((1, 0), tmp_path / "l"))
    found = list(source.read(0, 2))
    assert [sample.label for sample in found] == [1, 0]
    assert found[0].pixels is not None
    assert found[0].pixels.shape == (4, 5, 3)


@pytest.mark.parametrize("batched", [True, False])
def test_ready_inputs(tmp_path: Path, batched: bool) -> None:
    first, second = noise(4, 1, 2, 2).astype(np.float32), np.arange(12, dtype=">i4").reshape(4, 3)
    shape = (4, 1, 1, 2, 2) if batched else (4, 1, 2, 2)
    np.savez(tmp_path / "x.npz", image=first.reshape(shape), b=second, images=noise(1, 1, 1))
    for index, sample in enumerate(opened(tmp_path / "x.npz", INPUTS).read(0, 4)):
        assert sample.pixels is None
        assert sample.label is None
        assert sample.tensors is not None
        np.testing.assert_array_equal(sample.tensors["image"], first[index : index + 1])
        np.testing.assert_array_equal(sample.tensors["b"], second[index : index + 1])


def test_keras_labels_are_a_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_test=noise(2, 4, 4, 3), y_test=np.array([[3], [1]]))
    assert [sample.label for sample in opened(tmp_path / "x.npz").read(0, 2)] == [3, 1]


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"images": np.array([{}, []], object)}, "images.npy: .*pickled"),
        ({"images": noise(2, 4, 4), "labels": np.array(["a"], object)}, "labels.npy: .*pickled"),
        ({"images": noise(2, 4, 4), "labels": np.array([1])}, "x.npz: holds 1 labels for 2"),
        ({"images": noise(2, 4, 4), "labels": np.array([0.5, 1])}, "labels holds float64"),
        ({"images": noise(2, 4, 4), "labels": np.array([0, -1])}, "label 1: unknown class -1"),
        ({"images": noise(2, 4, 4), "labels": noise(2, 2)}, r"labels.npy: has shape \[2, 2\]"),
        ({"images": noise(4)}, r"has shape \[4\] instead of images"),
        ({"images": noise(0, 4, 4)}, "holds no sample"),
        ({"images": noise(2, 0, 4)}, "instead of images"),
        ({"other": noise(2, 4, 4)}, "holds no array image or images; it has other"),
        ({"images": np.array(["ab"])}, "not plain numbers"),
        ({"images": np.zeros((2, 4, 4), complex)}, "not plain numbers"),
        ({"images": np.zeros((2, 4, 4), [("a", "u1")])}, "not plain numbers"),
        ({"images": np.asfortranarray(noise(2, 4, 4))}, "Fortran"),
        ({"image": noise(3, 4, 4)}, r"image.npy: has shape \[3, 4, 4\], but input 'image'"),
        ({}, "it has none"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, np.ndarray], complaint: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=complaint) as caught:
        opened(tmp_path / "x.npz")
    assert caught.value.hint


def test_arrays_of_different_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=noise(4, 1, 2, 2), b=noise(3, 3))
    with pytest.raises(FormatError, match="b.npy: holds 3 samples, .*image.npy holds 4"):
        opened(tmp_path / "x.npz", INPUTS)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1024, 1024)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(FormatError, match="announces .* bytes of values, but 0 follow"):
        opened(tmp_path / "x.npz")


def test_damaged_files(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "good.npz", images=noise(50, 20, 20))
    good = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / "x.npz"
    for damaged in (b"", b"PK", good[:200], good[: len(good) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="x.npz: "):
            opened(path)
    middle = len(good) // 2
    path.write_bytes(good[:middle] + bytes(50) + good[middle + 50 :])
    with pytest.raises(FormatError, match="images.npy: damaged"):
        list(opened(path).read(0, 50))
    with pytest.raises(FormatError, match="No such file"):
        opened(tmp_path / "nowhere.npz")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    for begin in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"):
        try:
            header = read_header(io.BytesIO(begin + data))
        except FormatError:
            continue
        assert header.size <= len(begin + data)


@settings(max_examples=30)
@given(
    st.sampled_from(["u1", "<i2", ">i4", "<f4", ">f8", "?"]),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
)
def test_what_numpy_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, kind: str, shape: list[int]
) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    array = noise(*shape).astype(kind)
    np.save(path, array)
    found = read_npy(path, max_bytes=1 << 20)
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative
    if array.nbytes:
        with pytest.raises(FormatError, match="more than"):
            read_npy(path, max_bytes=array.nbytes - 1)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(FormatError, match="bytes of values"):
            read_npy(path, max_bytes=1 << 20)


def test_labels_are_counted_before_they_are_read(tmp_path: Path) -> None:
    header = io.BytesIO()
    count = 1 << 24
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    )
    np.savez(tmp_path / "x.npz", images=noise(2, 4, 4))
    with zipfile.ZipFile(tmp_path / "x.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", header.getvalue() + bytes(8 * count))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=f"holds {count} labels for 2"):
            opened(tmp_path / "x.npz")
        assert tracemalloc.get_traced_memory()[1] < 8 * count
    finally:
        tracemalloc.stop()


def test_a_file_that_is_cut_while_it_is_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=noise(400, 28, 28))
    source = opened(path)
    with path.open("r+b") as stream:
        stream.truncate(100_000)
    with pytest.raises(FormatError, match="images.npy: damaged: it ends too early"):
        list(source.read(0, 400))
    source.close()
