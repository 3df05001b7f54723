"""Samples that wait on the disk come back as they were, from any thread."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import InputError
from droidmace.validation.spool import InputSpool

IMAGES = np.arange(7 * 6, dtype=np.float32).reshape(7, 1, 2, 3)
IDS = np.arange(7 * 2, dtype=np.int32).reshape(7, 2) - 5


def filled(folder: Path, count: int = 7) -> InputSpool:
    spool = InputSpool(folder)
    for index in range(count):
        spool.append({"image": IMAGES[index], "ids": IDS[index]})
    return spool


@given(most_bytes=st.integers(1, 400))
def test_arrays_hold_every_sample_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, most_bytes: int
) -> None:
    images, ids, position = [], [], 0
    with closing(filled(tmp_path_factory.getbasetemp())) as spool:
        for first, arrays in spool.arrays(most_bytes):
            assert first == position
            assert sum(one.nbytes for one in arrays.values()) <= max(most_bytes, 32)
            images.append(arrays["image"])
            ids.append(arrays["ids"])
            position += len(ids[-1])
    np.testing.assert_array_equal(np.concatenate(images), IMAGES)
    np.testing.assert_array_equal(np.concatenate(ids), IDS)


def test_it_is_a_sequence_of_files(tmp_path: Path) -> None:
    files = [{"image": IMAGES[i].tobytes(), "ids": IDS[i].tobytes()} for i in range(7)]
    with closing(filled(tmp_path)) as spool:
        assert len(spool) == 7
        assert list(spool) == files
        assert spool[3] == files[3]
        assert spool[-1] == files[-1]
        assert spool[1:3] == files[1:3]
        with pytest.raises(IndexError):
            spool[7]


def test_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    with closing(filled(tmp_path)) as spool, ThreadPoolExecutor(4) as pool:
        wanted = [IDS[index % 7].tobytes() for index in range(400)]
        assert list(pool.map(lambda index: spool[index % 7]["ids"], range(400))) == wanted


def test_samples_are_alike(tmp_path: Path) -> None:
    with closing(filled(tmp_path, 1)) as spool:
        for other in ({"image": IMAGES[0]}, {"image": IMAGES[0, 0], "ids": IDS[0]}):
            with pytest.raises(ValueError, match="other inputs"):
                spool.append(other)
        assert len(spool) == 1


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    with closing(filled(tmp_path)):
        pass
    assert not list(tmp_path.iterdir())


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """As a full disk: what goes beyond cannot be written (Python ignores SIGXFSZ)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path) -> None:
    big = {"image": np.zeros((1, 1 << 16), np.float32)}
    with closing(InputSpool(tmp_path)) as spool, files_up_to(4096):
        with pytest.raises(InputError, match="cannot be kept") as caught:
            spool.append(big)
        assert str(tmp_path) in str(caught.value)


def test_it_can_be_closed_on_a_full_disk(tmp_path: Path) -> None:
    spool = InputSpool(tmp_path)
    small = {"image": np.zeros((1, 300), np.float32)}
    with files_up_to(0):
        with pytest.raises(InputError, match="cannot be kept"):
            list(map(spool.append, [small] * 1000))
        spool.close()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=os.strerror(2)):
        InputSpool(tmp_path / "gone")
