"""Files in and out, as the sync service handles them."""

from __future__ import annotations

import os
import socket
import stat
import struct

import pytest

from droidmace.emulator.adbd.sync_files import (
    DEFAULT_TMP_SUFFIX,
    IncomingFile,
    OutgoingFile,
    listing,
    remove_stale,
)


def incoming(path, mode=0o100644) -> IncomingFile:
    return IncomingFile(os.fsencode(path), mode, DEFAULT_TMP_SUFFIX)


def pieces(data: bytes) -> list[memoryview]:
    return [memoryview(data)]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "er" / "file"
    file = incoming(target, 0o100750)
    file.write(pieces(b"new "))
    file.write(pieces(b"content"))
    assert not target.exists()
    file.commit(1234)
    file.discard()
    assert target.read_bytes() == b"new content"
    assert target.stat().st_mtime == 1234
    assert stat.S_IMODE(target.stat().st_mode) == 0o777, "group and others get the owner's bits"
    assert names(target.parent) == ["file"]


def test_an_abandoned_push_keeps_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    file = incoming(target)
    file.write(pieces(b"half"))
    file.discard()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_push_replaces_a_link_and_not_its_target(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    target = tmp_path / "link"
    target.symlink_to("precious")
    file = incoming(target)
    file.write(pieces(b"new"))
    file.commit(1)
    assert not target.is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_symbolic_link_with_its_time(tmp_path):
    target = tmp_path / "link"
    file = incoming(target, 0o120777)
    file.write(pieces(b"somewhere/else\0"))
    file.commit(777)
    assert str(target.readlink()) == "somewhere/else"
    assert target.lstat().st_mtime == 777


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(target))
    before = target.lstat().st_ino
    with pytest.raises(OSError):  # noqa: PT011 - EISDIR or EEXIST
        incoming(target)
    assert target.lstat().st_ino == before
    assert names(tmp_path) == ["target"]


def test_a_folder_that_took_the_place_meanwhile(tmp_path):
    target = tmp_path / "target"
    file = incoming(target)
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        file.commit(1)
    file.discard()
    assert names(tmp_path) == ["target"]


def test_devices_cannot_be_pushed(tmp_path):
    with pytest.raises(OSError, match="only files"):
        incoming(tmp_path / "null", stat.S_IFCHR | 0o666)


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        incoming(tmp_path / "file" / "below")


def content_of(path, max_payload_bytes: int) -> tuple[bytes, list[int]]:
    """What a host reads from the frames, and how long each block was."""
    file = OutgoingFile(os.fsencode(path), max_payload_bytes)
    blocks = []
    try:
        while not file.at_end:
            blocks.append(bytes(file.next_block()[0]))
    finally:
        file.close()
    data, content = b"".join(blocks), []
    while data:
        name, length = struct.unpack("<4sI", data[:8])
        if name == b"DONE":
            assert data == b"DONE" + bytes(4), "DONE comes once and last"
            break
        assert name == b"DATA"
        assert length <= 64 << 10
        content.append(data[8 : 8 + length])
        data = data[8 + length :]
    else:
        pytest.fail("no DONE frame")
    return b"".join(content), [len(block) for block in blocks]


@pytest.mark.parametrize("max_payload_bytes", [4096, 256 << 10, 1 << 20])
@pytest.mark.parametrize(
    "size", [0, 1, 4072, 4073, 4080, 65536, 65537, 15 * 65536, 15 * 65536 + 1, 2_500_000]
)
def test_files_of_any_size(tmp_path, size, max_payload_bytes):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    content, blocks = content_of(path, max_payload_bytes)
    assert content == path.read_bytes()
    assert max(blocks) <= max_payload_bytes
    assert min(blocks) > 8 or size == 0, "DONE shares a block with content"


def test_files_of_proc_have_content_but_no_size():
    content, _ = content_of("/proc/self/status", 1 << 20)
    assert content.startswith(b"Name:")


def test_a_fifo_is_refused_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a file"):
        OutgoingFile(os.fsencode(tmp_path / "fifo"), 4096)


def test_listing(tmp_path):
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / os.fsdecode(b"\xff\xfe")).mkdir()
    data, seen = listing(os.fsencode(tmp_path), 2), {}
    while data[:4] == b"DNT2":
        fields = struct.unpack("<4sIQQIIIIQqqqI", data[:76])
        name = data[76 : 76 + fields[-1]]
        seen[name] = (fields[1], stat.S_IFMT(fields[4]), fields[8])
        data = data[76 + fields[-1] :]
    assert data == b"DONE" + bytes(72)
    assert list(seen)[:2] == [b".", b".."]
    assert seen[b"file"] == (0, stat.S_IFREG, 3)
    assert seen[b"dangling"][:2] == (0, stat.S_IFLNK)
    assert seen[b"\xff\xfe"][1] == stat.S_IFDIR


def test_a_missing_folder_lists_as_empty(tmp_path):
    assert listing(os.fsencode(tmp_path / "no"), 1) == b"DONE" + bytes(16)


def test_stale_files_are_removed_and_no_others(tmp_path):
    (tmp_path / "sub").mkdir()
    file = incoming(tmp_path / "sub" / "cut short")
    file.write(pieces(b"half"))
    similar = [".x" + DEFAULT_TMP_SUFFIX, "user" + DEFAULT_TMP_SUFFIX, ".profile"]
    for name in similar:
        (tmp_path / "sub" / name).touch()
    assert len(names(tmp_path / "sub")) == 4
    assert remove_stale([str(tmp_path), str(tmp_path / "no")], DEFAULT_TMP_SUFFIX) == 1
    assert names(tmp_path / "sub") == sorted(similar)
    file.discard()
