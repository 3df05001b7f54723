"""Outputs on the disk: what was written counts, whatever becomes of the writer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError, InputError
from droidmace.validation.store import OutputStore

IDENTITY = {"model": "abc", "device": "adreno"}


@dataclass(frozen=True)
class Part:
    """Outputs of consecutive samples."""

    first: int
    outputs: Mapping[str, Any]


def part(first: int, count: int) -> Part:
    """Each value says which sample and which element it is."""
    numbers = np.arange(first, first + count)[:, None]
    return Part(
        first,
        {
            "scores": (numbers + np.arange(3) / 10).astype(np.float32),
            "labels": (numbers * 2).astype(np.int32),
        },
    )


def same(found: Mapping[str, Any], wanted: Part) -> bool:
    return list(found) == list(wanted.outputs) and all(
        found[name].dtype == values.dtype and np.array_equal(found[name], values)
        for name, values in wanted.outputs.items()
    )


@given(st.permutations(range(6)), st.integers(1, 9), st.integers(0, 5), st.integers(1, 12))
def test_what_is_kept_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[int],
    size: int,
    missing: int,
    batch: int,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    done = [number for number in order if number != missing]
    for number in done:
        with OutputStore(folder, IDENTITY) as store:
            store.append(part(number * size, size))
    with OutputStore(folder, IDENTITY) as store:
        known = [number * size + i for number in sorted(done) for i in range(size)]
        assert [i for one in store.done for i in one] == known
        gaps = [i for one in store.missing(6 * size) for i in one]
        assert sorted(known + gaps) == list(range(6 * size))
        for number in done:
            assert same(store.read(number * size, size), part(number * size, size))
        read = []
        for first, outputs in store.batches(batch):
            count = len(outputs["scores"])
            assert 0 < count <= batch
            assert same(outputs, part(first, count))
            read += range(first, first + count)
        assert read == known
        with pytest.raises(ValueError, match="not all known"):
            store.read(missing * size, size)


def test_a_chunk_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 2))
        whole = (tmp_path / "outputs.bin").read_bytes()
        store.append(part(2, 1))
    longer = (tmp_path / "outputs.bin").read_bytes()
    for length in range(len(whole), len(longer)):
        (tmp_path / "outputs.bin").write_bytes(longer[:length])
        with OutputStore(tmp_path, IDENTITY) as store:
            assert store.done == (range(2),)
            assert store.cut_bytes == length - len(whole)
            assert store.missing(3) == (range(2, 3),)
            store.append(part(2, 1))
        assert (tmp_path / "outputs.bin").read_bytes() == longer


def test_damage_is_never_taken_for_outputs(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 1))
        store.append(part(1, 1))
    good = (tmp_path / "outputs.bin").read_bytes()
    for offset in range(len(good)):
        damaged = bytearray(good)
        damaged[offset] ^= 0x20
        (tmp_path / "outputs.bin").write_bytes(damaged)
        with OutputStore(tmp_path, IDENTITY) as store:
            assert store.done in ((), (range(1),))
            for one in store.done:
                assert same(store.read(one.start, len(one)), part(one.start, len(one)))


def test_a_length_beyond_the_file_is_damage(tmp_path: Path) -> None:
    """Its header is whole, so nothing but the file's end speaks against it."""
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 4))
    data = (tmp_path / "outputs.bin").read_bytes()
    (tmp_path / "outputs.bin").write_bytes(data[:-1])
    with OutputStore(tmp_path, IDENTITY) as store:
        assert store.done == ()
        assert store.cut_bytes == len(data) - 1


def test_nothing_is_kept_twice(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(10, 5))
        for first, count in ((10, 5), (14, 1), (0, 11), (12, 1), (0, 100)):
            with pytest.raises(ValueError, match="known already"):
                store.append(part(first, count))
        store.append(part(0, 10))
        assert store.done == (range(15),)


def test_outputs_of_another_kind_are_refused(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 1))
        for outputs in (
            {"scores": np.zeros((1, 3), np.float32)},
            {"scores": np.zeros((1, 4), np.float32), "labels": np.zeros((1, 1), np.int32)},
            {"scores": np.zeros((1, 3), np.int32), "labels": np.zeros((1, 1), np.int32)},
        ):
            with pytest.raises(ValueError, match="another model"):
                store.append(Part(1, outputs))
        for outputs in (
            {},
            {"scores": np.zeros((0, 3), np.float32)},
            {"scores": np.zeros((1, 3), np.float32), "labels": np.zeros((2, 1), np.int32)},
        ):
            with pytest.raises(ValueError, match="without outputs"):
                store.append(Part(1, outputs))
        with pytest.raises(ValueError, match="float64"):
            store.append(Part(1, {"scores": np.zeros((1, 3))}))
        assert store.done == (range(1),)


def test_a_store_of_another_run_is_refused(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 1))
    with pytest.raises(InputError, match=r"another run: device, preprocess differ") as caught:
        OutputStore(tmp_path, {"model": "abc", "device": "mali", "preprocess": "x"})
    assert caught.value.where == str(tmp_path)
    with OutputStore(tmp_path, IDENTITY) as store:
        assert store.done == (range(1),)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"identity": 3, "outputs": []}', "[" * 100_000]
    + [
        json.dumps({"identity": IDENTITY, "outputs": [one]})
        for one in (["a", 0, "int32"], ["a", 1, "object"], [1, 1, "int32"], ["a", 1], ["a", 2.5, 1])
    ],
)
def test_a_damaged_identity_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.json").write_text(text)
    with pytest.raises(FormatError, match="damaged"):
        OutputStore(tmp_path, IDENTITY)


def test_outputs_without_their_identity_are_not_guessed_at(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 1))
    (tmp_path / "identity.json").unlink()
    with pytest.raises(FormatError, match=r"identity\.json is gone"):
        OutputStore(tmp_path, IDENTITY)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be stored"):
        OutputStore(tmp_path / "file" / "store", IDENTITY)


def test_a_write_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    import os

    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(0, 1))
        before = (tmp_path / "outputs.bin").read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            store.append(part(1, 1))
        monkeypatch.undo()
        assert (tmp_path / "outputs.bin").read_bytes() == before
        assert store.done == (range(1),)
        store.append(part(1, 1))
        assert same(store.read(0, 2), part(0, 2))


def test_the_format_is_as_described(tmp_path: Path) -> None:
    with OutputStore(tmp_path, IDENTITY) as store:
        store.append(part(7, 2))
    data = (tmp_path / "outputs.bin").read_bytes()
    content = data[36:]
    assert data[:4] == b"dmo1"
    assert [int.from_bytes(data[i : i + 8], "little") for i in (4, 12, 20)] == [7, 2, 32]
    assert int.from_bytes(data[28:32], "little") == zlib.crc32(content)
    assert int.from_bytes(data[32:36], "little") == zlib.crc32(data[:32])
    assert np.frombuffer(content[24:], "<i4").tolist() == [14, 16]
