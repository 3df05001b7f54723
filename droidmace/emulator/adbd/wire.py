"""ADB packets: a 24-byte header and a payload.

The header is six little-endian 32-bit words: command, two arguments, payload length, payload
checksum (the sum of its bytes), and the command with every bit flipped. Source: ``protocol.txt``
and ``adb.h`` of AOSP's ``packages/modules/adb``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from droidmace.emulator.adbd.errors import LocalProtocolError, RemoteProtocolError

HEADER_BYTES = 24
_HEADER = struct.Struct("<6I")
_WORD_MASK = 0xFFFF_FFFF

VERSION_WITH_CHECKSUMS = 0x0100_0000
VERSION_WITHOUT_CHECKSUMS = 0x0100_0001

MIN_MAX_PAYLOAD_BYTES = 4096
"""What every peer takes: the limit before the handshake, and of the oldest adb."""
MAX_PAYLOAD_BYTES = 1 << 20
"""The most this side offers, and the most current adb offers."""

Buffer = bytes | bytearray | memoryview


def _word(name: bytes) -> int:
    return int.from_bytes(name, "little")


class Command(IntEnum):
    """What a packet says; the value is its first header word."""

    CONNECT = _word(b"CNXN")
    AUTH = _word(b"AUTH")
    OPEN = _word(b"OPEN")
    OKAY = _word(b"OKAY")
    WRITE = _word(b"WRTE")
    CLOSE = _word(b"CLSE")


_COMMANDS = {int(command): command for command in Command}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. What ``arg0`` and ``arg1`` mean depends on the command."""

    command: Command
    arg0: int
    arg1: int
    payload: Buffer = b""
    checksum: int = 0

    def checksum_is_right(self) -> bool:
        """Whether the header's checksum is that of the payload."""
        return self.checksum == checksum_of(self.payload)


def checksum_of(payload: Buffer) -> int:
    """Sum of all payload bytes, modulo 2**32."""
    return sum(payload) & _WORD_MASK


def encode_header(packet: Packet, *, with_checksum: bool) -> bytes:
    """The 24 header bytes; the payload follows them on the wire as it is."""
    if not (0 <= packet.arg0 <= _WORD_MASK and 0 <= packet.arg1 <= _WORD_MASK):
        raise LocalProtocolError(f"an argument of {packet.command.name} is not a 32-bit number")
    return _HEADER.pack(
        packet.command,
        packet.arg0,
        packet.arg1,
        len(packet.payload),
        checksum_of(packet.payload) if with_checksum else 0,
        packet.command ^ _WORD_MASK,
    )


class PacketDecoder:
    """Turns received bytes into packets without copying payloads.

    The caller receives *into* :meth:`get_buffer` (as ``asyncio.BufferedProtocol`` does) and says
    with :meth:`buffer_updated` how much came. A buffer never reaches past the current packet.
    """

    def __init__(self, max_payload_bytes: int = MIN_MAX_PAYLOAD_BYTES) -> None:
        self.max_payload_bytes = max_payload_bytes
        self._header = bytearray(HEADER_BYTES)
        self._payload: bytearray | None = None
        self._filled = 0
        self._words: tuple[int, ...] = ()

    @property
    def in_payload(self) -> bool:
        """Whether the next byte belongs to a payload."""
        return self._payload is not None

    def get_buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        target = self._header if self._payload is None else self._payload
        return memoryview(target)[self._filled :]

    def buffer_updated(self, byte_count: int) -> Packet | None:
        """Take note of received bytes; return the packet that they completed, if any.

        Raises ``RemoteProtocolError`` for a header that no ADB peer sends. The decoder cannot be
        used after that: there is no way back into step.
        """
        target = self._header if self._payload is None else self._payload
        if not 0 <= byte_count <= len(target) - self._filled:
            raise LocalProtocolError(f"{byte_count} bytes do not fit the buffer that was offered")
        self._filled += byte_count
        if self._filled < len(target):
            return None
        self._filled = 0
        if self._payload is None:
            length = self._parse_header()
            if length > 0:
                self._payload = bytearray(length)
                return None
        return self._finish()

    def _parse_header(self) -> int:
        """Check the header; return the payload length."""
        self._words = _HEADER.unpack(self._header)
        command, _, _, length, _, magic = self._words
        if magic != command ^ _WORD_MASK:
            raise RemoteProtocolError(f"bad magic {magic:#010x} for command {command:#010x}")
        if command not in _COMMANDS:
            raise RemoteProtocolError(f"unknown command {command:#010x}")
        if length > self.max_payload_bytes:
            raise RemoteProtocolError(
                f"payload of {length} bytes; at most {self.max_payload_bytes} were agreed"
            )
        return length

    def _finish(self) -> Packet:
        command, arg0, arg1, _, checksum, _ = self._words
        payload = b"" if self._payload is None else memoryview(self._payload)
        self._payload = None
        return Packet(_COMMANDS[command], arg0, arg1, payload, checksum)
