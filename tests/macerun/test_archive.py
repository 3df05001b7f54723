"""The archives that a phone's tar writes, taken apart in whatever pieces they come."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.macerun.archive import Unpacker

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)
files = st.dictionaries(names.filter(lambda name: name.strip("./")), st.binary(max_size=1500))
FORMATS = [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]


def packed(content: dict[str, bytes], kind: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def unpacked(pieces: Iterable[bytes]) -> tuple[dict[str, bytes], bool]:
    found: dict[str, bytearray] = {}

    def place(name: str, size: int) -> memoryview:
        assert name not in found
        found[name] = bytearray(size)
        return memoryview(found[name])

    unpacker = Unpacker(place)
    for piece in pieces:
        unpacker.feed(piece)
    return {name: bytes(data) for name, data in found.items()}, unpacker.ended


@given(files, st.sampled_from(FORMATS), st.integers(1, 2000))
@example({"n" * 100: b"x"}, tarfile.GNU_FORMAT, 1)
@example({"n" * 101: b"x" * 512}, tarfile.GNU_FORMAT, 513)
@example({"a" * 90 + "/" + "b" * 90: b""}, tarfile.USTAR_FORMAT, 7)
def test_every_file_comes_out_as_it_went_in(
    content: dict[str, bytes], kind: int, size: int
) -> None:
    try:
        data = packed(content, kind)
    except ValueError:
        return  # a name that ustar cannot hold
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert unpacked(pieces) == (content, True)


def test_what_toybox_writes(tmp_path: Path) -> None:
    toybox = shutil.which("toybox")
    assert toybox is not None
    content = {f"./{'t' * length}_{length}": bytes([length]) * length * 7 for length in range(150)}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [toybox, "tar", "-c", "-f", "-", "-C", str(tmp_path), "."], capture_output=True, check=True
    )
    assert unpacked([done.stdout]) == (content, True)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damage_is_told_or_shows_in_what_comes_out(offset: int, value: int) -> None:
    content = {"one": b"1" * 40, "n" * 150: b"2" * 600}
    data = bytearray(packed(content, tarfile.GNU_FORMAT))
    data[offset % len(data)] = value
    try:
        found, _ = unpacked([bytes(data)])
    except FormatError:
        return
    # Content has no checksum, nor has a long name, which is content as well: but sizes have.
    assert [len(one) for one in found.values()] == [40, 600]


@given(st.binary(max_size=3000), st.integers(1, 600))
def test_garbage_is_no_archive(data: bytes, size: int) -> None:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    try:
        found, _ = unpacked(pieces)
    except FormatError:
        return
    assert not found


def test_a_cut_archive_has_no_end() -> None:
    data = packed({"one": b"1" * 40}, tarfile.USTAR_FORMAT)
    found, ended = unpacked([data[: 2 * 512 + 512]])
    assert set(found) == {"one"}
    assert not ended


def test_a_file_that_is_not_wanted_is_passed_over() -> None:
    kept = bytearray(3)
    unpacker = Unpacker(lambda name, _: memoryview(kept) if name == "yes" else None)
    data = packed({"no": b"x" * 2000, "yes": b"abc"}, tarfile.USTAR_FORMAT)
    for start in range(0, len(data), 100):
        unpacker.feed(data[start : start + 100])
    assert kept == b"abc"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("one")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(FormatError, match="neither file nor folder"):
        unpacked([stream.getvalue()])


def test_a_name_is_never_longer_than_a_path() -> None:
    data = packed({"n" * 5000: b""}, tarfile.GNU_FORMAT)
    with pytest.raises(FormatError, match="a name of 5001 bytes"):
        unpacked([data])
