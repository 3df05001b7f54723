"""The ``sync:`` service: stat, list, push and pull."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TypeVar

from droidmace.emulator.adbd import sync_frames
from droidmace.emulator.adbd.errors import RemoteProtocolError
from droidmace.emulator.adbd.stats import Stats
from droidmace.emulator.adbd.streams import Stream
from droidmace.emulator.adbd.sync_files import IncomingFile, OutgoingFile, listing, status_of
from droidmace.emulator.adbd.sync_frames import (
    ListRequest,
    Quit,
    ReceiveRequest,
    SendData,
    SendDone,
    SendRequest,
    StatKind,
    StatRequest,
    SyncDecoder,
)

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class SyncService:
    """Moves files between hosts and the phone."""

    def __init__(self, tmp_suffix: str, stats: Stats) -> None:
        self._tmp_suffix = tmp_suffix
        self._stats = stats

    async def run(self, stream: Stream) -> None:
        """Serve one stream until the host quits or goes away."""
        session = _Session(stream, self._tmp_suffix, self._stats)
        try:
            await session.run()
        except RemoteProtocolError as exc:
            logger.warning("closing a sync stream: %s", exc)
            await stream.write(sync_frames.fail(exc.message))
        finally:
            await session.abandon()


class _Push:
    """A push under way. After its first error, the rest of the content is only swallowed."""

    def __init__(self, request: SendRequest) -> None:
        self.path = os.fsdecode(request.path)
        self.file: IncomingFile | None = None
        self.failure: str | None = None


class _Session:
    def __init__(self, stream: Stream, tmp_suffix: str, stats: Stats) -> None:
        self._stream = stream
        self._tmp_suffix = tmp_suffix
        self._stats = stats
        self._push: _Push | None = None

    async def run(self) -> None:
        decoder = SyncDecoder()
        while data := await self._stream.read():
            pieces: list[memoryview] = []
            for event in decoder.feed(data):
                if isinstance(event, SendData):
                    pieces.append(event.data)
                    continue
                await self._store(pieces)
                pieces = []
                match event:
                    case Quit():
                        return
                    case StatRequest():
                        await self._stat(event)
                    case ListRequest(path=path, version=version):
                        await self._stream.write(await _blocking(lambda: listing(path, version)))
                    case ReceiveRequest():
                        await self._send_file(event)
                    case SendRequest():
                        await self._begin(event)
                    case SendDone(mtime_s=mtime_s):
                        await self._finish(mtime_s)
            await self._store(pieces)

    async def abandon(self) -> None:
        """The stream is over: a push that is not complete leaves nothing behind."""
        push, self._push = self._push, None
        if push is not None and push.file is not None:
            logger.info("%r: push abandoned", push.path)
            await _blocking(push.file.discard)

    async def _stat(self, request: StatRequest) -> None:
        follow = request.kind is StatKind.FOLLOW
        status = await _blocking(lambda: status_of(request.path, follow=follow))
        await self._stream.write(
            sync_frames.stat_reply(request.kind, status.result, status.error_number)
        )

    async def _send_file(self, request: ReceiveRequest) -> None:
        path = os.fsdecode(request.path)
        if request.flags:
            await self._stream.write(sync_frames.fail("compression was not offered"))
            return
        try:
            file = await _blocking(
                lambda: OutgoingFile(request.path, self._stream.max_payload_bytes)
            )
        except OSError as exc:
            await self._stream.write(sync_frames.fail(f"cannot open {path}: {exc.strerror}"))
            return
        try:
            while not file.at_end:
                block, content_bytes = await _blocking(file.next_block)
                self._stats.add_pulled(path, content_bytes)
                await self._stream.write(block)
        except OSError as exc:
            await self._stream.write(sync_frames.fail(f"cannot read {path}: {exc.strerror}"))
        else:
            self._stats.pulled_files += 1
        finally:
            await _blocking(file.close)

    async def _begin(self, request: SendRequest) -> None:
        push = self._push = _Push(request)
        if request.flags:
            push.failure = "compression was not offered"
            return
        try:
            push.file = await _blocking(
                lambda: IncomingFile(request.path, request.mode, self._tmp_suffix)
            )
        except OSError as exc:
            push.failure = f"cannot create {push.path}: {exc.strerror}"

    async def _store(self, pieces: list[memoryview]) -> None:
        push = self._push
        if push is None or not pieces:
            return
        self._stats.add_pushed(push.path, sum(len(piece) for piece in pieces))
        file = push.file
        if file is None:
            return
        try:
            await _blocking(lambda: file.write(pieces))
        except OSError as exc:
            push.failure = f"cannot write {push.path}: {exc.strerror}"
            push.file = None
            await _blocking(file.discard)

    async def _finish(self, mtime_s: int) -> None:
        push, self._push = self._push, None
        assert push is not None, "the decoder says DONE only after a send request"
        file = push.file
        if file is not None:
            try:
                await _blocking(lambda: file.commit(mtime_s))
            except OSError as exc:
                push.failure = f"cannot store {push.path}: {exc.strerror}"
                await _blocking(file.discard)
        if push.failure is None:
            self._stats.pushed_files += 1
            await self._stream.write(sync_frames.okay())
        else:
            logger.info("push failed: %r", push.failure)
            await self._stream.write(sync_frames.fail(push.failure))


async def _blocking(call: Callable[[], _T]) -> _T:
    """Run a call that may wait for the disk. It always runs to its end, even when cancelled."""
    task = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(None, call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
