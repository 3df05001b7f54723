"""One host's TCP connection: moves bytes between the socket and the protocol core."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from droidmace.emulator.adbd.connection import Connection, Role, State
from droidmace.emulator.adbd.errors import RemoteProtocolError
from droidmace.emulator.adbd.events import (
    AuthKind,
    Event,
    PeerAuthenticated,
    PeerConnected,
    StreamAcknowledged,
    StreamClosed,
    StreamData,
    StreamRequested,
)
from droidmace.emulator.adbd.faults import FaultState, Unplug
from droidmace.emulator.adbd.link import Link
from droidmace.emulator.adbd.stats import Stats
from droidmace.emulator.adbd.streams import Stream, StreamHandler
from droidmace.emulator.adbd.wire import Buffer

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 30.0
_AUTH_TOKEN_BYTES = 20
_HIGH_WATER_BYTES = 8 << 20
_JOIN_BYTES = 64 << 10
"""Header and payload up to this size leave in one segment; larger ones aren't worth the copy."""


class Owner(Protocol):
    """What a connection needs of the phone it leads to."""

    faults: FaultState
    link: Link
    stats: Stats
    banner: bytes

    def peer_connected(self, peer: Peer) -> bool:
        """A host connected; False turns it away."""
        ...

    def peer_gone(self, peer: Peer) -> None:
        """Its connection is over."""
        ...

    def find_service(self, name: str) -> StreamHandler | None:
        """Who serves streams of this name; None refuses them."""
        ...

    def serve(self, name: str, handler: StreamHandler, stream: Stream) -> None:
        """Run ``handler`` on ``stream`` as a task of its own."""
        ...

    def unplug(self, fault: Unplug) -> None:
        """Drop every connection."""
        ...


class Peer(asyncio.BufferedProtocol):
    """A connection from a host. Whatever it sends can close this connection, and no other."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._core = Connection(Role.DEVICE)
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._name = "?"
        self._outgoing: deque[memoryview] = deque()
        self._holds: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # -- for the phone ---------------------------------------------------------------------

    @property
    def is_online(self) -> bool:
        """Whether the handshake is over."""
        return self._core.state is State.ONLINE

    def drop(self) -> None:
        """End the connection at once; what was not sent yet is lost, as with a pulled cable."""
        if self._transport is not None:
            self._transport.abort()
        self._lose_streams()

    def freeze(self) -> None:
        """Stop taking and giving bytes."""
        self._hold("frozen")

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self._release("frozen")
        self._pump()

    def link_changed(self) -> None:
        """The link has another rate: what waited for the old one waits no longer."""
        self._cancel_timer("link in")
        self._release("link")
        self._pump()

    # -- for asyncio -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A host connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._name = str(transport.get_extra_info("peername"))
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        if not self._owner.peer_connected(self):
            self._transport.abort()
            return
        if self._owner.faults.frozen:
            self.freeze()
        self._call_later("handshake", HANDSHAKE_TIMEOUT_S, self._handshake_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        """The host, or the fault, ended the connection."""
        logger.debug("%s: connection lost: %s", self._name, exc)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._outgoing.clear()
        self._lose_streams()
        self._owner.peer_gone(self)

    def pause_writing(self) -> None:
        """The host does not read: take nothing more from it either, so that memory is bounded."""
        self._hold("unread")

    def resume_writing(self) -> None:
        """The host reads again."""
        self._release("unread")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio receives into: straight into the current packet."""
        return self._core.get_buffer()[: self._owner.link.slice_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if self._core.state is State.CLOSED:
            return
        self._owner.link.charge(nbytes)
        if self._core.in_payload and self.is_online:
            _, due = self._owner.faults.take(nbytes)
            if due is not None:  # The packet that was under way never becomes whole.
                self._owner.unplug(due)
                return
        try:
            events = self._core.buffer_updated(nbytes)
        except RemoteProtocolError as exc:
            logger.warning("%s: closing the connection: %s", self._name, exc)
            self.drop()
            return
        for event in events:
            self._handle(event)
        self._flush()
        delay_s = self._owner.link.delay_s()
        if delay_s > 0:
            self._hold("link")
            self._call_later("link in", delay_s, lambda: self._release("link"))

    # -- for streams -----------------------------------------------------------------------

    @property
    def max_payload_bytes(self) -> int:
        """What was agreed with this host."""
        return self._core.max_payload_bytes

    def send_data(self, stream_id: int, data: Buffer) -> None:
        """Send one payload on a stream."""
        self._core.send(stream_id, data)
        self._flush()

    def acknowledge_data(self, stream_id: int) -> None:
        """Let the host send the next payload."""
        self._core.acknowledge(stream_id)
        self._flush()

    def close_stream(self, stream_id: int) -> None:
        """Close a stream from this side."""
        self._streams.pop(stream_id, None)
        self._core.close(stream_id)
        self._flush()

    # -- inside ----------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        match event:
            case PeerConnected(banner=banner, version=version):
                logger.info("%s: host says %r, version %#010x", self._name, banner[:80], version)
                self._introduce()
            case PeerAuthenticated(kind=kind):
                # A key has no answer as long as nobody touches "Allow" on the phone's screen.
                if kind is not AuthKind.PUBLIC_KEY or not self._owner.faults.unauthorized:
                    self._introduce()
            case StreamRequested(stream_id=stream_id, service=service):
                self._open(stream_id, service)
            case StreamData(stream_id=stream_id, data=data):
                if len(data) > 0:
                    self._streams[stream_id].feed(data)
                else:
                    self._core.acknowledge(stream_id)
            case StreamAcknowledged(stream_id=stream_id):
                self._streams[stream_id].acknowledged()
            case StreamClosed(stream_id=stream_id):
                self._streams.pop(stream_id).gone()

    def _introduce(self) -> None:
        """Answer the host's CONNECT, its signature, or its key."""
        faults = self._owner.faults
        if faults.offline:
            return
        if faults.unauthorized:
            self._core.authenticate(AuthKind.TOKEN, os.urandom(_AUTH_TOKEN_BYTES))
            self._cancel_timer("handshake")  # The user may take as long as he likes.
            return
        self._cancel_timer("handshake")
        self._core.connect(self._owner.banner)

    def _open(self, stream_id: int, service: str) -> None:
        handler = self._owner.find_service(service)
        if handler is None:
            logger.info("%s: no such service: %.200r", self._name, service)
            self._core.refuse(stream_id)
            return
        logger.debug("%s: stream %d: %.500r", self._name, stream_id, service)
        self._core.accept(stream_id)
        stream = self._streams[stream_id] = Stream(self, stream_id)
        self._owner.serve(service, handler, stream)

    def _lose_streams(self) -> None:
        self._core.connection_lost()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.gone()

    def _flush(self) -> None:
        """Queue what the core wants sent, up to an unplug that it brings about."""
        for packet in self._core.data_to_send():
            passing, due = len(packet.payload), None
            if packet.payload and self.is_online:
                passing, due = self._owner.faults.take(passing)
            if len(packet.payload) > _JOIN_BYTES:
                self._outgoing.append(memoryview(packet.header))
                self._outgoing.append(memoryview(packet.payload)[:passing])
            else:
                whole = packet.header + bytes(memoryview(packet.payload)[:passing])
                self._outgoing.append(memoryview(whole))
            if due is not None:
                self._pump()
                self._owner.unplug(due)
                return
        self._pump()

    def _pump(self) -> None:
        """Give the socket what the link lets through."""
        if self._transport is None or self._transport.is_closing() or "frozen" in self._holds:
            return
        link = self._owner.link
        while self._outgoing:
            delay_s = link.delay_s()
            if delay_s > 0:
                self._call_later("link out", delay_s, self._pump)
                return
            view = self._outgoing.popleft()
            slice_bytes = link.slice_bytes
            if slice_bytes is not None and len(view) > slice_bytes:
                self._outgoing.appendleft(view[slice_bytes:])
                view = view[:slice_bytes]
            self._transport.write(view)
            link.charge(len(view))

    def _hold(self, reason: str) -> None:
        """Stop reading for a reason; reading goes on when no reason is left."""
        if self._transport is not None and not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds.add(reason)

    def _release(self, reason: str) -> None:
        if reason not in self._holds:
            return
        self._holds.discard(reason)
        if self._transport is not None and not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()

    def _handshake_timed_out(self) -> None:
        if self.is_online or self._owner.faults.offline or self._owner.faults.frozen:
            return
        logger.warning("%s: no handshake within %g s", self._name, HANDSHAKE_TIMEOUT_S)
        self.drop()

    def _call_later(self, name: str, delay_s: float, callback: Callable[[], None]) -> None:
        self._cancel_timer(name)
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(delay_s, callback)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
