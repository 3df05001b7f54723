"""Outputs that lie in files, as the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from droidmace.errors import FormatError, InputError
from droidmace.validation.layouts import Tensor
from droidmace.validation.reference import ReferenceOutputs
from droidmace.validation.stored_outputs import StoredOutputs

SCORES = Tensor("net/scores:0", (1, 6), data_format="NONE")
IMAGE = Tensor("image", (1, 4, 5, 2))
VALUES = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
PICTURES = np.random.default_rng(1).normal(size=(9, 4, 5, 2)).astype(np.float32)


def asked(count: int) -> dict[str, np.ndarray]:
    return {"x": np.zeros((count, 3), dtype=np.float32)}


def stored(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", ">f4", "<i4"])
def test_npy_of_any_number(tmp_path: Path, dtype: str) -> None:
    values = (VALUES * 10).astype(dtype)
    outputs: ReferenceOutputs = StoredOutputs.open([stored(tmp_path / "s.npy", values)], [SCORES])
    found = outputs.run(asked(4), first=3)["net/scores:0"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values[3:7].astype(np.float32))
    assert outputs.description == "stored outputs in s.npy"


@pytest.mark.parametrize("kept", ["NCHW", "NHWC"])
def test_images_by_their_shape(tmp_path: Path, kept: str) -> None:
    values = PICTURES.transpose(0, 3, 1, 2) if kept == "NCHW" else PICTURES
    outputs = StoredOutputs.open([stored(tmp_path / "i.npy", values)], [IMAGE])
    assert outputs.count == 9
    np.testing.assert_array_equal(outputs.run(asked(9))["image"], PICTURES.reshape(9, -1))


def test_raw_images_lie_as_the_platform_has_them(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(PICTURES.transpose(0, 3, 1, 2).astype("<f4").tobytes())
    outputs = StoredOutputs.open([path], [IMAGE])
    np.testing.assert_array_equal(outputs.run(asked(2), first=1)["image"][0], PICTURES[1].ravel())
    path.write_bytes(PICTURES.astype("<f4").tobytes())
    outputs = StoredOutputs.open([path], [IMAGE], order="NHWC")
    np.testing.assert_array_equal(outputs.run(asked(2), first=1)["image"][0], PICTURES[1].ravel())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["net/scores:0", "net_scores_0"])
def test_npz_by_name(tmp_path: Path, save: object, name: str) -> None:
    assert callable(save)
    save(tmp_path / "all.npz", **{"image": PICTURES, name: VALUES})
    outputs = StoredOutputs.open([tmp_path / "all.npz"], [SCORES, IMAGE])
    for first, count in ((4, 5), (0, 2), (2, 7)):
        found = outputs.run(asked(count), first=first)
        wanted = slice(first, first + count)
        np.testing.assert_array_equal(found["net/scores:0"], VALUES[wanted])
        np.testing.assert_array_equal(found["image"], PICTURES[wanted].reshape(count, -1))
    outputs.close()


def test_one_file_per_output_and_one_sample_without_a_batch_dimension(tmp_path: Path) -> None:
    files = [stored(tmp_path / "a.npy", VALUES[0]), stored(tmp_path / "b.npy", PICTURES[0])]
    np.savez(tmp_path / "both.npz", **{"net/scores:0": VALUES[0], "image": PICTURES[0]})
    for given in (files, [tmp_path / "both.npz"]):
        outputs = StoredOutputs.open(given, [SCORES, IMAGE])
        assert outputs.count == 1
        found = outputs.run(asked(1))
        outputs.close()
        assert found["net/scores:0"].tolist() == [VALUES[0].tolist()]
        assert found["image"].tolist() == [PICTURES[0].ravel().tolist()]


def test_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "best"
    path.write_bytes(np.array([2**24 + 1, -5], dtype="<i4").tobytes())
    outputs = StoredOutputs.open([path], [Tensor("best", (1,), "int32", "NONE")])
    assert outputs.run(asked(2))["best"].tolist() == [[2**24 + 1], [-5]]


def test_identity_is_that_of_the_content(tmp_path: Path) -> None:
    path = stored(tmp_path / "s.npy", VALUES)
    before = StoredOutputs.open([path], [SCORES]).identity
    assert StoredOutputs.open([path], [SCORES]).identity == before
    stored(path, VALUES + 1)
    assert StoredOutputs.open([path], [SCORES]).identity != before


class TestWhatDoesNotFit:
    def test_fewer_samples_than_asked_for(self, tmp_path: Path) -> None:
        outputs = StoredOutputs.open([stored(tmp_path / "s.npy", VALUES)], [SCORES])
        with pytest.raises(InputError, match=r"holds 9 samples of 'net/scores:0', but 11") as e:
            outputs.run(asked(4), first=7)
        assert e.value.hint is not None
        assert "--limit" in e.value.hint

    def test_another_size(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="a sample of 'net/scores:0' has 6 values"):
            StoredOutputs.open([stored(tmp_path / "s.npy", VALUES[:, :5])], [SCORES])

    def test_another_shape_of_the_same_size(self, tmp_path: Path) -> None:
        turned = PICTURES.transpose(0, 2, 1, 3)
        with pytest.raises(FormatError, match=r"holds \[9, 5, 4, 2\]; 'image' is"):
            StoredOutputs.open([stored(tmp_path / "i.npy", turned)], [IMAGE])

    def test_number_of_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="1 files for 2 outputs"):
            StoredOutputs.open([stored(tmp_path / "s.npy", VALUES)], [SCORES, IMAGE])

    def test_name_that_is_not_there(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "s.npz", other=VALUES)
        with pytest.raises(InputError, match="no array 'net/scores:0', only other"):
            StoredOutputs.open([tmp_path / "s.npz"], [SCORES])

    @pytest.mark.parametrize("name", ["s.npy", "s.npz", "s"])
    def test_no_file(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FormatError, match="cannot be read"):
            StoredOutputs.open([tmp_path / name], [SCORES])

    @pytest.mark.parametrize("name", ["s.npy", "s.npz"])
    @pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00\xff\xff{"])
    def test_not_what_its_name_says(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match="not a .npy array|not a zip file"):
            StoredOutputs.open([tmp_path / name], [SCORES])

    def test_cut_off(self, tmp_path: Path) -> None:
        path = stored(tmp_path / "s.npy", VALUES)
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(FormatError, match="announces 216 bytes of values, but 212 follow"):
            StoredOutputs.open([path], [SCORES])

    def test_raw_of_another_size(self, tmp_path: Path) -> None:
        (tmp_path / "raw").write_bytes(bytes(25))
        with pytest.raises(FormatError, match="holds 25 bytes; a sample of 'net/scores:0' has 24"):
            StoredOutputs.open([tmp_path / "raw"], [SCORES])

    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        np.save(tmp_path / "s.npy", np.array([{}] * 6, dtype=object), allow_pickle=True)
        with pytest.raises(FormatError, match="could run any code"):
            StoredOutputs.open([tmp_path / "s.npy"], [SCORES])

    def test_columns_first(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="Fortran's order"):
            StoredOutputs.open([stored(tmp_path / "s.npy", np.asfortranarray(VALUES))], [SCORES])
