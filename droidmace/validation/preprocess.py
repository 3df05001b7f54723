"""From pixels to a model's input, the same to the last bit wherever it runs.

Steps, in this order, each as a named function of a public library defines it:

* channels: gray to RGB repeats the value; RGB to gray is Pillow's ``convert("L")``
  (ITU-R 601-2 in 16-bit fixed point, rounded); BGR is RGB reversed.
* resize: ``nearest, box, bilinear, hamming, bicubic, lanczos`` are Pillow's ``Image.resize`` with
  ``Image.Resampling`` of that name, in the arithmetic of its releases 10 to 12 (see
  ``resample.py``). The longer side of a resize to the shorter one is ``int(size * longer /
  shorter)``, as in torchvision's ``Resize``.
* crop: in the middle, ``round((side - size) / 2)`` from the top and the left with Python's
  ``round``, as in torchvision's ``CenterCrop``; never padded.
* values: ``(pixel - mean) / scale`` in IEEE float32.

What of this an installed Pillow does is to decode: exact for lossless formats; a JPEG's pixels are
those of the libjpeg that came with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import InputError
from droidmace.validation.layouts import TensorLike
from droidmace.validation.resample import Interpolation, resample
from droidmace.validation.samples import Tensor

Channels = Literal["rgb", "bgr", "gray"]

MAX_PIXELS = 50_000_000
"""Of one image: 150 MB once decoded."""
_FEW_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Resize:
    """To ``size`` (height, width), or the shorter side to ``size[0]``."""

    size: tuple[int, int]
    interpolation: Interpolation = "bilinear"
    shorter: bool = False

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image after it."""
        if not self.shorter:
            return self.size
        side = self.size[0]
        if height <= width:
            return side, int(side * width / height)
        return int(side * height / width), side


@dataclass(frozen=True, slots=True)
class Crop:
    """``size`` (height, width) from ``at`` (top, left), or from the middle."""

    size: tuple[int, int]
    at: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What is done to pixels. ``mean`` and ``scale`` have one number, or one per channel.

    ``channels`` None: as many as the input has; one is gray, three are RGB.
    """

    resize: Resize | None = None
    crop: Crop | None = None
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    channels: Channels | None = None

    def inputs(self, pixels: NDArray[Any], tensor: TensorLike) -> Tensor:
        """``pixels`` (n, height, width, channels), uint8 or float, as n inputs.

        The result is (n, …) with the input's shape behind its batch dimension, contiguous.

        Raises ``InputError`` if they do not make this input.
        """
        height_axis = 1 if tensor.data_format == "NHWC" else 2
        pixels = self._in_channels(pixels, tensor)
        pixels = self._cropped(self._resized(pixels))
        values = self._values(pixels, tensor)
        if len(tensor.shape) == 4 and height_axis == 2:
            values = values.transpose(0, 3, 1, 2)
        if len(tensor.shape) != 4 and values[0].size == math.prod(tensor.shape[1:]):
            values = values.reshape(len(values), *tensor.shape[1:])
        if tensor.shape[0] != 1 or values.shape[1:] != tensor.shape[1:]:
            raise InputError(
                f"an image of {_size(pixels)} makes an input of shape "
                f"{[1, *values.shape[1:]]}, but {tensor.name!r} is {list(tensor.shape)}",
                hint="resize or crop it: droidmace.dataset.preprocess; or check input_shapes and "
                "input_data_formats",
            )
        return cast("Tensor", np.ascontiguousarray(values))

    def _in_channels(self, pixels: NDArray[Any], tensor: TensorLike) -> NDArray[Any]:
        found = pixels.shape[3]
        wanted = self.channels
        if wanted is None and len(tensor.shape) == 4:
            depth = tensor.shape[3 if tensor.data_format == "NHWC" else 1]
            wanted = "rgb" if (depth, found) == (3, 1) else None
            wanted = "gray" if (depth, found) == (1, 3) else wanted
        if wanted is None:
            return pixels
        if found not in (1, 3):
            raise InputError(
                f"{found} channels cannot be made {wanted}", hint="leave out preprocess.channels"
            )
        if wanted == "gray":
            return pixels if found == 1 else _gray(pixels)
        if found == 1:
            return np.repeat(pixels, 3, axis=3)
        return pixels if wanted == "rgb" else pixels[..., ::-1]

    def _resized(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if self.resize is None:
            return pixels
        height, width = self.resize.target(*pixels.shape[1:3])
        if (height, width) == pixels.shape[1:3]:
            return pixels
        if not 0 < height * width <= MAX_PIXELS:
            raise InputError(
                f"an image of {_size(pixels)} would become {width}x{height}",
                hint=f"images have at most {MAX_PIXELS:,} pixels",
            )
        # A few at a time: sums are four times as large as pixels, and caches are small.
        few = max(1, _FEW_BYTES // pixels[0].nbytes)
        return np.concatenate(
            [
                resample(pixels[first : first + few], (height, width), self.resize.interpolation)
                for first in range(0, len(pixels), few)
            ]
        )

    def _cropped(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if self.crop is None:
            return pixels
        (height, width), (rows, columns) = self.crop.size, pixels.shape[1:3]
        top, left = self.crop.at or (round((rows - height) / 2), round((columns - width) / 2))
        if top < 0 or left < 0 or top + height > rows or left + width > columns:
            raise InputError(
                f"an image of {_size(pixels)} is too small for a crop of {width}x{height}",
                hint="resize it first: droidmace.dataset.preprocess.resize",
            )
        return pixels[:, top : top + height, left : left + width]

    def _values(self, pixels: NDArray[Any], tensor: TensorLike) -> Tensor:
        for name, numbers in (("mean", self.mean), ("scale", self.scale)):
            if len(numbers) not in (1, pixels.shape[3]):
                raise InputError(
                    f"{len(numbers)} numbers of {name} for {pixels.shape[3]} channels",
                    hint=f"give droidmace.dataset.preprocess.{name} one number, or one per channel",
                )
        if tensor.data_type == "int32":
            if (set(self.mean), set(self.scale)) != ({0.0}, {1.0}):
                raise InputError(
                    f"input {tensor.name!r} is int32: it takes pixels as they are",
                    hint="leave out mean and scale",
                )
            return pixels.astype(np.int32)
        values = pixels.astype(np.float32)
        # What would change no value is left out; -0.0 stays what it is.
        if any(self.mean):
            values -= np.array(self.mean, np.float32)
        if set(self.scale) != {1.0}:
            values /= np.array(self.scale, np.float32)
        return values


def _gray(pixels: NDArray[Any]) -> NDArray[Any]:
    weights = (19595, 38470, 7471)  # Pillow's L24 in Convert.c, 16 bits after the point
    if pixels.dtype != np.uint8:
        return pixels.astype(np.float32) @ (np.array(weights, np.float32)[:, None] / 65536)
    sums = pixels.astype(np.uint32) @ np.array(weights, np.uint32)[:, None]
    return ((sums + 0x8000) >> 16).astype(np.uint8)


def _size(pixels: NDArray[Any]) -> str:
    """How image sizes are written: width, height."""
    return f"{pixels.shape[2]}x{pixels.shape[1]}"
