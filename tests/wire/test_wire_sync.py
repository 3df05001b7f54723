"""Files through real adb programs."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess

import pytest
from wire_harness import Host, running_daemon, sync_frame, wait_until


def tree(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large"
    with path.open("wb") as stream:
        for _ in range(200):
            stream.write(os.urandom(1_000_000))
    yield path
    path.unlink()


def test_two_hundred_megabytes_there_and_back(adb, phone, large_file, tmp_path):
    target = phone.root / "large"
    assert adb.run("push", str(large_file), str(target)).returncode == 0
    assert subprocess.run(["cmp", large_file, target], check=False).returncode == 0
    target_back = tmp_path / "back"
    assert adb.run("pull", str(target), str(target_back)).returncode == 0
    assert subprocess.run(["cmp", large_file, target_back], check=False).returncode == 0
    target_back.unlink()


def test_a_folder_of_500_files_there_and_back(adb, phone, tmp_path):
    source = tmp_path / "source"
    for number in range(500):
        path = source / f"sub {number % 7}" / f"file {number} é.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 37 % 9000))
    (source / "sub 0" / "exactly one frame").write_bytes(os.urandom(65536))
    result = adb.run("push", str(source), str(phone.root))
    assert result.returncode == 0, result.stderr
    assert tree(phone.root / "source") == tree(source)
    result = adb.run("pull", str(phone.root / "source"), str(tmp_path / "back"))
    assert result.returncode == 0, result.stderr
    assert tree(tmp_path / "back") == tree(source)


def test_times_and_permissions(adb, phone, tmp_path):
    source = tmp_path / "tool"
    source.write_bytes(b"#!/bin/sh\nexit 11\n")
    source.chmod(0o750)
    os.utime(source, (1_500_000_000, 1_500_000_000))
    target = phone.root / "bin" / "tool"
    assert adb.run("push", str(source), str(target)).returncode == 0
    assert target.stat().st_mtime == 1_500_000_000
    assert stat.S_IMODE(target.stat().st_mode) == 0o777
    assert adb.run("shell", str(target)).returncode == 11
    assert adb.run("pull", "-a", str(target), str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").stat().st_mtime == 1_500_000_000


def test_sync_only_pushes_what_is_newer(adb, phone, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    arguments = ("push", "--sync", str(source), str(phone.root))
    for expected in (b"1 file pushed, 0 skipped", b"0 files pushed, 1 skipped"):
        result = adb.run(*arguments)
        assert expected in result.stdout + result.stderr


def test_an_empty_file_and_odd_names(adb, phone, tmp_path):
    for name in ("empty", "a,b", "-dash", "new\nline", "x" * 255):
        source = tmp_path / name
        source.write_bytes(b"" if name == "empty" else name.encode())
        target = f"{phone.root}/{name}"
        assert adb.run("push", str(source), target).returncode == 0
        source.unlink()
        assert adb.run("pull", target, str(source)).returncode == 0
        assert source.read_bytes() == (b"" if name == "empty" else name.encode())


def test_links_are_followed_by_push_and_pull(adb, phone, tmp_path):
    (phone.root / "real").write_bytes(b"real")
    (phone.root / "link").symlink_to("real")
    assert adb.run("pull", f"{phone.root}/link", str(tmp_path / "pulled")).returncode == 0
    assert (tmp_path / "pulled").read_bytes() == b"real"


def test_a_pushed_link_keeps_its_target_and_time(phone, new_host):
    link = phone.root / "link"
    request = sync_frame(b"SEND", f"{link},{0o120777}".encode())
    request += sync_frame(b"DATA", b"nowhere/at all\0") + struct.pack("<4sI", b"DONE", 99)
    answer = new_host().converse("sync:", request, sync_frame(b"QUIT", b""))
    assert answer == b"OKAY" + bytes(4)
    assert str(link.readlink()) == "nowhere/at all"
    assert link.lstat().st_mtime == 99


@pytest.mark.parametrize(
    ("target", "reason"),
    [("file/below", b"directory"), ("folder/", b"directory"), ("fifo", b"not a regular file")],
)
def test_a_push_that_cannot_be(phone, new_host, target, reason):
    (phone.root / "file").write_bytes(b"as it was")
    (phone.root / "folder").mkdir()
    os.mkfifo(phone.root / "fifo")
    before = names(phone.root)
    request = sync_frame(b"SEND", f"{phone.root}/{target},33188".encode())
    content = sync_frame(b"DATA", bytes(60_000)) * 5 + struct.pack("<4sI", b"DONE", 99)
    stat_after = sync_frame(b"STAT", str(phone.root / "file").encode())
    answer = new_host().converse("sync:", request + content, stat_after, sync_frame(b"QUIT", b""))
    name, length = struct.unpack("<4sI", answer[:8])
    assert name == b"FAIL"
    assert reason in answer[8 : 8 + length].lower()
    assert answer[8 + length :][:4] == b"STAT", "the stream is still good for more"
    assert names(phone.root) == before
    assert names(phone.root / "folder") == []


def test_a_failed_push_tells_the_user_why(adb, phone, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(3_000_000))
    (phone.root / "taken").write_bytes(b"")
    result = adb.run("push", str(source), f"{phone.root}/taken/below")
    assert result.returncode == 1
    assert b"directory" in (result.stdout + result.stderr).lower()
    assert adb.run("push", str(source), f"{phone.root}/elsewhere").returncode == 0


def test_an_unwritable_folder(adb, phone, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(b"x")
    result = adb.run("push", str(source), "/proc/droidmace/file")
    assert result.returncode == 1
    assert b"No such file or directory" in result.stdout + result.stderr


def test_pulls_that_cannot_be(adb, phone, tmp_path):
    result = adb.run("pull", f"{phone.root}/missing", str(tmp_path / "out"))
    assert result.returncode == 1
    assert b"No such file" in result.stdout + result.stderr or b"does not exist" in (
        result.stdout + result.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def full_disk(tmp_path):
    """A daemon whose phone has a disk of one megabyte."""
    bwrap = shutil.which("bwrap")
    assert bwrap is not None, "the tests need the package bubblewrap"
    disk = tmp_path / "disk"
    disk.mkdir()
    # As in a phone's sandbox: without the host's network, and its processes out of sight.
    wrapper = (
        *(bwrap, "--die-with-parent", "--unshare-net", "--unshare-pid"),
        *("--dev-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
        *("--size", str(1 << 20), "--tmpfs", str(disk), "--"),
    )
    with running_daemon(tmp_path / "own", wrapper=wrapper) as daemon:
        yield daemon, disk


def test_no_space_left(adb, full_disk, tmp_path):
    daemon, disk = full_disk
    adb.connect(daemon.serial)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(os.urandom(300_000))
    large.write_bytes(os.urandom(5_000_000))
    select = ("-s", daemon.serial)
    assert adb.run(*select, "push", str(small), f"{disk}/model").returncode == 0
    result = adb.run(*select, "push", str(large), f"{disk}/model")
    assert result.returncode == 1
    assert b"No space left on device" in result.stdout + result.stderr
    listing = adb.run(*select, "shell", f"ls -A {disk}; cmp {disk}/model {small} && echo old")
    assert listing.stdout == b"model\nold\n"
    terminal = adb.run(*select, "shell", "-t", "-t", "tty && exit 5")
    assert terminal.returncode == 5, "a terminal needs nothing but the sandbox's own /dev"
    adb.run("disconnect", daemon.serial)
    adb.connected.discard(daemon.serial)


def test_sizes_beyond_32_bits(adb, phone, new_host):
    path = phone.root / "sparse"
    path.touch()
    os.truncate(path, 5 << 30)
    quit_frame = sync_frame(b"QUIT", b"")
    for request in (b"STA2", b"LST2"):
        answer = new_host().converse("sync:", sync_frame(request, str(path).encode()), quit_frame)
        fields = struct.unpack("<4sIQQIIIIQqqq", answer)
        assert (fields[0], fields[1], fields[8]) == (request, 0, 5 << 30)
    listing = adb.run("ls", str(phone.root)).stdout.decode()
    (line,) = [line for line in listing.splitlines() if line.endswith("sparse")]
    assert int(line.split()[1], 16) == 5 << 30


def test_stat_tells_links_from_their_targets(phone, new_host):
    (phone.root / "link").symlink_to("missing")
    path = str(phone.root / "link").encode()
    requests = [sync_frame(name, path) for name in (b"STAT", b"LST2", b"STA2")]
    answer = new_host().converse("sync:", *requests, sync_frame(b"QUIT", b""))
    v1, lstat, follow = answer[:16], answer[16:88], answer[88:]
    assert stat.S_ISLNK(struct.unpack("<4sIII", v1)[1])
    assert stat.S_ISLNK(struct.unpack("<4sIQQIIIIQqqq", lstat)[4])
    assert struct.unpack("<4sIQQIIIIQqqq", follow)[:2] == (b"STA2", 2)


def test_small_payloads(phone, new_host):
    """The oldest adb takes 4096 bytes at most; frames must still be whole."""
    path = phone.root / "file"
    path.write_bytes(os.urandom(100_000))
    request = sync_frame(b"RECV", str(path).encode())
    host = new_host(max_payload_bytes=4096)
    answer, content = host.converse("sync:", request, sync_frame(b"QUIT", b"")), b""
    while answer[:4] == b"DATA":
        length = struct.unpack("<I", answer[4:8])[0]
        content += answer[8 : 8 + length]
        answer = answer[8 + length :]
    assert answer == b"DONE" + bytes(4)
    assert content == path.read_bytes()


def test_requests_across_packet_borders(phone, new_host):
    path = str(phone.root / "f").encode()
    data = b"".join(
        (
            sync_frame(b"SND2", path),
            struct.pack("<4sII", b"SND2", 0o100644, 0),
            sync_frame(b"DATA", b"0123456789"),
            struct.pack("<4sI", b"DONE", 3),
            sync_frame(b"QUIT", b""),
        )
    )
    answer = new_host().converse("sync:", *(data[i : i + 1] for i in range(len(data))))
    assert answer == b"OKAY" + bytes(4)
    assert (phone.root / "f").read_bytes() == b"0123456789"


def test_compression_was_not_offered(phone, new_host):
    path = phone.root / "f"
    request = sync_frame(b"SND2", str(path).encode()) + struct.pack("<4sII", b"SND2", 0o644, 1)
    request += struct.pack("<4sI", b"DONE", 3)
    answer = new_host().converse("sync:", request, sync_frame(b"QUIT", b""))
    assert answer[:4] == b"FAIL"
    assert b"compression" in answer
    assert not path.exists()


def test_a_host_that_goes_away_leaves_nothing(phone, shared_daemon):
    host = Host(shared_daemon.port)
    stream_id = host.open("sync:")
    request = sync_frame(b"SEND", f"{phone.root}/half,33188".encode())
    host.core.send(stream_id, request + sync_frame(b"DATA", bytes(50_000)))
    host.flush()
    wait_until(lambda: names(phone.root), "the temporary file")
    assert "half" not in names(phone.root)
    host.close()
    wait_until(lambda: not names(phone.root), "an empty folder")


def test_what_a_killed_daemon_left_is_removed(tmp_path):
    leftover = tmp_path / "data"
    leftover.mkdir()
    with running_daemon(tmp_path / "first", sweep=[]) as daemon:
        host = Host(daemon.port)
        stream_id = host.open("sync:")
        host.core.send(stream_id, sync_frame(b"SEND", f"{leftover}/half,33188".encode()))
        host.flush()
        wait_until(lambda: names(leftover), "the temporary file")
        daemon.process.kill()
        daemon.process.wait()
        host.close()
    (leftover / "whole").write_bytes(b"whole")
    with running_daemon(tmp_path / "second", sweep=[str(leftover)]) as daemon:
        assert daemon.ask(op="ping") == {"ok": True}
        assert names(leftover) == ["whole"]
