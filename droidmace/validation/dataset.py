"""Labelled images, and how a pixel becomes an input value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError, InputError
from droidmace.validation.idx import read_idx

Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """``images``: uint8 (n, height, width), one channel; ``labels``: int64 (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, limit: int | None) -> LabelledImages:
        """The first ``limit`` of them (all, if None)."""
        return self if limit is None else LabelledImages(self.images[:limit], self.labels[:limit])

    def inputs(self, *, mean: float, scale: float, layout: Layout) -> NDArray[np.float32]:
        """``(pixel - mean) / scale`` as float32: (n, 1, h, w) for NCHW, (n, h, w, 1) for NHWC."""
        if scale == 0:
            raise InputError("the pixel scale is 0", hint="set dataset.scale, for example to 255")
        values = (self.images.astype(np.float32) - np.float32(mean)) / np.float32(scale)
        return values[:, np.newaxis] if layout == "NCHW" else values[..., np.newaxis]


def input_bytes(inputs: NDArray[np.float32]) -> list[bytes]:
    """Each sample of ``inputs`` (n, …) as ``mace_run`` reads it: raw little-endian float32."""
    little = np.ascontiguousarray(inputs, dtype="<f4")
    return [sample.tobytes() for sample in little]


def load_labelled_images(images: Path, labels: Path, *, limit: int | None = None) -> LabelledImages:
    """Read images and labels from two IDX files.

    Raises ``FormatError`` naming the file: damaged, not uint8 (n, h, w) and (n,), not as many
    labels as images, or none at all.
    """
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape[1:]:
        raise FormatError(
            f"holds {pixels.dtype} {pixels.shape} instead of uint8 images (n, height, width)",
            where=str(images),
        )
    if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
        raise FormatError(
            f"holds {classes.dtype} {classes.shape} instead of one integer label per image",
            where=str(labels),
        )
    if len(pixels) != len(classes):
        raise FormatError(
            f"holds {len(classes)} labels for {len(pixels)} images",
            where=str(labels),
            hint=f"give the labels that belong to {images.name}",
        )
    if len(pixels) == 0:
        raise FormatError("holds no image", where=str(images))
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} leaves no image", hint="set dataset.limit above 0")
    return LabelledImages(pixels, classes.astype(np.int64)).first(limit)
