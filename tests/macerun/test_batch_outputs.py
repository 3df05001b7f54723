"""Outputs of a chunk: names are told apart exactly, and what is wrong is counted right."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.macerun.batch_outputs import BatchOutputs, split_index, split_suffix
from droidmace.macerun.invocation import TensorArg, sample_file_name

BOX, SCORES = TensorArg("a/box", (2, 2)), TensorArg("scores", (1, 3), "int32", "NONE")
COUNT = 30


def archive(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def all_files() -> dict[str, bytes]:
    return {
        sample_file_name(tensor, split_suffix(index)): np.full(
            tensor.size_bytes // 4, index, "<f4" if tensor is BOX else "<i4"
        ).tobytes()
        for tensor in (SCORES, BOX)
        for index in range(COUNT)
    }


def taken(files: Mapping[str, bytes]) -> BatchOutputs:
    outputs = BatchOutputs((BOX, SCORES), COUNT)
    outputs.feed(archive(files))
    return outputs


@given(st.integers(0, 26**4 - 1))
def test_suffixes_are_numbers(index: int) -> None:
    assert split_index(split_suffix(index)) == index


def test_suffixes_are_in_the_order_of_split() -> None:
    assert [split_suffix(index) for index in (0, 25, 26, 676)] == [
        "_aaaa",
        "_aaaz",
        "_aaba",
        "_abaa",
    ]
    with pytest.raises(ValueError, match="too many"):
        split_suffix(26**4)


@given(st.text(max_size=6))
def test_only_split_s_own_suffixes_are_numbers(text: str) -> None:
    index = split_index(text)
    assert index is None or split_suffix(index) == text


def test_every_output_goes_to_its_sample() -> None:
    outputs = taken(all_files())
    assert not outputs.problems()
    assert outputs.wrong == 0
    for tensor in (BOX, SCORES):
        expected = np.repeat(np.arange(COUNT), tensor.size_bytes // 4).reshape(COUNT, -1)
        np.testing.assert_array_equal(outputs.values[tensor.name], expected)


def test_wrong_outputs_are_counted_without_strangers() -> None:
    files = all_files()
    del files["a_box_aaab"], files["scores_aaac"]
    files["a_box_aaad"] = b"short"
    files |= {"a_box_aaaa0": b"", "other": b"", "a_box_aazz": b"", "scores_AAAA": b""}
    outputs = taken(files)
    assert outputs.wrong == 3
    told = "\n".join(outputs.problems())
    assert "a_box_aaab was not written" in told
    assert "scores_aaac was not written" in told
    assert "a_box_aaad has 5 bytes instead of 16" in told
    assert told.count("is not what was asked for") == 4


def test_a_second_one_does_not_replace_the_first() -> None:
    outputs = BatchOutputs((BOX, SCORES), COUNT)
    whole = archive(all_files())
    end = outputs_end(whole)
    outputs.feed(whole[:end])
    outputs.feed(archive({"a_box_aaab": bytes(16)}))
    assert outputs.problems() == ["'a_box_aaab' came twice"]
    assert outputs.values["a/box"][1].tolist() == [1.0] * 4
    assert outputs.wrong == 0


def outputs_end(whole: bytes) -> int:
    """Where the blocks of zeros begin that end an archive."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512
