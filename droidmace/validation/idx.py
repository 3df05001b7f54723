"""The IDX file format of the MNIST family: a small header, then one array, big endian.

Bytes 0-1 are zero, byte 2 is the type, byte 3 the number of dimensions; then each dimension as
uint32, then the values (http://yann.lecun.com/exdb/mnist/, "The IDX file format").
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError

MAX_BYTES = 1 << 30
"""Largest array that is read, after decompression."""

_GZIP_MAGIC = b"\x1f\x8b"
_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_MAX_DIMENSIONS = 32


def read_idx(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read an IDX file, plain or gzip; the array has the file's shape and native byte order.

    Raises ``FormatError`` naming the file and the offset (in the decompressed bytes).
    """
    try:
        return parse_idx(_content(path, max_bytes))
    except FormatError as error:
        raise FormatError(
            error.message, where=str(path), hint="give an IDX file, plain or gzip"
        ) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def parse_idx(data: bytes) -> NDArray[Any]:
    """Parse the bytes of an IDX file; raises ``FormatError``."""
    if len(data) < 4:
        raise FormatError(f"{len(data)} bytes are too few for an IDX header", offset=len(data))
    if data[:2] != b"\0\0":
        raise FormatError("not an IDX file: it does not begin with two zero bytes", offset=0)
    dtype = _TYPES.get(data[2])
    if dtype is None:
        raise FormatError(f"unknown IDX type 0x{data[2]:02x}", offset=2)
    dimensions = data[3]
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise FormatError(f"{dimensions} dimensions", offset=3)
    header_size = 4 + 4 * dimensions
    if len(data) < header_size:
        raise FormatError("the file ends in its header", offset=len(data))
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    size = dtype.itemsize
    for length in shape:
        size *= length
    if len(data) - header_size != size:
        raise FormatError(
            f"its header announces {size} bytes of values ({'x'.join(map(str, shape))}), "
            f"but {len(data) - header_size} follow",
            offset=min(len(data), header_size + size),
        )
    values: NDArray[Any] = np.frombuffer(data, dtype=dtype, offset=header_size).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def _content(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as raw:
        compressed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not compressed:
            data = raw.read(max_bytes + 1)
        else:
            with gzip.GzipFile(fileobj=raw) as stream:
                try:
                    data = stream.read(max_bytes + 1)
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    raise FormatError(f"damaged gzip data: {error}") from error
    if len(data) > max_bytes:
        raise FormatError(f"holds more than {max_bytes} bytes", offset=max_bytes)
    return data
