"""Prepared samples on the disk, from where the phone and the reference read them in turn.

A chunk may be tens of MiB, several are under way at a time, and a reference may lag behind the
phone: what waits is in a file, and memory holds pieces of it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import InputError
from droidmace.validation.samples import Tensor, input_bytes

_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one input lies in every sample's record."""

    name: str
    offset: int
    size: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class InputSpool(Sequence[Mapping[str, bytes]]):
    """Samples' inputs as ``mace_run`` reads them, in a file without a name.

    First all samples are appended, from one thread; then any thread may read. Close it in the end.
    """

    def __init__(self, folder: Path) -> None:
        """Make the file in ``folder``; raises ``InputError`` if that cannot be."""
        self._folder = folder
        try:
            self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._trouble(error) from error
        self._lock = threading.Lock()
        self._places: tuple[_Place, ...] = ()
        self._record_bytes = 0
        self._count = 0

    def append(self, inputs: Mapping[str, Tensor]) -> None:
        """Add a sample, whose inputs are of the same names, types and shapes as those before.

        Raises ``InputError`` if the disk does not take it, ``ValueError`` for other inputs.
        """
        places = _places(inputs)
        if not self._count:
            self._places = places
            self._record_bytes = sum(place.size for place in places)
        elif places != self._places:
            raise ValueError(f"sample {self._count} has other inputs than those before it")
        try:
            for values in inputs.values():
                self._stream.write(input_bytes(values))
        except OSError as error:
            raise self._trouble(error) from error
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Mapping[str, bytes]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, bytes]]: ...

    def __getitem__(
        self, place: int | slice
    ) -> Mapping[str, bytes] | Sequence[Mapping[str, bytes]]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return self._files(self._records(place % self._count, 1))

    def __iter__(self) -> Iterator[Mapping[str, bytes]]:
        step = max(1, _READ_BYTES // max(1, self._record_bytes))
        for first in range(0, self._count, step):
            records = memoryview(self._records(first, min(step, self._count - first)))
            for begin in range(0, len(records), self._record_bytes):
                yield self._files(records[begin : begin + self._record_bytes])

    def arrays(
        self, most_bytes: int, *, least: int = 1
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """All samples in pieces: the number of the first, arrays (n, *shape) by input.

        A piece has ``most_bytes`` at most, but for ``least`` samples.
        """
        step = max(least, most_bytes // max(1, self._record_bytes))
        for first in range(0, self._count, step):
            count = min(step, self._count - first)
            table = np.frombuffer(self._records(first, count), np.uint8).reshape(count, -1)
            yield (
                first,
                {
                    place.name: np.ascontiguousarray(
                        table[:, place.offset : place.offset + place.size]
                    )
                    .view(place.dtype)
                    .reshape(count, *place.shape)
                    for place in self._places
                },
            )

    def close(self) -> None:
        """Give the disk's room back; safe to call twice."""
        # What a full disk did not take is still to be written, and fails again.
        with suppress(OSError):
            self._stream.close()

    def _records(self, first: int, count: int) -> bytes:
        wanted = count * self._record_bytes
        try:
            with self._lock:
                # Also writes what was appended and is not in the file yet.
                self._stream.seek(first * self._record_bytes)
                found = self._stream.read(wanted)
        except OSError as error:
            raise self._trouble(error) from error
        if len(found) != wanted:
            raise InputError("shorter than it was written", where=str(self._folder))
        return found

    def _files(self, record: bytes | memoryview) -> dict[str, bytes]:
        return {
            place.name: bytes(record[place.offset : place.offset + place.size])
            for place in self._places
        }

    def _trouble(self, error: OSError) -> InputError:
        return InputError(
            f"samples on their way to the phone cannot be kept: {error.strerror or error}",
            where=str(self._folder),
            hint="free some space on the disk and run the command again",
        )


def _places(inputs: Mapping[str, Tensor]) -> tuple[_Place, ...]:
    places: list[_Place] = []
    offset = 0
    for name, values in inputs.items():
        dtype = values.dtype.newbyteorder("<")
        places.append(_Place(name, offset, values.nbytes, dtype, values.shape))
        offset += values.nbytes
    return tuple(places)
