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


def input_values(values: NDArray[Any], data_type: str) -> Tensor:
    """Values as the model takes them: int32 if that is its ``data_type``, or else float32.

    Raises ``ValueError`` for what would become other numbers without a word: complex ones, and for
    int32 those that are not whole or beyond it.
    """
    if values.dtype.kind not in "biufO":
        raise ValueError(f"{values.dtype} is not a real number")
    if data_type != "int32":
        # Beyond float32 is infinity, which is counted as such.
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        found = np.ascontiguousarray(values, dtype=np.int32)
    if not np.array_equal(found, values):
        wrong = values[found != values].flat[0]
        raise ValueError(f"{wrong} is no int32")
    return found


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

    @property
    def finite(self) -> bool:
        """Whether no input holds NaN or infinity."""
        return all(bool(np.isfinite(values).all()) for values in self.inputs.values())
