"""What a connection's state machine says happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from droidmace.emulator.adbd.wire import Buffer


class AuthKind(Enum):
    """What an AUTH packet carries (its ``arg0``)."""

    TOKEN = 1
    SIGNATURE = 2
    PUBLIC_KEY = 3


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The peer introduced itself; a device now accepts or challenges it."""

    banner: bytes
    version: int
    max_payload_bytes: int


@dataclass(frozen=True, slots=True)
class PeerAuthenticated:
    """The peer sent an AUTH packet: to a device a signature or a key, to a host a token."""

    kind: AuthKind
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamRequested:
    """The peer wants a stream; answer with ``accept`` or ``refuse``."""

    stream_id: int
    service: str


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """The peer accepted the stream that we opened."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamData:
    """Data came; nothing more comes until ``acknowledge``."""

    stream_id: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class StreamAcknowledged:
    """The peer took what we sent; the next ``send`` is allowed."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The peer closed the stream, or refused to open it. It is gone on our side too."""

    stream_id: int


Event = (
    PeerConnected
    | PeerAuthenticated
    | StreamRequested
    | StreamAccepted
    | StreamData
    | StreamAcknowledged
    | StreamClosed
)
