"""One stream as a service sees it: read, write, close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from droidmace.emulator.adbd.errors import StreamClosedError
from droidmace.emulator.adbd.wire import Buffer


class StreamWire(Protocol):
    """What a stream needs of its connection."""

    @property
    def max_payload_bytes(self) -> int:
        """The most that one ``send_data`` may carry."""
        ...

    def send_data(self, stream_id: int, data: Buffer) -> None:
        """Send one payload."""
        ...

    def acknowledge_data(self, stream_id: int) -> None:
        """Let the peer send its next payload."""
        ...

    def close_stream(self, stream_id: int) -> None:
        """Tell the peer that this side is done."""
        ...


class Stream:
    """A two-way stream with flow control.

    At most one received payload waits here: the peer may send the next when this one was read.
    At most one sent payload is unacknowledged.
    """

    def __init__(self, wire: StreamWire, stream_id: int) -> None:
        self._wire = wire
        self._id = stream_id
        self._received: Buffer | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._write_lock = asyncio.Lock()

    # -- for services ----------------------------------------------------------------------

    @property
    def max_payload_bytes(self) -> int:
        """The largest write that leaves in one piece."""
        return self._wire.max_payload_bytes

    @property
    def is_closed(self) -> bool:
        """Whether either side closed it, or the connection is gone."""
        return self._gone.is_set()

    async def read(self) -> Buffer:
        """The next payload; empty at the end. What came before the end is still delivered."""
        await self._readable.wait()
        if self._received is None:
            return b""
        data, self._received = self._received, None
        if not self._gone.is_set():
            self._readable.clear()
            self._wire.acknowledge_data(self._id)
        return data

    async def write(self, data: Buffer) -> None:
        """Send all of ``data``; returns when the last piece is on its way.

        ``data`` must not change afterwards. Writes of several tasks do not mix. Raises
        ``StreamClosedError``.
        """
        async with self._write_lock:
            view = memoryview(data)
            while view:
                await self._acknowledged()
                piece = view[: self.max_payload_bytes]
                view = view[len(piece) :]
                self._writable.clear()
                self._wire.send_data(self._id, piece)

    async def close(self) -> None:
        """Close it once the peer took all that was written; safe on a closed stream."""
        try:
            async with self._write_lock:
                await self._acknowledged()
        except StreamClosedError:
            return
        self._gone.set()
        self._readable.set()
        self._wire.close_stream(self._id)

    async def wait_closed(self) -> None:
        """Return when the peer closed the stream or its connection is gone."""
        await self._gone.wait()

    async def _acknowledged(self) -> None:
        await self._writable.wait()
        if self._gone.is_set():
            raise StreamClosedError("the stream was closed by the other side")

    # -- for the connection ----------------------------------------------------------------

    def feed(self, data: Buffer) -> None:
        """A payload came."""
        self._received = data
        self._readable.set()

    def acknowledged(self) -> None:
        """The peer took the last payload."""
        self._writable.set()

    def gone(self) -> None:
        """The peer closed the stream, or the connection is gone."""
        self._gone.set()
        self._readable.set()
        self._writable.set()


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Serves one stream to its end; the stream is closed after it returns."""
