"""Twenty labelled photographs of ImageNet, from PyPI's ``foolbox``, as EfficientNet-Lite0's input.

The preprocessing is the one that the net's authors evaluate with (github.com/tensorflow/tpu,
``models/official/efficientnet``: ``preprocessing.py`` crops the middle 224/256 of the shorter side
and scales it bicubically; ``lite/efficientnet_lite_builder.py`` has mean 127 and deviation 128).
The net names 18 of the 20 so. Needs ``pillow``.
"""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import numpy.typing as npt
import wheels

MEAN = 127.0
SCALE = 128.0
IMAGE_SIZE = 224
CROP_PADDING = 32


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph, and its class among ImageNet's thousand.

    ``pixels`` are RGB bytes, shaped (height, width, 3).
    """

    name: str
    label: int
    pixels: npt.NDArray[np.uint8]


def load_photographs(image_size: int = IMAGE_SIZE) -> list[Photograph]:
    """The twenty, cropped and scaled to ``image_size`` squared. Raises ``wheels.WheelError``."""
    from PIL import Image  # noqa: PLC0415

    photographs = []
    members = wheels.read_members(wheels.PHOTOGRAPHS, "foolbox/data", ".jpg")
    for name, content in members.items():
        match = re.fullmatch(r"imagenet_\d+_(\d+)\.jpg", name)
        if match is None:
            continue
        image = Image.open(io.BytesIO(content)).convert("RGB")
        side = min(image.size) * image_size // (image_size + CROP_PADDING)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        middle = image.crop((left, top, left + side, top + side))
        scaled = middle.resize((image_size, image_size), Image.Resampling.BICUBIC)
        photographs.append(Photograph(name, int(match[1]), np.asarray(scaled)))
    return photographs


def as_input(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Bytes (height, width, 3) as the net takes them: (1, 3, height, width), about -1 to 1."""
    values = (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(SCALE)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])
