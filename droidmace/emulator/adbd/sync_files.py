"""Files as the sync service needs them. Everything here blocks: call it from an executor.

Paths are bytes, as they came over the wire. Errors are ``OSError``s.
"""

# pathlib has no paths of bytes, and these need not be valid UTF-8.
# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH118, PTH120, PTH208, PTH211

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from droidmace.emulator.adbd.sync_frames import (
    HEADER_BYTES,
    MAX_DATA_BYTES,
    data_header,
    done,
    end_of_list,
    entry,
)

DEFAULT_TMP_SUFFIX = ".adbd-push"
_TMP_TOKEN_BYTES = 8
_MAX_LINK_BYTES = 4096


class IncomingFile:
    """A file or symbolic link under way to ``path``.

    Content goes to a temporary file beside the target; ``commit`` puts it in place in one step, so
    nobody ever sees half a file there.
    """

    def __init__(self, path: bytes, mode: int, tmp_suffix: str) -> None:
        """Make the parent folders and open the temporary file."""
        self._path = path
        self._is_link = stat.S_ISLNK(mode)
        if not self._is_link and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise OSError(errno.EINVAL, "only files and symbolic links can be pushed")
        self._permissions = _widened(mode)
        self._link_target = bytearray()
        folder = os.path.dirname(path) or b"."
        try:
            os.makedirs(folder, exist_ok=True)
        except FileExistsError as exc:  # A parent is there and is a file.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from exc
        _require_replaceable(path)
        token = secrets.token_hex(_TMP_TOKEN_BYTES)
        self._temporary = os.path.join(folder, os.fsencode(f".{token}{tmp_suffix}"))
        self._fd: int | None = None
        if not self._is_link:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._temporary, flags, 0o600)

    def write(self, pieces: Iterable[memoryview]) -> None:
        """Add content."""
        for piece in pieces:
            if self._fd is None:
                self._link_target += piece
                if len(self._link_target) > _MAX_LINK_BYTES:
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
                continue
            view = piece
            while view:
                view = view[os.write(self._fd, view) :]

    def commit(self, mtime_s: int) -> None:
        """Put the complete file in place."""
        if self._fd is None:
            # Some hosts send the terminating NUL of the link's target along.
            os.symlink(bytes(self._link_target).rstrip(b"\0"), self._temporary)
        else:
            os.fchmod(self._fd, self._permissions)
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
        os.utime(self._temporary, (mtime_s, mtime_s), follow_symlinks=False)
        _require_replaceable(self._path)
        os.rename(self._temporary, self._path)

    def discard(self) -> None:
        """Leave nothing behind; safe after ``commit`` and after a failed one."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)


def _widened(mode: int) -> int:
    """The permissions a pushed file gets: group and others may do what its owner may.

    That is what Android's adbd does.
    """
    owner = mode & 0o700
    return (mode & 0o777) | (owner >> 3) | (owner >> 6)


def _require_replaceable(path: bytes) -> None:
    """A push replaces files and links; a folder, device or socket stays what it is."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise FileExistsError(errno.EEXIST, "exists and is not a regular file")


class OutgoingFile:
    """A file on its way to the host, as ready-made sync frames."""

    def __init__(self, path: bytes, max_payload_bytes: int) -> None:
        """Open it. A FIFO or socket is refused: nobody may ever write to it."""
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(self._fd).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                raise OSError(errno.EINVAL, "not a file")
        except BaseException:
            os.close(self._fd)
            raise
        self._seekable = stat.S_ISREG(mode)
        room = max_payload_bytes - HEADER_BYTES  # For the DONE frame.
        frame_bytes = min(MAX_DATA_BYTES, room - HEADER_BYTES)
        self._frame_bytes = frame_bytes
        self._frames = room // (HEADER_BYTES + frame_bytes)
        self.at_end = False

    def next_block(self) -> tuple[memoryview, int]:
        """The next frames, and how many bytes of content are in them.

        The DONE frame shares a block with the last content: a host that gets it on its own
        waits 40 ms for it, per file.
        """
        stride = HEADER_BYTES + self._frame_bytes
        block = bytearray(self._frames * stride + HEADER_BYTES)
        view = memoryview(block)
        slots = [
            view[index * stride + HEADER_BYTES : (index + 1) * stride]
            for index in range(self._frames)
        ]
        content_bytes = self._fill(slots)
        end = 0
        for start in range(0, content_bytes, self._frame_bytes):
            count = min(self._frame_bytes, content_bytes - start)
            view[end : end + HEADER_BYTES] = data_header(count)
            end += HEADER_BYTES + count
        if self.at_end:
            view[end : end + HEADER_BYTES] = done()
            end += HEADER_BYTES
        return view[:end], content_bytes

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def _fill(self, slots: Sequence[memoryview]) -> int:
        """Read until the slots are full or the file ends; set ``at_end``."""
        filled = 0
        remaining = list(slots)
        while remaining:
            count = os.readv(self._fd, remaining)
            if count == 0:
                self.at_end = True
                return filled
            filled += count
            remaining = list(_skip(remaining, count))
        if self._seekable:
            position = os.lseek(self._fd, 0, os.SEEK_CUR)
            self.at_end = not os.pread(self._fd, 1, position)
        return filled


def _skip(slots: Iterable[memoryview], byte_count: int) -> Iterator[memoryview]:
    for slot in slots:
        skipped = min(byte_count, len(slot))
        byte_count -= skipped
        if skipped < len(slot):
            yield slot[skipped:]


@dataclass(frozen=True, slots=True)
class Status:
    """Outcome of a stat: a status, or None and the errno."""

    result: os.stat_result | None
    error_number: int = 0


def status_of(path: bytes, *, follow: bool) -> Status:
    """What is at ``path``."""
    try:
        return Status(os.stat(path, follow_symlinks=follow))
    except OSError as exc:
        return Status(None, exc.errno or errno.EIO)


def listing(path: bytes, version: int) -> bytes:
    """A folder as entry frames, end mark included.

    As from a phone, ``.`` and ``..`` are among them; a folder that cannot be read is empty.
    """
    try:
        names = [b".", b"..", *sorted(os.listdir(path))]
    except OSError:
        names = []
    frames = []
    for name in names:
        status = status_of(os.path.join(path, name), follow=False)
        if version == 1 and status.result is None:
            continue  # It went away meanwhile; version 1 cannot say so.
        frames.append(entry(version, name, status.result, status.error_number))
    frames.append(end_of_list(version))
    return b"".join(frames)


def remove_stale(folders: Iterable[str], tmp_suffix: str) -> int:
    """Remove what pushes left behind when the daemon was killed; return how many files."""
    length = len(".") + 2 * _TMP_TOKEN_BYTES + len(tmp_suffix)
    removed = 0
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                if name.startswith(".") and name.endswith(tmp_suffix) and len(name) == length:
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(folder, name))
                        removed += 1
    return removed
