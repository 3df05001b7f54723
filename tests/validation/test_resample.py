"""Resizing, against Pillow and against what its releases 10 to 12 make."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from droidmace.validation.resample import resample
from tests.validation.labelled_files import noise

NAMES = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SIDES = st.integers(1, 40)


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("nearest", "402d52ce92b17904"),
        ("box", "0cd3daaa89e22e01"),
        ("bilinear", "0ef643e6b135394a"),
        ("hamming", "8fb3cf4be9ad628b"),
        ("bicubic", "676892ce6d0e535e"),
        ("lanczos", "d6f96c483d6e287c"),
    ],
)
def test_pixels_are_those_of_pillow_10_to_12(name: Any, sha256: str) -> None:
    """The hashes are of what Pillow 10.4.0 and 12.2.0 themselves made of these images."""
    digest = hashlib.sha256()
    for (height, width), size in [
        ((64, 48), (23, 31)),
        ((64, 48), (100, 90)),
        ((50, 1), (7, 5)),
        ((30, 40), (30, 17)),
    ]:
        rows, columns, depth = np.mgrid[0:height, 0:width, 0:3]
        pixels = (rows * rows * 7 + columns * 29 + rows * columns + depth * 101) % 256
        digest.update(resample(pixels[None].astype(np.uint8), size, name).tobytes())
    assert digest.hexdigest()[:16] == sha256


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), SIDES, SIDES, SIDES, SIDES)
def test_floats_are_those_of_any_pillow(
    name: Any, height: int, width: int, rows: int, columns: int
) -> None:
    values = np.random.default_rng(height).standard_normal((height, width)).astype(np.float32)
    method = Image.Resampling[name.upper()]
    expected = np.asarray(Image.fromarray(values).resize((columns, rows), method))
    found = resample(values[None, ..., None], (rows, columns), name)
    # Its C compilers may fuse a product and a sum.
    np.testing.assert_allclose(found[0, ..., 0], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NAMES), SIDES, SIDES, SIDES, SIDES, st.integers(0, 255))
def test_one_colour_stays_one_colour(
    name: Any, height: int, width: int, rows: int, columns: int, value: int
) -> None:
    pixels = np.full((2, height, width, 3), value, np.uint8)
    np.testing.assert_array_equal(
        resample(pixels, (rows, columns), name), np.full((2, rows, columns, 3), value)
    )


@pytest.mark.parametrize("name", NAMES)
def test_images_and_channels_do_not_mix(name: Any) -> None:
    pixels = noise(3, 17, 23, 3)
    found = resample(pixels, (9, 30), name)
    assert found.dtype == np.uint8
    for index in range(3):
        for channel in range(3):
            alone = pixels[index : index + 1, ..., channel : channel + 1]
            np.testing.assert_array_equal(
                found[index, ..., channel], resample(alone, (9, 30), name)[0, ..., 0]
            )
