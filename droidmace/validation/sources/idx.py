"""Images in an IDX file, such as the MNIST family's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from droidmace.errors import FormatError
from droidmace.validation.idx import IdxFile
from droidmace.validation.labels import Labels
from droidmace.validation.samples import RawSample

_PIECE_BYTES = 1 << 20
MAX_IMAGE_BYTES = 1 << 28


class IdxSource:
    """Images uint8 (n, height, width) or (n, height, width, channels), labelled or not.

    Raises ``FormatError`` naming the file: damaged, of another type or shape, empty, or not as many
    labels as images.
    """

    many_readers = False

    def __init__(
        self, images: Path, labels: Labels | None = None, classes: tuple[str, ...] = ()
    ) -> None:
        self._file = IdxFile(images)
        self._labels = None if labels is None else labels.values
        self._classes = classes
        dtype, shape = self._file.header.dtype, self._file.header.shape
        fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
        if dtype != np.uint8 or not fits or 0 in shape[1:]:
            raise FormatError(
                f"holds {dtype} {shape} instead of uint8 images (n, height, width)",
                where=str(images),
                hint="give the images' file: droidmace.dataset.images",
            )
        if self._file.header.item_bytes > MAX_IMAGE_BYTES:
            raise FormatError(
                f"holds images of {'x'.join(map(str, shape[1:]))} pixels, which is too large",
                where=str(images),
            )
        if not len(self._file):
            raise FormatError("holds no image", where=str(images), hint="give another file")
        if labels is not None:
            labels.check_count(len(self._file), images)

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self._file)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """All labels; None without."""
        return self._labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; empty if they are not known."""
        return self._classes

    @property
    def identity(self) -> str:
        """A hash of all pixels and labels; of a compressed file, that of what is in it."""
        digest = hashlib.sha256(self._file.sha256.encode())
        if self._labels is not None:
            digest.update(np.array(self._labels, "<i8").tobytes())
        return digest.hexdigest()

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        """Images ``begin`` to ``end`` (exclusive); named by their number."""
        piece = max(1, _PIECE_BYTES // self._file.header.item_bytes)
        for first in range(begin, end, piece):
            pixels = self._file.read(first, min(first + piece, end))
            if pixels.ndim == 3:
                pixels = pixels[..., np.newaxis]
            for place, image in enumerate(pixels):
                index = first + place
                label = None if self._labels is None else self._labels[index]
                yield RawSample(f"{self._file.path.name}[{index}]", label, pixels=image)

    def close(self) -> None:
        """Close the file; another read opens it again."""
        self._file.close()
