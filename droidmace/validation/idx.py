"""The IDX file format of the MNIST family: a small header, then one array, big endian.

Bytes 0-1 are zero, byte 2 is the type, byte 3 the number of dimensions; then each dimension as
uint32, then the values (http://yann.lecun.com/exdb/mnist/, "The IDX file format").
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError

MAX_BYTES = 1 << 30
"""Largest array that :func:`read_idx` reads, after decompression."""

_GZIP_MAGIC = b"\x1f\x8b"
# Deflate makes at most 1032 bytes of one (https://zlib.net/zlib_tech.html).
_MAX_INFLATION = 1032
_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_MAX_DIMENSIONS = 32
_PREFIX_SIZE = 4
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class IdxHeader:
    """What stands before the values."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return _PREFIX_SIZE + 4 * len(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one entry along the first dimension."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def values_bytes(self) -> int:
        """Bytes of all values."""
        return self.shape[0] * self.item_bytes

    @classmethod
    def parse(cls, data: bytes) -> IdxHeader:
        """From the first bytes of a file; raises ``FormatError``."""
        if len(data) < _PREFIX_SIZE:
            raise FormatError(f"{len(data)} bytes are too few for an IDX header", offset=len(data))
        if data[:2] != b"\0\0":
            raise FormatError("not an IDX file: it does not begin with two zero bytes", offset=0)
        dtype = _TYPES.get(data[2])
        if dtype is None:
            raise FormatError(f"unknown IDX type 0x{data[2]:02x}", offset=2)
        dimensions = data[3]
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise FormatError(f"{dimensions} dimensions", offset=3)
        if len(data) < _PREFIX_SIZE + 4 * dimensions:
            raise FormatError("the file ends in its header", offset=len(data))
        return cls(dtype, struct.unpack_from(f">{dimensions}I", data, _PREFIX_SIZE))

    def check_size(self, values_bytes: int) -> None:
        """Refuse a file in which not exactly the announced values follow."""
        if values_bytes != self.values_bytes:
            raise FormatError(
                f"its header announces {self.values_bytes} bytes of values "
                f"({'x'.join(map(str, self.shape))}), but {values_bytes} follow",
                offset=self.size + min(values_bytes, self.values_bytes),
            )

    def array(self, values: bytes, count: int) -> NDArray[Any]:
        """``count`` entries of their big-endian ``values``, in native byte order."""
        found: NDArray[Any] = np.frombuffer(values, self.dtype).reshape(count, *self.shape[1:])
        return found.astype(self.dtype.newbyteorder("="))


class IdxFile:
    """An IDX file, plain or gzip, that is read piece by piece.

    Opening it reads it to its end once, without keeping anything: a file that is cut short or
    holds more than it says is refused before its first value is used. ``sha256`` is that of the
    decompressed content. Consecutive reads continue where the last one stopped.

    Raises ``FormatError`` naming the file and the offset (in the decompressed bytes).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: gzip.GzipFile | None = None
        with self._translated():
            self.header, self.sha256, self._version = self._examine()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.header.shape[0]

    def close(self) -> None:
        """Close the file; another read opens it again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Entries ``begin`` to ``end`` (exclusive) along the first dimension, native byte order."""
        if not 0 <= begin <= end <= len(self):
            raise ValueError(f"{begin} to {end} of {len(self)} entries")
        with self._translated():
            start = self.header.size + begin * self.header.item_bytes
            wanted = (end - begin) * self.header.item_bytes
            values = self._bytes(start, wanted)
            if len(values) != wanted:
                raise FormatError("it became shorter while it was read", offset=start + len(values))
            return self.header.array(values, end - begin)

    def _bytes(self, start: int, size: int) -> bytes:
        stream = self._stream or _open(self.path)
        if _version(stream) != self._version:
            stream.close()
            self._stream = None
            raise FormatError("it changed while it was read")
        if not isinstance(stream, gzip.GzipFile):
            with stream:
                stream.seek(start)
                return stream.read(size)
        # Kept open: going on costs nothing, and going to where it is means to unpack all before it.
        self._stream = stream
        stream.seek(start)
        return stream.read(size)

    def _examine(self) -> tuple[IdxHeader, str, tuple[int, ...]]:
        digest = hashlib.sha256()
        with _open(self.path) as stream:
            version = _version(stream)
            prefix = stream.read(_PREFIX_SIZE)
            sizes = stream.read(4 * prefix[3]) if len(prefix) == _PREFIX_SIZE else b""
            header = IdxHeader.parse(prefix + sizes)
            digest.update(prefix + sizes)
            file_bytes = os.fstat(stream.fileno()).st_size
            if not isinstance(stream, gzip.GzipFile):
                header.check_size(file_bytes - header.size)
            # What a file this small cannot hold isn't unpacked to see.
            if header.values_bytes > file_bytes * _MAX_INFLATION:
                raise FormatError(
                    f"its header announces {header.values_bytes} bytes of values "
                    f"({'x'.join(map(str, header.shape))}); the file has {file_bytes}",
                    offset=_PREFIX_SIZE,
                )
            found = 0
            while found <= header.values_bytes and (piece := stream.read(_PIECE_BYTES)):
                digest.update(piece)
                found += len(piece)
        header.check_size(found)
        return header, digest.hexdigest(), version

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FormatError as error:
            raise FormatError(
                error.message,
                where=str(self.path),
                hint="give an IDX file, plain or gzip; other images as a folder, or as .npz",
            ) from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(
                f"damaged gzip data: {error}",
                where=str(self.path),
                hint="give an IDX file, plain or gzip",
            ) from error
        except OSError as error:
            raise FormatError(
                f"cannot be read: {error.strerror or error}",
                where=str(self.path),
                hint="check the path",
            ) from error


def read_idx(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read a whole IDX file, plain or gzip; the array has the file's shape, native byte order.

    Raises ``FormatError`` naming the file and the offset (in the decompressed bytes).
    """
    with IdxFile(path) as file:
        if file.header.values_bytes > max_bytes:
            raise FormatError(f"holds more than {max_bytes} bytes", where=str(path))
        return file.read(0, len(file))


def parse_idx(data: bytes) -> NDArray[Any]:
    """Parse the bytes of an IDX file; raises ``FormatError``."""
    header = IdxHeader.parse(data)
    header.check_size(len(data) - header.size)
    return header.array(data[header.size :], header.shape[0])


def _version(stream: gzip.GzipFile | IO[bytes]) -> tuple[int, ...]:
    """What is another one if another file takes its place, or is written into it."""
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open(path: Path) -> gzip.GzipFile | IO[bytes]:
    with path.open("rb") as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.GzipFile(path) if compressed else path.open("rb")
