"""The sync protocol, v1 and v2: what travels inside a ``sync:`` stream.

A request is a four-letter name, a 32-bit little-endian length and a path; ``SND2`` and ``RCV2`` are
followed by a second frame with options. After a send request come ``DATA`` frames and a ``DONE``
whose length field is the file's modification time. Source: ``file_sync_protocol.h`` of AOSP's
``packages/modules/adb``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from droidmace.emulator.adbd.errors import RemoteProtocolError
from droidmace.emulator.adbd.wire import Buffer

MAX_DATA_BYTES = 64 << 10
"""Longest DATA frame either side may send."""
MAX_PATH_BYTES = 1024
_MAX_MODE_DIGITS = 16

_HEADER = struct.Struct("<4sI")
HEADER_BYTES = _HEADER.size
_SEND_OPTIONS = struct.Struct("<4sII")
_RECEIVE_OPTIONS = struct.Struct("<4sI")
_STAT_V1 = struct.Struct("<4sIII")
_STAT_V2 = struct.Struct("<4sIQQIIIIQqqq")
_ENTRY_V1 = struct.Struct("<4sIIII")
_ENTRY_V2 = struct.Struct("<4sIQQIIIIQqqqI")
_WORD_MASK = 0xFFFF_FFFF


class StatKind(Enum):
    """Which stat request; the value is its name on the wire."""

    V1 = b"STAT"
    FOLLOW = b"STA2"
    NO_FOLLOW = b"LST2"


@dataclass(frozen=True, slots=True)
class StatRequest:
    """What is at ``path``? ``V1`` and ``NO_FOLLOW`` do not follow a symbolic link."""

    kind: StatKind
    path: bytes


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What does the folder ``path`` hold? Version 2 has 64-bit sizes."""

    path: bytes
    version: int


@dataclass(frozen=True, slots=True)
class ReceiveRequest:
    """The host wants the file's content. ``flags`` ask for compression."""

    path: bytes
    flags: int


@dataclass(frozen=True, slots=True)
class SendRequest:
    """The host will send a file's content; ``mode`` holds type and permissions."""

    path: bytes
    mode: int
    flags: int


@dataclass(frozen=True, slots=True)
class SendData:
    """A piece of the content; a frame may come in several pieces."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class SendDone:
    """The content is complete."""

    mtime_s: int


@dataclass(frozen=True, slots=True)
class Quit:
    """The host is done with this stream."""


SyncEvent = StatRequest | ListRequest | ReceiveRequest | SendRequest | SendData | SendDone | Quit


class _Expecting(Enum):
    REQUEST = auto()
    PATH = auto()
    SEND_OPTIONS = auto()
    RECEIVE_OPTIONS = auto()
    CONTENT = auto()


class SyncDecoder:
    """Turns a stream's bytes, however cut, into requests and content."""

    def __init__(self) -> None:
        self._expecting = _Expecting.REQUEST
        self._frame = bytearray()
        self._frame_bytes = HEADER_BYTES
        self._name = b""
        self._path = b""
        self._content_missing = 0
        self._steps: dict[_Expecting, Callable[[bytes], SyncEvent | None]] = {
            _Expecting.REQUEST: self._take_request,
            _Expecting.PATH: self._take_path,
            _Expecting.SEND_OPTIONS: self._take_send_options,
            _Expecting.RECEIVE_OPTIONS: self._take_receive_options,
            _Expecting.CONTENT: self._take_content_header,
        }

    def feed(self, data: Buffer) -> list[SyncEvent]:
        """Digest bytes. Raises ``RemoteProtocolError``; the decoder cannot be used after that."""
        events: list[SyncEvent] = []
        view = memoryview(data)
        while view:
            if self._content_missing:
                piece, view = view[: self._content_missing], view[self._content_missing :]
                self._content_missing -= len(piece)
                events.append(SendData(piece))
                continue
            wanted = self._frame_bytes - len(self._frame)
            self._frame += view[:wanted]
            view = view[wanted:]
            if len(self._frame) == self._frame_bytes:
                frame = bytes(self._frame)
                self._frame.clear()
                event = self._steps[self._expecting](frame)
                if event is not None:
                    events.append(event)
        return events

    def _expect(self, what: _Expecting, frame_bytes: int = HEADER_BYTES) -> None:
        self._expecting = what
        self._frame_bytes = frame_bytes

    def _take_request(self, frame: bytes) -> SyncEvent | None:
        self._name, length = _HEADER.unpack(frame)
        if self._name == b"QUIT":
            return Quit()
        if self._name not in _REQUESTS:
            raise RemoteProtocolError(f"unknown sync request {self._name!r}")
        longest = MAX_PATH_BYTES + (_MAX_MODE_DIGITS if self._name == b"SEND" else 0)
        if not 0 < length <= longest:
            raise RemoteProtocolError(f"{self._name.decode()} with a path of {length} bytes")
        self._expect(_Expecting.PATH, length)
        return None

    def _take_path(self, frame: bytes) -> SyncEvent | None:
        path = frame
        match self._name:
            case b"SEND":
                path, _, digits = frame.rpartition(b",")
                if not path or not digits.isdigit() or len(digits) > _MAX_MODE_DIGITS:
                    raise RemoteProtocolError("SEND without a path and a decimal mode")
        if b"\0" in path:
            raise RemoteProtocolError("a path with a NUL byte")
        self._path = path
        self._expect(_Expecting.REQUEST)
        match self._name:
            case b"SEND":
                self._expect(_Expecting.CONTENT)
                return SendRequest(path, int(digits) & _WORD_MASK, flags=0)
            case b"SND2":
                self._expect(_Expecting.SEND_OPTIONS, _SEND_OPTIONS.size)
            case b"RCV2":
                self._expect(_Expecting.RECEIVE_OPTIONS, _RECEIVE_OPTIONS.size)
            case b"RECV":
                return ReceiveRequest(path, flags=0)
            case b"LIST":
                return ListRequest(path, version=1)
            case b"LIS2":
                return ListRequest(path, version=2)
            case _:
                return StatRequest(StatKind(self._name), path)
        return None

    def _take_send_options(self, frame: bytes) -> SyncEvent:
        name, mode, flags = _SEND_OPTIONS.unpack(frame)
        if name != b"SND2":
            raise RemoteProtocolError(f"options of {name!r} after SND2")
        self._expect(_Expecting.CONTENT)
        return SendRequest(self._path, mode, flags)

    def _take_receive_options(self, frame: bytes) -> SyncEvent:
        name, flags = _RECEIVE_OPTIONS.unpack(frame)
        if name != b"RCV2":
            raise RemoteProtocolError(f"options of {name!r} after RCV2")
        self._expect(_Expecting.REQUEST)
        return ReceiveRequest(self._path, flags)

    def _take_content_header(self, frame: bytes) -> SyncEvent | None:
        name, value = _HEADER.unpack(frame)
        if name == b"DONE":
            self._expect(_Expecting.REQUEST)
            return SendDone(value)
        if name != b"DATA":
            raise RemoteProtocolError(f"{name!r} in the middle of a file")
        if value > MAX_DATA_BYTES:
            raise RemoteProtocolError(f"a DATA frame of {value} bytes")
        self._content_missing = value
        return None


_REQUESTS = frozenset(
    {b"STAT", b"STA2", b"LST2", b"LIST", b"LIS2", b"SEND", b"SND2", b"RECV", b"RCV2"}
)


def okay() -> bytes:
    """The file was stored."""
    return _HEADER.pack(b"OKAY", 0)


def fail(reason: str) -> bytes:
    """The request failed; ``reason`` is shown to the user."""
    text = reason.encode("utf-8", "surrogateescape")[:MAX_DATA_BYTES]
    return _HEADER.pack(b"FAIL", len(text)) + text


def data_header(byte_count: int) -> bytes:
    """What stands before ``byte_count`` bytes of content."""
    return _HEADER.pack(b"DATA", byte_count)


def done() -> bytes:
    """End of a file's content."""
    return _HEADER.pack(b"DONE", 0)


def stat_reply(kind: StatKind, status: os.stat_result | None, error_number: int) -> bytes:
    """Answer to a stat request: a status, or None and an errno (version 1 has no room for it)."""
    if kind is StatKind.V1:
        if status is None:
            return _STAT_V1.pack(b"STAT", 0, 0, 0)
        return _STAT_V1.pack(
            b"STAT", status.st_mode, status.st_size & _WORD_MASK, _seconds(status) & _WORD_MASK
        )
    return _STAT_V2.pack(kind.value, error_number, *_fields_v2(status))


def entry(version: int, name: bytes, status: os.stat_result | None, error_number: int) -> bytes:
    """One entry of a listing."""
    if version == 1:
        mode, size, mtime = (0, 0, 0)
        if status is not None:
            mode, size, mtime = status.st_mode, status.st_size, _seconds(status)
        head = _ENTRY_V1.pack(b"DENT", mode, size & _WORD_MASK, mtime & _WORD_MASK, len(name))
    else:
        head = _ENTRY_V2.pack(b"DNT2", error_number, *_fields_v2(status), len(name))
    return head + name


def end_of_list(version: int) -> bytes:
    """End of a listing: an entry without content, named DONE."""
    layout = _ENTRY_V1 if version == 1 else _ENTRY_V2
    return b"DONE".ljust(layout.size, b"\0")


def _seconds(status: os.stat_result) -> int:
    return int(status.st_mtime)


def _fields_v2(status: os.stat_result | None) -> tuple[int, ...]:
    """dev, ino, mode, nlink, uid, gid, size, atime, mtime, ctime."""
    if status is None:
        return (0,) * 10
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_size,
        int(status.st_atime),
        int(status.st_mtime),
        int(status.st_ctime),
    )
