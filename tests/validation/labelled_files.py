"""Files of the kinds that data sets come in, as other programs write them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_IDX_CODES = {
    "uint8": 8,
    "int8": 9,
    "int16": 0x0B,
    "int32": 0x0C,
    "float32": 0x0D,
    "float64": 0x0E,
}


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, _IDX_CODES[array.dtype.name], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_images(folder: Path, images: Mapping[str, np.ndarray]) -> Path:
    """PNG and JPEG files by name; arrays are (height, width) or (height, width, 3)."""
    for name, pixels in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **({"quality": 95} if "J" in path.suffix else {}))
    return folder


def write_text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@dataclass(frozen=True)
class AnInput:
    """An input of a model, as deployment files have it."""

    shape: tuple[int, ...] = (1, 1, 4, 4)
    name: str = "image"
    data_type: str = "float32"
    data_format: str = "NCHW"
