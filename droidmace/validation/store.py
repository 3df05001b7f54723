"""Outputs of samples on the disk, so that a validation that was broken off goes on where it was.

A folder holds ``identity.json`` (what was computed: model, phone, data set, …; and the outputs'
layout) and ``outputs.bin``, a log of chunks. Each is appended, flushed and synced before it counts.
What a crash can leave behind is a torn last chunk; it is cut off when the store is opened again.

A chunk is a header (magic, first sample, number of samples, bytes, CRC-32 of the content, CRC-32 of
the header itself; little endian) and each output's values in turn, as (samples, elements).
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np

from droidmace.errors import FormatError, InputError
from droidmace.files import write_atomically
from droidmace.formats.tensor_values import Values

_HEADER = struct.Struct("<4sQQQI")
_SUM = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _SUM.size
_MAGIC = b"dmo1"
_MAX_IDENTITY_BYTES = 1 << 20
_READ_BYTES = 1 << 20
_KINDS = {"float32": "<f4", "int32": "<i4"}


class Outputs(Protocol):
    """What came back for consecutive samples: by output, shape (samples, elements)."""

    @property
    def first(self) -> int:
        """Number of the first sample."""
        ...

    @property
    def outputs(self) -> Mapping[str, Values]:
        """Values by the output's name."""
        ...


@dataclass(frozen=True, slots=True)
class _Layout:
    """One output: its name, the number of values per sample, and their type."""

    name: str
    elements: int
    kind: str

    @property
    def sample_bytes(self) -> int:
        return self.elements * 4


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where a chunk's content lies in the file."""

    first: int
    count: int
    offset: int

    @property
    def end(self) -> int:
        return self.first + self.count


class OutputStore:
    """The outputs known so far. Use it as a context manager, or close it.

    ``identity`` says what was computed: a store of another one is refused. One process at a time.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        """Open the store in ``folder``, which is made if it is not there.

        Raises ``InputError`` if it holds something else or cannot be written, ``FormatError`` for
        a damaged ``identity.json``.
        """
        self._folder = folder
        self._identity = dict(identity)
        self._layout: tuple[_Layout, ...] = ()
        self._pieces: list[_Piece] = []
        self.cut_bytes = 0
        """What a crash had left of a chunk, and was cut off."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open_identity()
            self._stream: io.BufferedRandom = self._open_log()
        except OSError as error:
            raise InputError(
                f"the outputs cannot be stored: {error.strerror or error}", where=str(folder)
            ) from error

    @property
    def done(self) -> tuple[range, ...]:
        """The samples whose outputs are known, as ranges that do not touch, in order."""
        ranges: list[range] = []
        for piece in sorted(self._pieces, key=lambda one: one.first):
            if ranges and ranges[-1].stop == piece.first:
                ranges[-1] = range(ranges[-1].start, piece.end)
            else:
                ranges.append(range(piece.first, piece.end))
        return tuple(ranges)

    def missing(self, count: int) -> tuple[range, ...]:
        """Those of the samples 0 to ``count`` whose outputs are not known, in order."""
        gaps: list[range] = []
        position = 0
        for known in self.done:
            if position < min(known.start, count):
                gaps.append(range(position, min(known.start, count)))
            position = known.stop
        if position < count:
            gaps.append(range(position, count))
        return tuple(gaps)

    def append(self, chunk: Outputs) -> None:
        """Keep a chunk's outputs: they are on the disk when this returns.

        Raises ``InputError`` if they cannot be written; the store is then as before. ``ValueError``
        for samples that are known already, and outputs that differ in kind from those before.
        """
        layout = tuple(_layout_of(name, values) for name, values in chunk.outputs.items())
        counts = {len(values) for values in chunk.outputs.values()}
        if not layout or len(counts) != 1 or not (count := counts.pop()):
            raise ValueError("a chunk without outputs, or with different numbers of them")
        new = range(chunk.first, chunk.first + count)
        if chunk.first < 0 or any(
            piece.first < new.stop and new.start < piece.end for piece in self._pieces
        ):
            raise ValueError(f"the outputs of some of samples {new} are known already")
        if self._layout and layout != self._layout:
            raise ValueError("outputs of another model")
        content = b"".join(
            np.ascontiguousarray(values, _KINDS[one.kind]).tobytes()
            for one, values in zip(layout, chunk.outputs.values(), strict=True)
        )
        header = _HEADER.pack(_MAGIC, chunk.first, count, len(content), zlib.crc32(content))
        try:
            if not self._layout:
                self._write_identity(layout)
                self._layout = layout
            end = self._stream.seek(0, os.SEEK_END)
            try:
                self._stream.write(header + _SUM.pack(zlib.crc32(header)) + content)
                self._stream.flush()
                os.fsync(self._stream.fileno())
            except BaseException:
                # A half chunk in the middle would hide those that follow it.
                os.ftruncate(self._stream.fileno(), end)
                raise
        except OSError as error:
            raise InputError(
                f"the outputs cannot be stored: {error.strerror or error}",
                where=str(self._folder),
                hint="free some space on the disk and run the command again: it goes on from here",
            ) from error
        self._pieces.append(_Piece(chunk.first, count, end + _HEADER_BYTES))

    def read(self, first: int, count: int) -> dict[str, Values]:
        """The outputs of samples ``first`` to ``first + count``: by name, (count, elements).

        Raises ``ValueError`` if some of them are not known.
        """
        result: dict[str, Values] = {
            one.name: np.empty((count, one.elements), _KINDS[one.kind]) for one in self._layout
        }
        found = 0
        for piece in self._pieces:
            begin, end = max(first, piece.first), min(first + count, piece.end)
            if begin < end:
                found += end - begin
                self._read_piece(piece, begin, end, first, result)
        if found != count or not result:
            raise ValueError(f"the outputs of samples {first} to {first + count} are not all known")
        return result

    def batches(self, size: int) -> Iterator[tuple[int, dict[str, Values]]]:
        """All that is known in order, ``size`` samples at most at a time, each with its first."""
        for known in self.done:
            for first in range(known.start, known.stop, size):
                yield first, self.read(first, min(size, known.stop - first))

    def close(self) -> None:
        """Close the files; safe to call twice."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read_piece(
        self, piece: _Piece, begin: int, end: int, first: int, result: dict[str, Values]
    ) -> None:
        offset = piece.offset
        for one in self._layout:
            self._stream.seek(offset + (begin - piece.first) * one.sample_bytes)
            rows = result[one.name][begin - first : end - first]
            size = (end - begin) * one.sample_bytes
            if self._stream.readinto(rows.reshape(-1).view(np.uint8).data) != size:
                raise FormatError("shorter than it was", where=str(self._log_path))
            offset += piece.count * one.sample_bytes

    @property
    def _log_path(self) -> Path:
        return self._folder / "outputs.bin"

    @property
    def _identity_path(self) -> Path:
        return self._folder / "identity.json"

    def _write_identity(self, layout: Sequence[_Layout]) -> None:
        document = {
            "identity": self._identity,
            "outputs": [[one.name, one.elements, one.kind] for one in layout],
        }
        write_atomically(self._identity_path, json.dumps(document, indent=1).encode())

    def _open_identity(self) -> None:
        path = self._identity_path
        if not path.exists():
            if self._log_path.exists() and self._log_path.stat().st_size:
                raise FormatError(
                    "the outputs' identity.json is gone",
                    where=str(self._folder),
                    hint="remove the folder, or give another one",
                )
            self._write_identity(())
            return
        with path.open("rb") as stream:
            text = stream.read(_MAX_IDENTITY_BYTES + 1)
        identity, self._layout = _parse_identity(text, str(path))
        if identity != self._identity:
            names = sorted(set(identity) | set(self._identity))
            other = [name for name in names if identity.get(name) != self._identity.get(name)]
            raise InputError(
                f"it holds the outputs of another run: {', '.join(other)} differ",
                where=str(self._folder),
                hint="remove the folder, or give another one",
            )

    def _open_log(self) -> io.BufferedRandom:
        descriptor = os.open(
            self._log_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666
        )
        stream = os.fdopen(descriptor, "r+b")
        try:
            size = stream.seek(0, os.SEEK_END)
            whole = self._scan(stream, size)
            self.cut_bytes = size - whole
            if self.cut_bytes:
                stream.truncate(whole)
                stream.flush()
                os.fsync(descriptor)
        except BaseException:
            stream.close()
            raise
        return stream

    def _scan(self, stream: IO[bytes], size: int) -> int:
        """Find the chunks; return the offset behind the last one that is whole."""
        position = 0
        sample_bytes = sum(one.sample_bytes for one in self._layout)
        while position + _HEADER_BYTES <= size:
            stream.seek(position)
            header = stream.read(_HEADER.size)
            (own_sum,) = _SUM.unpack(stream.read(_SUM.size))
            magic, first, count, length, content_sum = _HEADER.unpack(header)
            if magic != _MAGIC or own_sum != zlib.crc32(header):
                break
            if length != count * sample_bytes or position + _HEADER_BYTES + length > size:
                break
            if _crc_of(stream, length) != content_sum:
                break
            self._pieces.append(_Piece(first, count, position + _HEADER_BYTES))
            position += _HEADER_BYTES + length
        return position


def _crc_of(stream: IO[bytes], length: int) -> int:
    checksum = 0
    while length:
        data = stream.read(min(_READ_BYTES, length))
        if not data:
            return -1
        checksum = zlib.crc32(data, checksum)
        length -= len(data)
    return checksum


def _layout_of(name: str, values: Values) -> _Layout:
    if values.ndim != 2 or values.dtype.name not in _KINDS:
        raise ValueError(f"{name}: {values.dtype} {values.shape}")
    return _Layout(name, values.shape[1], values.dtype.name)


def _parse_identity(text: bytes, where: str) -> tuple[dict[str, str], tuple[_Layout, ...]]:
    try:
        document: Any = json.loads(text)
        identity = {str(name): str(value) for name, value in document["identity"].items()}
        layout = tuple(_read_layout(*one) for one in document["outputs"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(
            "damaged", where=where, hint="remove the folder, or give another one"
        ) from error
    return identity, layout


def _read_layout(name: object, elements: object, kind: object) -> _Layout:
    if not isinstance(name, str) or not isinstance(elements, int) or kind not in _KINDS:
        raise ValueError(name)
    if not 0 < elements <= 1 << 40:
        raise ValueError(elements)
    return _Layout(name, elements, str(kind))
