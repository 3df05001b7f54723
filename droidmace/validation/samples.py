"""Samples on their way to a phone: as a data set holds them, and as a model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float32] | NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class RawSample:
    """One sample as its data set holds it.

    ``name`` is what a user would call it (a file, or its number). ``pixels`` is uint8 or float
    (height, width, channels), to be prepared; ``tensors`` are inputs by name that need no
    preparation. One of the two is there. ``label`` counts from 0; None without labels.
    """

    name: str
    label: int | None
    pixels: NDArray[Any] | None = None
    tensors: Mapping[str, Tensor] | None = None


class SampleSource(Protocol):
    """A data set that is read piece by piece: memory does not depend on its size."""

    @property
    def count(self) -> int:
        """How many samples there are, before any limit."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names in the order of labels; empty if they are not known."""
        ...

    @property
    def identity(self) -> str:
        """A SHA-256 that changes when the samples or their labels do."""
        ...

    @property
    def many_readers(self) -> bool:
        """Whether ``read`` may run in several threads at once, and is slow enough to gain by it."""
        ...

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        """Samples ``begin`` to ``end`` (exclusive), in order.

        Raises ``InputError`` or ``FormatError`` that names the sample and the file.
        """
        ...


def input_bytes(values: Tensor) -> bytes:
    """An input's file as ``mace_run`` reads it: raw, little endian."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One sample as the model takes it.

    ``inputs`` by tensor name: float32 or int32 in the shape, with the batch dimension, and the
    layout that the deployment file gives.
    """

    index: int
    name: str
    label: int | None
    inputs: Mapping[str, Tensor]
