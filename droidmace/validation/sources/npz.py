"""Arrays in an ``.npz`` file: images with labels, or a model's inputs as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError
from droidmace.files import sha256_of_file
from droidmace.validation.labels import ClassNames, Labels
from droidmace.validation.layouts import TensorLike
from droidmace.validation.npy import NpzArray, open_npz
from droidmace.validation.samples import RawSample, Tensor

IMAGES = ("images", "x_test", "x")
LABELS = ("labels", "y_test", "y")
"""What arrays are called in such files; ``x_test`` and ``y_test`` by Keras's."""

MAX_SAMPLE_BYTES = 1 << 28
_PIECE_BYTES = 1 << 20


class NpzSource:
    """Samples along the first dimension of the arrays of one file.

    If the file has an array for each of the model's ``inputs``, these are taken as they are: (n, …)
    with the input's shape behind its batch dimension, or with it. Else one of :data:`IMAGES` holds
    images (n, height, width) or (n, height, width, channels), to be prepared. Labels are one of
    :data:`LABELS`, unless ``labels`` are given.

    Raises ``FormatError`` that names the file and the array: damaged, pickled, another number of
    entries than the others, of the wrong shape, or none of these arrays.
    """

    many_readers = False

    def __init__(
        self,
        path: Path,
        inputs: Sequence[TensorLike],
        classes: ClassNames,
        labels: Labels | None = None,
    ) -> None:
        self._path = path
        self._archive, arrays = open_npz(path)
        try:
            self._choose(arrays, inputs)
            own = next((arrays[name] for name in LABELS if name in arrays), None)
            if labels is None and own is not None:
                if own.shape and own.shape[0] != self._count:
                    # Before they are read: a small file may hold any number of zeros.
                    raise FormatError(
                        f"holds {own.shape[0]} labels for {self._count} images",
                        where=str(path),
                        hint="give one label per sample",
                    )
                values = own.read(0, own.shape[0]) if len(own.shape) == 1 else None
                if values is None and own.shape[1:] == (1,):
                    # Keras keeps labels as a column.
                    values = own.read(0, own.shape[0])[:, 0]
                if values is None:
                    raise FormatError(
                        f"has shape {list(own.shape)} instead of one label per sample",
                        where=own.where,
                        hint="give (n,) whole numbers",
                    )
                own.close()
                labels = classes.all_of(values, path, "its array of labels ")
            if labels is not None:
                labels.check_count(self._count, path)
        except BaseException:
            self._archive.close()
            raise
        self._labels = labels
        self._classes = classes.names

    def _choose(self, arrays: dict[str, NpzArray], inputs: Sequence[TensorLike]) -> None:
        names = [tensor.name for tensor in inputs]
        images = next((name for name in IMAGES if name in arrays), None)
        self._images = None
        self._tensors: dict[str, NpzArray] = {}
        self._shapes = {tensor.name: tensor.shape for tensor in inputs}
        if names and all(name in arrays for name in names):
            self._tensors = {name: arrays[name] for name in names}
            for name, array in self._tensors.items():
                shape = self._shapes[name]
                if array.shape[1:] not in (shape[1:], shape) or shape[0] != 1:
                    raise FormatError(
                        f"has shape {list(array.shape)}, but input {name!r} is {list(shape)}",
                        where=array.where,
                        hint="give (n, ...) with the input's shape behind its batch dimension",
                    )
        elif images is not None:
            self._images = arrays[images]
            if len(self._images.shape) not in (3, 4) or 0 in self._images.shape[1:]:
                raise FormatError(
                    f"has shape {list(self._images.shape)} instead of images "
                    "(n, height, width) or (n, height, width, channels)",
                    where=self._images.where,
                    hint="give channels last",
                )
        else:
            wanted = " or ".join((", ".join(names), IMAGES[0])) if names else IMAGES[0]
            raise FormatError(
                f"holds no array {wanted}; it has {', '.join(sorted(arrays)) or 'none'}",
                where=str(self._path),
                hint="name arrays as the model's inputs, or images and labels",
            )
        chosen = [*self._tensors.values(), *([self._images] if self._images else [])]
        counts = {array.where: array.shape[0] for array in chosen}
        self._count = chosen[0].shape[0]
        for where, count in counts.items():
            if count != self._count:
                raise FormatError(
                    f"holds {count} samples, {chosen[0].where} holds {self._count}", where=where
                )
        for array in chosen:
            if array.header.item_bytes > MAX_SAMPLE_BYTES:
                raise FormatError(
                    f"a sample has {array.header.item_bytes} bytes, more than {MAX_SAMPLE_BYTES}",
                    where=array.where,
                )
        if not self._count:
            raise FormatError("holds no sample", where=str(self._path), hint="give another file")

    @property
    def count(self) -> int:
        """How many samples there are."""
        return self._count

    @property
    def labels(self) -> tuple[int, ...] | None:
        """All labels; None without."""
        return None if self._labels is None else self._labels.values

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; empty if they are not known."""
        return self._classes

    @property
    def identity(self) -> str:
        """A hash of the file and the labels."""
        digest = hashlib.sha256(sha256_of_file(self._path).encode())
        if self._labels is not None:
            digest.update(np.array(self._labels.values, "<i8").tobytes())
        return digest.hexdigest()

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        """Samples ``begin`` to ``end`` (exclusive); named by their number."""
        arrays = [self._images] if self._images else list(self._tensors.values())
        item_bytes = sum(array.header.item_bytes for array in arrays)
        piece = max(1, _PIECE_BYTES // max(1, item_bytes))
        for first in range(begin, end, piece):
            last = min(first + piece, end)
            for place, (pixels, tensors) in enumerate(self._piece(first, last)):
                index = first + place
                label = None if self._labels is None else self._labels.values[index]
                yield RawSample(f"{self._path.name}[{index}]", label, pixels, tensors)

    def close(self) -> None:
        """Close the file; there is nothing to read after that."""
        for array in [*self._tensors.values(), *([self._images] if self._images else [])]:
            array.close()
        self._archive.close()

    def _piece(
        self, begin: int, end: int
    ) -> Iterator[tuple[NDArray[Any] | None, dict[str, Tensor] | None]]:
        if self._images is not None:
            images = self._images.read(begin, end)
            for image in images:
                yield (image if image.ndim == 3 else image[..., np.newaxis]), None
            return
        values = {
            name: array.read(begin, end).reshape(end - begin, *self._shapes[name])
            for name, array in self._tensors.items()
        }
        for place in range(end - begin):
            yield None, {name: array[place] for name, array in values.items()}
