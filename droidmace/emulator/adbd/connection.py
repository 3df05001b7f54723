"""One ADB connection as a state machine without input or output.

Received bytes go in and come out as events; methods go in and come out as packets to send. The
same machine speaks for the phone and, in tests, for the host. What the peer may send when is in
``_EXPECTED``; a peer that leaves it raises ``RemoteProtocolError``, our own misuse raises
``LocalProtocolError``.

Flow control: each side may have one unacknowledged WRITE per stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from droidmace.emulator.adbd.errors import LocalProtocolError, RemoteProtocolError
from droidmace.emulator.adbd.events import (
    AuthKind,
    Event,
    PeerAuthenticated,
    PeerConnected,
    StreamAccepted,
    StreamAcknowledged,
    StreamClosed,
    StreamData,
    StreamRequested,
)
from droidmace.emulator.adbd.wire import (
    MAX_PAYLOAD_BYTES,
    MIN_MAX_PAYLOAD_BYTES,
    VERSION_WITH_CHECKSUMS,
    VERSION_WITHOUT_CHECKSUMS,
    Buffer,
    Command,
    Packet,
    PacketDecoder,
    encode_header,
)

MAX_STREAMS = 128
"""Streams that one peer may have open at once; each can hold a payload or two of memory."""


class Role(Enum):
    """Which end of the wire this is."""

    DEVICE = auto()
    HOST = auto()


class State(Enum):
    """How far the handshake is."""

    IDLE = auto()  # host: has not said anything yet
    AWAITING_CONNECT = auto()  # the peer's CONNECT (or, to a host, AUTH) is next
    DECIDING = auto()  # the peer waits for our answer and says nothing
    CHALLENGED = auto()  # device: our AUTH token is out, the peer's AUTH is next
    ONLINE = auto()
    CLOSED = auto()


_STREAM_COMMANDS = frozenset({Command.OPEN, Command.OKAY, Command.WRITE, Command.CLOSE})
_EXPECTED: dict[tuple[Role, State], frozenset[Command]] = {
    (Role.DEVICE, State.AWAITING_CONNECT): frozenset({Command.CONNECT}),
    (Role.DEVICE, State.CHALLENGED): frozenset({Command.AUTH}),
    (Role.DEVICE, State.ONLINE): _STREAM_COMMANDS,
    (Role.HOST, State.AWAITING_CONNECT): frozenset({Command.CONNECT, Command.AUTH}),
    (Role.HOST, State.ONLINE): _STREAM_COMMANDS,
}


class _StreamState(Enum):
    REQUESTED = auto()  # by the peer; we have not answered
    OPENING = auto()  # by us; the peer has not answered
    OPEN = auto()


@dataclass(slots=True)
class _Stream:
    state: _StreamState
    remote_id: int
    sent_unacknowledged: bool = False
    received_unacknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet, ready for the wire."""

    header: bytes
    payload: Buffer


class Connection:
    """The state machine of one connection; see the module's docstring."""

    def __init__(
        self,
        role: Role,
        *,
        version: int = VERSION_WITHOUT_CHECKSUMS,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._role = role
        self._version = version
        self._own_max_payload_bytes = max_payload_bytes
        self._state = State.IDLE if role is Role.HOST else State.AWAITING_CONNECT
        self._decoder = PacketDecoder()
        self._checksums = True
        self._max_payload_bytes = MIN_MAX_PAYLOAD_BYTES
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1
        self._outgoing: list[Outgoing] = []

    # -- what is the case ------------------------------------------------------------------

    @property
    def state(self) -> State:
        """How far the handshake is."""
        return self._state

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that both sides take; known once the peer introduced itself."""
        return self._max_payload_bytes

    @property
    def in_payload(self) -> bool:
        """Whether the next received byte belongs to a payload rather than to a header."""
        return self._decoder.in_payload

    def stream_ids(self) -> list[int]:
        """Our numbers of the streams that exist."""
        return list(self._streams)

    def may_send(self, stream_id: int) -> bool:
        """Whether ``send`` is allowed now: the stream is open and nothing is unacknowledged."""
        stream = self._streams.get(stream_id)
        return (
            stream is not None
            and stream.state is _StreamState.OPEN
            and not stream.sent_unacknowledged
        )

    # -- bytes in --------------------------------------------------------------------------

    def get_buffer(self) -> memoryview:
        """Where to receive the next bytes into; never empty."""
        return self._decoder.get_buffer()

    def buffer_updated(self, byte_count: int) -> list[Event]:
        """Digest bytes received into ``get_buffer()``.

        Raises ``RemoteProtocolError``; the connection is then closed for good.
        """
        if self._state is State.CLOSED:
            raise LocalProtocolError("bytes for a connection that is closed")
        try:
            packet = self._decoder.buffer_updated(byte_count)
            return [] if packet is None else self._receive(packet)
        except RemoteProtocolError:
            self.connection_lost()
            raise

    def receive_data(self, data: Buffer) -> list[Event]:
        """Digest bytes that lie elsewhere: ``buffer_updated`` for those who have to copy."""
        events: list[Event] = []
        view = memoryview(data)
        while view:
            buffer = self.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            events += self.buffer_updated(count)
        return events

    def connection_lost(self) -> list[Event]:
        """The wire is gone: every stream that was open is closed."""
        self._state = State.CLOSED
        events: list[Event] = [StreamClosed(stream_id) for stream_id in self._streams]
        self._streams.clear()
        self._outgoing.clear()
        return events

    # -- packets out -----------------------------------------------------------------------

    def data_to_send(self) -> list[Outgoing]:
        """Packets that wait to be sent; each is handed out once."""
        packets, self._outgoing = self._outgoing, []
        return packets

    def connect(self, banner: bytes) -> None:
        """Introduce ourselves: a host begins, a device accepts the peer."""
        expected = State.IDLE if self._role is Role.HOST else State.DECIDING
        self._require(self._state is expected, "connect")
        # The largest banner that fits every peer; ours are far below.
        self._require(len(banner) <= MIN_MAX_PAYLOAD_BYTES, "connect with so long a banner")
        self._send(Command.CONNECT, self._version, self._own_max_payload_bytes, banner)
        self._state = State.AWAITING_CONNECT if self._role is Role.HOST else State.ONLINE

    def authenticate(self, kind: AuthKind, data: bytes) -> None:
        """Send an AUTH packet: a device its token, a host its signature or key."""
        if self._role is Role.DEVICE:
            self._require(
                self._state is State.DECIDING and kind is AuthKind.TOKEN, "send a challenge"
            )
            self._state = State.CHALLENGED
        else:
            self._require(
                self._state is State.AWAITING_CONNECT and kind is not AuthKind.TOKEN,
                "answer a challenge",
            )
        self._send(Command.AUTH, kind.value, 0, data)

    def open(self, service: str) -> int:
        """Ask the peer for a stream; return our number of it."""
        self._require(self._state is State.ONLINE, "open a stream")
        payload = service.encode("utf-8", "surrogateescape") + b"\0"
        self._require(len(payload) <= self._max_payload_bytes, "open so long a service name")
        stream_id = self._new_stream(_Stream(_StreamState.OPENING, 0))
        self._send(Command.OPEN, stream_id, 0, payload)
        return stream_id

    def accept(self, stream_id: int) -> None:
        """Open the stream that the peer asked for."""
        stream = self._stream_in(stream_id, _StreamState.REQUESTED, "accept")
        stream.state = _StreamState.OPEN
        self._send(Command.OKAY, stream_id, stream.remote_id)

    def refuse(self, stream_id: int) -> None:
        """Refuse the stream that the peer asked for."""
        stream = self._stream_in(stream_id, _StreamState.REQUESTED, "refuse")
        del self._streams[stream_id]
        self._send(Command.CLOSE, 0, stream.remote_id)

    def send(self, stream_id: int, data: Buffer) -> None:
        """Send at most ``max_payload_bytes``; no more until ``StreamAcknowledged``."""
        stream = self._stream_in(stream_id, _StreamState.OPEN, "send on")
        self._require(not stream.sent_unacknowledged, "send before the peer acknowledged")
        self._require(0 < len(data) <= self._max_payload_bytes, f"send {len(data)} bytes at once")
        stream.sent_unacknowledged = True
        self._send(Command.WRITE, stream_id, stream.remote_id, data)

    def acknowledge(self, stream_id: int) -> None:
        """Let the peer send the next data on this stream."""
        stream = self._stream_in(stream_id, _StreamState.OPEN, "acknowledge")
        self._require(stream.received_unacknowledged, "acknowledge what did not come")
        stream.received_unacknowledged = False
        self._send(Command.OKAY, stream_id, stream.remote_id)

    def close(self, stream_id: int) -> None:
        """Close our side; the stream is gone at once."""
        stream = self._stream_in(stream_id, _StreamState.OPEN, "close")
        del self._streams[stream_id]
        self._send(Command.CLOSE, stream_id, stream.remote_id)

    # -- inside ----------------------------------------------------------------------------

    def _require(self, condition: bool, action: str) -> None:
        if not condition:
            raise LocalProtocolError(f"cannot {action} ({self._role.name}, {self._state.name})")

    def _stream_in(self, stream_id: int, state: _StreamState, action: str) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.state is not state:
            raise LocalProtocolError(f"cannot {action} stream {stream_id}: not {state.name}")
        return stream

    def _new_stream(self, stream: _Stream) -> int:
        stream_id = self._next_id
        self._next_id += 1
        self._streams[stream_id] = stream
        return stream_id

    def _send(self, command: Command, arg0: int, arg1: int, payload: Buffer = b"") -> None:
        packet = Packet(command, arg0, arg1, payload)
        self._outgoing.append(
            Outgoing(encode_header(packet, with_checksum=self._checksums), payload)
        )

    def _receive(self, packet: Packet) -> list[Event]:
        expected = _EXPECTED.get((self._role, self._state), frozenset())
        if packet.command not in expected:
            raise RemoteProtocolError(f"{packet.command.name} while {self._state.name}")
        match packet.command:
            case Command.CONNECT:
                return [self._receive_connect(packet)]
            case Command.AUTH:
                return [self._receive_auth(packet)]
        if self._checksums and not packet.checksum_is_right():
            raise RemoteProtocolError(f"wrong checksum of a {packet.command.name} payload")
        match packet.command:
            case Command.OPEN:
                return self._receive_open(packet)
            case Command.OKAY:
                return self._receive_okay(packet)
            case Command.WRITE:
                return self._receive_write(packet)
            case _:
                return self._receive_close(packet)

    def _receive_connect(self, packet: Packet) -> Event:
        version, max_payload_bytes = packet.arg0, packet.arg1
        if version < VERSION_WITH_CHECKSUMS:
            raise RemoteProtocolError(f"protocol version {version:#010x} is older than any known")
        if max_payload_bytes < MIN_MAX_PAYLOAD_BYTES:
            raise RemoteProtocolError(f"a payload limit of {max_payload_bytes} bytes is too small")
        if version < VERSION_WITHOUT_CHECKSUMS and not packet.checksum_is_right():
            raise RemoteProtocolError("wrong checksum of a CONNECT payload")
        self._max_payload_bytes = min(max_payload_bytes, self._own_max_payload_bytes)
        self._decoder.max_payload_bytes = self._max_payload_bytes
        self._checksums = min(version, self._version) < VERSION_WITHOUT_CHECKSUMS
        self._state = State.ONLINE if self._role is Role.HOST else State.DECIDING
        return PeerConnected(bytes(packet.payload).rstrip(b"\0"), version, max_payload_bytes)

    def _receive_auth(self, packet: Packet) -> Event:
        try:
            kind = AuthKind(packet.arg0)
        except ValueError as exc:
            raise RemoteProtocolError(f"unknown kind {packet.arg0} of AUTH") from exc
        if (kind is AuthKind.TOKEN) is not (self._role is Role.HOST):
            raise RemoteProtocolError(f"AUTH {kind.name} goes the other way")
        if self._role is Role.DEVICE:
            self._state = State.DECIDING
        return PeerAuthenticated(kind, bytes(packet.payload))

    def _receive_open(self, packet: Packet) -> list[Event]:
        if packet.arg0 == 0:
            raise RemoteProtocolError("OPEN without a stream number")
        if len(self._streams) >= MAX_STREAMS:
            self._send(Command.CLOSE, 0, packet.arg0)
            return []
        service = bytes(packet.payload).rstrip(b"\0").decode("utf-8", "surrogateescape")
        stream_id = self._new_stream(_Stream(_StreamState.REQUESTED, packet.arg0))
        return [StreamRequested(stream_id, service)]

    def _find(self, packet: Packet) -> tuple[int, _Stream] | None:
        """Which stream a packet is for; None if it crossed our own CLOSE on the way."""
        stream = self._streams.get(packet.arg1)
        if stream is None or stream.remote_id not in (packet.arg0, 0):
            return None
        return packet.arg1, stream

    def _receive_okay(self, packet: Packet) -> list[Event]:
        found = self._find(packet)
        if found is None:
            return []
        stream_id, stream = found
        if stream.state is _StreamState.OPENING and packet.arg0 != 0:
            stream.state = _StreamState.OPEN
            stream.remote_id = packet.arg0
            return [StreamAccepted(stream_id)]
        if stream.sent_unacknowledged:
            stream.sent_unacknowledged = False
            return [StreamAcknowledged(stream_id)]
        return []  # An OKAY too many is harmless, and some clients send it.

    def _receive_write(self, packet: Packet) -> list[Event]:
        found = self._find(packet)
        if found is None:
            return []
        stream_id, stream = found
        if stream.state is not _StreamState.OPEN or stream.received_unacknowledged:
            raise RemoteProtocolError(f"WRITE on stream {stream_id} before it was allowed")
        stream.received_unacknowledged = True
        return [StreamData(stream_id, packet.payload)]

    def _receive_close(self, packet: Packet) -> list[Event]:
        stream = self._streams.get(packet.arg1)
        # A peer that refuses, and old ones always, leave their own number out.
        if stream is None or packet.arg0 not in (stream.remote_id, 0):
            return []
        del self._streams[packet.arg1]
        if stream.state is _StreamState.OPEN:
            self._send(Command.CLOSE, packet.arg1, stream.remote_id)
        return [StreamClosed(packet.arg1)]
