"""Shell protocol v2: what travels inside a ``shell,v2`` stream.

A packet is one byte that says which (:class:`PacketId`), a 32-bit little-endian length, and that
many bytes. Source: ``shell_protocol.h`` of AOSP's ``packages/modules/adb``.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum

from droidmace.emulator.adbd.errors import RemoteProtocolError
from droidmace.emulator.adbd.wire import Buffer

_HEADER = struct.Struct("<BI")
HEADER_BYTES = _HEADER.size
MAX_CONTROL_BYTES = 64
"""Longest packet that is not stdin; a window size needs about twenty bytes."""
MAX_STDIN_BYTES = 16 << 20
"""Longest stdin packet; adb itself sends at most its payload size."""
_WINDOW_SIZE = re.compile(rb"(\d{1,5})x(\d{1,5}),(\d{1,5})x(\d{1,5})\0?", re.ASCII)
_MAX_CELLS = 0xFFFF


class PacketId(IntEnum):
    """What a packet carries."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EXIT = 3
    CLOSE_STDIN = 4
    WINDOW_SIZE = 5


@dataclass(frozen=True, slots=True)
class StdinData:
    """Input for the command; a packet's data may come in several pieces."""

    data: Buffer


@dataclass(frozen=True, slots=True)
class StdinClosed:
    """The command's input ends here."""


@dataclass(frozen=True, slots=True)
class WindowSize:
    """The host's terminal: cells, and pixels (0 when unknown)."""

    rows: int
    columns: int
    x_pixels: int
    y_pixels: int


ShellEvent = StdinData | StdinClosed | WindowSize


def encode(packet_id: PacketId, data: Buffer) -> bytes:
    """One packet for the host."""
    return b"".join((_HEADER.pack(packet_id, len(data)), data))


class ShellDecoder:
    """Turns a stream's bytes, however cut, into what the host wants of the command."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._packet_id = -1
        self._missing = 0
        self._control = bytearray()

    def feed(self, data: Buffer) -> list[ShellEvent]:
        """Digest bytes. Raises ``RemoteProtocolError`` for a length that no host sends."""
        events: list[ShellEvent] = []
        view = memoryview(data)
        while view:
            if self._missing == 0:
                view = self._take_header(view, events)
                continue
            piece, view = view[: self._missing], view[self._missing :]
            self._missing -= len(piece)
            if self._packet_id == PacketId.STDIN:
                events.append(StdinData(piece))
                continue
            self._control += piece
            if self._missing == 0:
                self._finish_control(events)
        return events

    def _take_header(self, view: memoryview, events: list[ShellEvent]) -> memoryview:
        wanted = HEADER_BYTES - len(self._header)
        self._header += view[:wanted]
        if len(self._header) == HEADER_BYTES:
            self._packet_id, self._missing = _HEADER.unpack(self._header)
            self._header.clear()
            self._control.clear()
            limit = MAX_STDIN_BYTES if self._packet_id == PacketId.STDIN else MAX_CONTROL_BYTES
            if self._missing > limit:
                raise RemoteProtocolError(
                    f"shell packet {self._packet_id} of {self._missing} bytes; at most {limit}"
                )
            if self._missing == 0:
                self._finish_control(events)
        return view[wanted:]

    def _finish_control(self, events: list[ShellEvent]) -> None:
        """A packet other than stdin is complete. Unknown ones are skipped, as adbd does."""
        if self._packet_id == PacketId.CLOSE_STDIN:
            events.append(StdinClosed())
        elif self._packet_id == PacketId.WINDOW_SIZE:
            match = _WINDOW_SIZE.fullmatch(self._control)
            if match is not None:
                cells = [min(int(number), _MAX_CELLS) for number in match.groups()]
                events.append(WindowSize(*cells))
