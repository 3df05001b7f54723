"""Thousands of samples through one phone: chunk after chunk, the next one always on its way.

While the phone computes one chunk the next one is prepared and pushed from another thread, and the
one after starts as soon as ``mace_run`` is free, while the outputs before it still travel.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Iterable, Iterator

from droidmace.devices.base import Device
from droidmace.errors import DeviceError, DeviceStorageError
from droidmace.macerun.batch import (
    SLOTS,
    BatchTransport,
    Chunk,
    ChunkOutputs,
    RunningChunk,
    SentChunk,
)
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession

__all__ = ["BatchRunner", "Chunk", "ChunkOutputs"]

DEFAULT_STORAGE_SHARE = 0.25
"""Of the phone's free storage."""
_FIRST_BYTES = 16 << 20
_FIRST_SAMPLES = 1024
_MAX_BYTES = 64 << 20
"""Of a chunk's inputs and outputs. The outputs of two chunks are in memory."""
_MAX_SAMPLES = 2048
_TARGET_RUN_S = 10.0
_MIB = 1 << 20
_BLOCK_BYTES = 4096
_FILE_BYTES = 512
"""What a file costs besides its content: an inode, an entry in its folder."""
_KEPT_BYTES = 256 << 20
_KEPT_SHARE = 0.5
"""Of the budget: for outputs that stay on the phone until the end."""
_JOIN_S = 15.0


class BatchRunner:
    """Runs a model on chunks of samples on one phone.

    ``invocation`` is that of single runs. Never more than ``storage_share`` of what is free on the
    phone at first is used; ``timeout_s`` is for each step of a chunk.
    """

    def __init__(
        self,
        device: Device,
        session: MaceRunSession,
        root: str,
        invocation: Invocation,
        *,
        storage_share: float = DEFAULT_STORAGE_SHARE,
        timeout_s: float = 600.0,
    ) -> None:
        if not 0 < storage_share <= 1:
            raise ValueError(f"a share of {storage_share}")
        self._device = device
        self._transport = BatchTransport(device, session, invocation, root, timeout_s=timeout_s)
        self._invocation = invocation
        self._share = storage_share
        self._budget_bytes: float | None = None
        self._sample_run_s: float | None = None
        self._kept_bytes = 0

    def chunk_size(
        self, sample_bytes: int, output_bytes: int, count: int, *, wanted: int | None = None
    ) -> int:
        """How many of the ``count`` samples that are left the next chunk shall have.

        ``wanted``, as long as that is not too much at once. Else from the bytes of one sample's
        inputs and outputs, the phone's free storage, and the time that chunks took so far: raises
        ``DeviceStorageError`` if there is no room for one sample.
        """
        if count < 1:
            raise ValueError("no samples are left")
        most = max(1, _MAX_BYTES // (sample_bytes + output_bytes))
        if wanted is not None:
            return min(wanted, most, count)
        size = min(self._room(), most)
        if self._sample_run_s is None:
            size = min(size, _FIRST_SAMPLES, max(1, _FIRST_BYTES // (sample_bytes + output_bytes)))
        else:
            size = min(size, max(1, round(_TARGET_RUN_S / max(self._sample_run_s, 1e-6))))
        # Even chunks: a last one of a few samples would cost a whole start of mace_run.
        return math.ceil(count / math.ceil(count / size))

    def run(self, chunks: Iterable[Chunk]) -> Iterator[ChunkOutputs]:
        """Run all chunks; their outputs come in order. ``chunks`` is read from another thread.

        Whatever ends this, everything is removed from the phone as far as that can be reached.
        Raises what ``chunks`` raises, ``MaceRunError`` s and ``DeviceError`` s, among them
        ``DeviceStorageError`` for a chunk beyond the share.
        """
        self._transport.remove()
        self._budget()
        self._kept_bytes = 0
        sender = _Sender(self._transport, self._within_share(chunks))
        running: RunningChunk | None = None
        following: RunningChunk | None = None
        try:
            running = self._start(sender.take())
            while running is not None:

                def look_ahead(current: RunningChunk = running) -> None:
                    nonlocal following
                    if following is None and current.computed:
                        following = self._start(sender.take_now())

                outputs = running.collect(look_ahead)
                running, following = following, None
                sender.release()
                self._learn(outputs)
                yield outputs
                if running is None:
                    running = self._start(sender.take())
        finally:
            # In this order: nothing must still write what is removed.
            sender.stop()
            for one in (running, following):
                if one is not None:
                    with contextlib.suppress(DeviceError):
                        one.close()
            sender.join()
            with contextlib.suppress(DeviceError):
                self._transport.remove()

    def _start(self, chunk: SentChunk | None) -> RunningChunk | None:
        """Start a chunk; its outputs stay until the end while they have room.

        Removing and making files by the thousand again and again is slow on many file systems.
        """
        if chunk is None:
            return None
        size = chunk.count * _on_disk(self._invocation.outputs)
        keep = self._kept_bytes + size <= min(_KEPT_BYTES, self._budget() * _KEPT_SHARE)
        if keep:
            self._kept_bytes += size
        return self._transport.start(chunk, keep_outputs=keep)

    def _learn(self, outputs: ChunkOutputs) -> None:
        self._sample_run_s = outputs.run_s / outputs.count

    def _budget(self) -> float:
        """Our share of the phone's free storage in bytes, as it was at first."""
        if self._budget_bytes is None:
            free = self._transport.free_bytes()
            self._budget_bytes = math.inf if free is None else free * self._share
        return self._budget_bytes

    def _room(self) -> int:
        """How many samples a chunk may have for the phone's storage."""
        need = _on_disk((*self._invocation.inputs, *self._invocation.outputs))
        room = self._budget() * (1 - _KEPT_SHARE) / (SLOTS * need)
        if room < 1:
            raise self._too_large("one sample", SLOTS * need)
        return int(min(room, _MAX_SAMPLES))

    def _within_share(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks, as long as two of them fit into our share. Raises ``DeviceStorageError``."""
        need = SLOTS * _on_disk((*self._invocation.inputs, *self._invocation.outputs))
        for chunk in chunks:
            if len(chunk.inputs) * need > self._budget() * (1 - _KEPT_SHARE):
                count = len(chunk.inputs)
                raise self._too_large(f"a chunk of {count} samples", count * need)
            yield chunk

    def _too_large(self, what: str, need: float) -> DeviceStorageError:
        room = self._budget() * (1 - _KEPT_SHARE)
        return DeviceStorageError(
            f"{what} needs {need / _MIB:,.1f} MiB, with the next one already on its way; "
            f"{room / _MIB:,.1f} MiB may be used ({100 * self._share:.3g} % of what is free, "
            "half of it for outputs that are done)",
            serial=self._device.serial,
            hint="free some space on the device, allow a larger share, or make chunks smaller",
        )


def _on_disk(tensors: Iterable[TensorArg]) -> int:
    """What a file for each of these takes at most."""
    return sum(
        -(-tensor.size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES + _FILE_BYTES for tensor in tensors
    )


class _Sender:
    """Reads chunks and brings them to the phone, from a thread of its own."""

    def __init__(self, transport: BatchTransport, chunks: Iterable[Chunk]) -> None:
        self._transport = transport
        self._chunks = chunks
        self._stopping = threading.Event()
        self._room = threading.Semaphore(SLOTS)
        self._sent: queue.SimpleQueue[SentChunk | BaseException | None] = queue.SimpleQueue()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="batch sender", daemon=True)
        self._thread.start()

    def take(self) -> SentChunk | None:
        """Wait for the next chunk on the phone; None after the last. Raises what went wrong."""
        return None if self._over else self._judged(self._sent.get())

    def take_now(self) -> SentChunk | None:
        """The next chunk if it is there already; errors wait until :meth:`take`."""
        if self._over:
            return None
        try:
            found = self._sent.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, BaseException):
            self._sent.put(found)
            return None
        return self._judged(found)

    def release(self) -> None:
        """A chunk has left the phone: there is room for another."""
        self._room.release()

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping.set()
        self._room.release()

    def join(self) -> None:
        """Wait until nothing is sent any more."""
        self._thread.join(_JOIN_S)

    def _judged(self, found: SentChunk | BaseException | None) -> SentChunk | None:
        if isinstance(found, BaseException):
            self._over = True
            raise found
        self._over = found is None
        return found

    def _work(self) -> None:
        last: BaseException | None = None
        chunks = iter(self._chunks)
        try:
            while not self._stopping.is_set():
                chunk = next(chunks, None)
                if chunk is None:
                    break
                self._room.acquire()
                if self._stopping.is_set():
                    break
                sent = self._transport.send(chunk, self._stopping)
                self._sent.put(sent)
        except BaseException as error:  # raised again where somebody waits for a chunk
            last = error
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            self._sent.put(last)
