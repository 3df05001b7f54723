"""NumPy's array files (``.npy``, and ``.npz``: a zip of them), read piece by piece.

The format: numpy's ``numpy.lib.format``. Arrays of Python objects are pickles, which can run any
code when they are read; they are refused.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from droidmace.errors import FormatError

MAX_MEMBERS = 10_000
_PIECE_BYTES = 1 << 20
_MAX_HEADER = 10_000
"""Bytes; numpy's own limit."""


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What stands before the values; ``size`` in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int

    @property
    def item_bytes(self) -> int:
        """Bytes of one entry along the first dimension."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def values_bytes(self) -> int:
        """Bytes of all values."""
        return self.dtype.itemsize * math.prod(self.shape)


def read_header(stream: IO[bytes]) -> NpyHeader:
    """The header at the beginning of a ``.npy``; the stream then stands at its values.

    Raises ``FormatError``: not such a file, pickled objects, values in Fortran's order, or a type
    that is no plain number.
    """
    counted = _Counted(stream)
    try:
        version = npy_format.read_magic(counted)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise FormatError(f"version {version[0]}.{version[1]} of the format is not known")
        shape, fortran, dtype = read(counted, max_header_size=_MAX_HEADER)
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as error:
        raise FormatError(f"not a .npy array: {str(error)[:200]}", offset=0) from error
    if dtype.hasobject:
        raise FormatError(
            "holds Python objects (pickled): reading them could run any code",
            hint="save it as an array of numbers",
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype.subdtype is not None:
        raise FormatError(f"holds {dtype}, not plain numbers", hint="save it as numbers")
    if fortran and len(shape) > 1:
        raise FormatError(
            "lies in Fortran's order, so that its samples cannot be read one by one",
            hint="save numpy.ascontiguousarray(array)",
        )
    if any(side < 0 for side in shape):
        raise FormatError(f"has the shape {shape}")
    return NpyHeader(dtype, tuple(int(side) for side in shape), counted.count)


class _Counted:
    """A stream, and how much was read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the stream's own."""
        data = self._stream.read(size)
        self.count += len(data)
        return data


def read_npy(path: Path, *, max_bytes: int) -> NDArray[Any]:
    """A whole ``.npy`` file in native byte order. Raises ``FormatError`` naming it."""
    with translated(str(path)), path.open("rb") as stream:
        header = read_header(stream)
        if header.values_bytes > max_bytes:
            raise FormatError(f"holds more than {max_bytes} bytes")
        values = stream.read(header.values_bytes + 1)
        if len(values) != header.values_bytes:
            raise FormatError(f"holds {len(values)} bytes of values, not {header.values_bytes}")
        return _native(np.frombuffer(values, header.dtype).reshape(header.shape))


class NpzArray:
    """One array of an ``.npz``; consecutive reads continue where the last one stopped."""

    def __init__(self, archive: zipfile.ZipFile, member: str, where: str) -> None:
        self._archive = archive
        self._member = member
        self.where = where
        self._stream: IO[bytes] | None = None
        self._position = 0
        with translated(where):
            with archive.open(member) as stream:
                self.header = read_header(stream)
            held = archive.getinfo(member).file_size - self.header.size
            if held != self.header.values_bytes:
                raise FormatError(
                    f"announces {self.header.values_bytes} bytes of values, but {held} follow",
                    offset=self.header.size,
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values in memory."""
        return self.header.dtype.newbyteorder("=")

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Entries ``begin`` to ``end`` (exclusive) along the first dimension, native byte order.

        Raises ``FormatError`` naming the file and the array.
        """
        if not self.shape or not 0 <= begin <= end <= self.shape[0]:
            raise ValueError(f"{begin} to {end} of {self.shape}")
        with translated(self.where):
            start = self.header.size + begin * self.header.item_bytes
            if self._stream is None or self._position > start:
                self.close()
                self._stream, self._position = self._archive.open(self._member), 0
            while self._position < start:
                self._take(min(_PIECE_BYTES, start - self._position))
            values = self._take((end - begin) * self.header.item_bytes)
            array = np.frombuffer(values, self.header.dtype)
            return _native(array.reshape(end - begin, *self.shape[1:]))

    def close(self) -> None:
        """Close the member; another read opens it again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _take(self, size: int) -> bytes:
        if self._stream is None:
            raise ValueError("not open")
        data = self._stream.read(size)
        self._position += len(data)
        if len(data) != size:
            raise FormatError("it ends too early", offset=self._position)
        return data


def open_npz(path: Path) -> tuple[zipfile.ZipFile, dict[str, NpzArray]]:
    """The arrays of an ``.npz`` by name. Raises ``FormatError`` naming file and array."""
    with translated(str(path)):
        archive = zipfile.ZipFile(path)
    try:
        members = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(members) > MAX_MEMBERS:
            raise FormatError(f"holds {len(members)} arrays", where=str(path))
        return archive, {
            member.removesuffix(".npy"): NpzArray(archive, member, f"{path}: {member}")
            for member in members
        }
    except BaseException:
        archive.close()
        raise


@contextmanager
def translated(where: str) -> Iterator[None]:
    """What goes wrong in a zip or an array becomes a ``FormatError`` at ``where``."""
    hint = "give a file that numpy.save or numpy.savez wrote"
    try:
        yield
    except FormatError as error:
        if error.where is None:
            error.where = where
            error.hint = error.hint or hint
        raise
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        # An EOFError of zipfile's has no text.
        raise FormatError(
            f"damaged: {str(error) or 'it ends too early'}", where=where, hint=hint
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        # zipfile: encrypted, or compressed in a way it doesn't know.
        raise FormatError(f"cannot be read: {error}", where=where, hint=hint) from error
    except OSError as error:
        raise FormatError(
            f"cannot be read: {error.strerror or error}", where=where, hint="check the path"
        ) from error


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("="), copy=False)
