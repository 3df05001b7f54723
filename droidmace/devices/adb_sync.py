"""Files over adb's sync protocol, with deadlines by progress and the device's own error text.

The protocol is in AOSP ``packages/modules/adb/SYNC.TXT`` and ``file_sync_protocol.h``: four bytes
of id, four of length or value (little endian), then data. A transfer may take as long as it likes
while bytes move; one that stands still for ``stall_s`` seconds has failed.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Self

from droidmace.devices.base import FileStat, ProgressCallback
from droidmace.errors import DeviceError, DeviceStorageError, DeviceTimeoutError

MAX_DATA_BYTES = 64 << 10
"""The most that a DATA message may carry."""
_MAX_MESSAGE_BYTES = 64 << 10
_STAT_V2 = struct.Struct("<I QQ I I I I Q q q q")
"""error, dev, ino, mode, nlink, uid, gid, size, atime, mtime, ctime."""
_STAT_V1 = struct.Struct("<III")
_ENOENT = 2
_ENOTDIR = 20
_WORD = struct.Struct("<4sI")

_STORAGE_WORDS = (
    "no space left",
    "quota exceeded",
    "read-only file system",
    "permission denied",
    "is a directory",
    "not a directory",
    "file too large",
)
"""What the C library calls the errors that mean "this cannot be written here"."""


def is_storage_error(text: str) -> bool:
    """Whether a device's error text says that it cannot store something where it should."""
    lowered = text.lower()
    return any(words in lowered for words in _STORAGE_WORDS)


class SyncConnection:
    """One ``sync:`` service under way. Use it as a context manager."""

    def __init__(
        self,
        wire: socket.socket,
        *,
        serial: str,
        lost: Callable[[str], DeviceError],
        stall_s: float = 20.0,
    ) -> None:
        """``lost`` makes the error for a connection that broke while doing something."""
        self._wire = wire
        self._serial = serial
        self._lost = lost
        self._stall_s = stall_s
        wire.settimeout(stall_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wire.close()

    def stat(self, path: str, *, v2: bool) -> FileStat | None:
        """What is at ``path``, symbolic links followed with ``v2``; None if nothing is.

        Without ``v2`` the size is that of the protocol's first version: 32 bits.
        """
        doing = f"looking at {path}"
        self._send(_request(b"STA2" if v2 else b"STAT", path.encode()), doing)
        reply = self._read(4, doing)
        if not v2:
            if reply != b"STAT":
                raise self._garbage(reply, doing)
            mode, size, mtime = _STAT_V1.unpack(self._read(_STAT_V1.size, doing))
            return FileStat(mode, size, mtime) if mode or size or mtime else None
        if reply != b"STA2":
            raise self._garbage(reply, doing)
        fields = _STAT_V2.unpack(self._read(_STAT_V2.size, doing))
        error, mode, size, mtime = fields[0], fields[3], fields[7], fields[9]
        if error in (_ENOENT, _ENOTDIR):
            return None
        if error:
            raise DeviceError(f"{path}: errno {error}", serial=self._serial)
        return FileStat(mode, size, mtime)

    def send(
        self,
        stream: BinaryIO,
        size_bytes: int,
        target: str,
        mode: int,
        progress: ProgressCallback | None,
    ) -> int:
        """Write ``stream``'s content to the device's file ``target``; return the bytes sent.

        Raises ``DeviceStorageError`` with the device's own words, ``DeviceTimeoutError`` when it
        stands still, ``DeviceLostError``.
        """
        doing = f"writing {target}"
        self._send(_request(b"SEND", f"{target},{0o100000 | mode}".encode()), doing)
        sent = 0
        while piece := stream.read(MAX_DATA_BYTES):
            if self._has_answer():
                break
            self._send(_WORD.pack(b"DATA", len(piece)) + piece, doing)
            sent += len(piece)
            if progress is not None:
                progress(sent, size_bytes)
        else:
            self._send(_WORD.pack(b"DONE", int(time.time()) & 0xFFFFFFFF), doing)
        self._expect_okay(doing)
        return sent

    def receive(self, source: str) -> Iterator[bytes]:
        """Yield the content of the device's file ``source``."""
        doing = f"reading {source}"
        self._send(_request(b"RECV", source.encode()), doing)
        while True:
            word, size = _WORD.unpack(self._read(_WORD.size, doing))
            if word == b"DATA":
                if size > _MAX_MESSAGE_BYTES:
                    raise self._garbage(word, doing)
                yield self._read(size, doing)
            elif word == b"DONE":
                return
            elif word == b"FAIL":
                raise self._failure(size, doing)
            else:
                raise self._garbage(word, doing)

    def _has_answer(self) -> bool:
        """Whether the device spoke before we were done: that can only be a failure."""
        self._wire.setblocking(False)
        try:
            self._wire.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True  # Whatever is wrong shows when the answer is read.
        finally:
            self._wire.settimeout(self._stall_s)
        return True

    def _expect_okay(self, doing: str) -> None:
        word, size = _WORD.unpack(self._read(_WORD.size, doing))
        if word == b"FAIL":
            raise self._failure(size, doing)
        if word != b"OKAY":
            raise self._garbage(word, doing)

    def _failure(self, size: int, doing: str) -> DeviceError:
        text = self._read(min(size, _MAX_MESSAGE_BYTES), doing).decode("utf-8", "replace").strip()
        # adbd says e.g. "write failed: No space left on device".
        kind = DeviceStorageError if is_storage_error(text) else DeviceError
        return kind(f"{doing} failed: {text or 'no reason given'}", serial=self._serial)

    def _garbage(self, word: bytes, doing: str) -> DeviceError:
        return DeviceError(
            f"the device answered {word!r}, which the sync protocol does not know, while {doing}",
            serial=self._serial,
        )

    def _send(self, data: bytes, doing: str) -> None:
        try:
            self._wire.sendall(data)
        except TimeoutError as error:
            raise self._stalled(doing) from error
        except OSError as error:
            raise self._lost(doing) from error

    def _read(self, size: int, doing: str) -> bytes:
        """Receive exactly ``size`` bytes; each piece may take ``stall_s``."""
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._wire.recv_into(view)
            except TimeoutError as error:
                raise self._stalled(doing) from error
            except OSError as error:
                raise self._lost(doing) from error
            if not count:
                raise self._lost(doing)
            view = view[count:]
        return bytes(data)

    def _stalled(self, doing: str) -> DeviceTimeoutError:
        return DeviceTimeoutError(
            f"{doing} stands still for {self._stall_s:g} s",
            serial=self._serial,
            hint="wake the phone up, replug it or restart it",
        )


def _request(word: bytes, data: bytes) -> bytes:
    return _WORD.pack(word, len(data)) + data
