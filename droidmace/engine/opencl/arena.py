"""Buffers cut from a few large ones.

A driver looks at every memory object of a command each time it is enqueued. Kernels that take one
object, and say where in it their tensors lie, are enqueued faster; all others take the pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pyopencl as cl

CHUNK_BYTES = 64 << 20
"""Enough for the weights and activations of most nets that phones run."""


class Arena:
    """Hands out pieces of chunks that ``allocate`` makes. A chunk lives as long as its pieces."""

    def __init__(
        self,
        allocate: Callable[[int], cl.Buffer],
        alignment_bytes: int,
        chunk_bytes: int,
    ) -> None:
        self._allocate = allocate
        self._alignment = alignment_bytes
        self._chunk_bytes = chunk_bytes
        self._chunk: cl.Buffer | None = None
        self._used = 0

    def allocate(self, size_bytes: int) -> cl.Buffer:
        """A buffer of that size: a piece of the current chunk, or alone if it is large.

        Raises what ``allocate`` raises, and ``cl.Error``.
        """
        if 2 * size_bytes > self._chunk_bytes:
            return self._allocate(size_bytes)
        if self._chunk is None or self._used + size_bytes > self._chunk_bytes:
            self._chunk = self._allocate(self._chunk_bytes)
            self._used = 0
        start = self._used
        self._used = -(-(start + size_bytes) // self._alignment) * self._alignment
        return self._chunk.get_sub_region(start, size_bytes)


def place_of(buffer: cl.Buffer) -> tuple[cl.Buffer, int]:
    """The chunk that ``buffer`` is a piece of, and where it begins there, in bytes.

    A buffer of its own begins at 0 in itself.
    """
    chunk = buffer.get_info(cl.mem_info.ASSOCIATED_MEMOBJECT)
    if chunk is None:
        return buffer, 0
    return cast(cl.Buffer, chunk), cast(int, buffer.get_info(cl.mem_info.OFFSET))
