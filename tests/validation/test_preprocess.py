"""Preprocessing, step by step, against the functions it is named after."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from droidmace.errors import InputError
from droidmace.validation.preprocess import Crop, Preprocess, Resize
from tests.validation.labelled_files import AnInput, noise


def rgb_input(height: int, width: int, layout: str = "NHWC") -> AnInput:
    shape = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
    return AnInput(shape, data_format=layout)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 200, (64, 128)), (200, 100, (128, 64)), (375, 500, (64, 85)), (64, 64, (64, 64))],
)
def test_the_shorter_side(height: int, width: int, expected: tuple[int, int]) -> None:
    """torchvision's Resize: the longer side is rounded down."""
    assert Resize((64, 64), shorter=True).target(height, width) == expected


@pytest.mark.parametrize("side", [10, 11, 12, 13])
def test_the_middle_is_torchvisions(side: int) -> None:
    pixels = noise(1, side, 9, 1)
    found = Preprocess(crop=Crop((6, 9))).inputs(pixels, AnInput((1, 1, 6, 9)))
    top = round((side - 6) / 2)
    np.testing.assert_array_equal(found[0, 0], pixels[0, top : top + 6, :, 0])


def test_a_crop_at_a_place() -> None:
    pixels = noise(1, 9, 9, 1)
    found = Preprocess(crop=Crop((2, 3), at=(4, 6))).inputs(pixels, AnInput((1, 1, 2, 3)))
    np.testing.assert_array_equal(found[0, 0], pixels[0, 4:6, 6:9, 0])


def test_gray_is_pillows() -> None:
    pixels = noise(1, 64, 64, 3)
    found = Preprocess(channels="gray").inputs(pixels, AnInput((1, 1, 64, 64)))
    expected = np.asarray(Image.fromarray(pixels[0]).convert("L"), np.float32)
    np.testing.assert_array_equal(found[0, 0], expected)


def test_channels() -> None:
    colour, gray = noise(1, 2, 2, 3), noise(1, 2, 2, 1)
    wanted = rgb_input(2, 2)
    np.testing.assert_array_equal(Preprocess().inputs(colour, wanted), colour)
    bgr = Preprocess(channels="bgr").inputs(colour, wanted)
    np.testing.assert_array_equal(bgr, colour[..., ::-1])
    for recipe in (Preprocess(), Preprocess(channels="rgb"), Preprocess(channels="bgr")):
        np.testing.assert_array_equal(recipe.inputs(gray, wanted), np.repeat(gray, 3, axis=3))
    one = Preprocess().inputs(colour, AnInput((1, 2, 2, 1), data_format="NHWC"))
    np.testing.assert_array_equal(
        one, Preprocess(channels="gray").inputs(colour, AnInput((1, 2, 2, 1), data_format="NHWC"))
    )


def test_mean_and_scale_per_channel_follow_the_order_of_channels() -> None:
    pixels = noise(3, 4, 4, 3)
    recipe = Preprocess(mean=(103.5, 116.25, 123.0), scale=(57.0, 57.5, 58.0), channels="bgr")
    found = recipe.inputs(pixels, rgb_input(4, 4, "NCHW"))
    bgr = pixels[..., ::-1].astype(np.float32)
    expected = (bgr - np.float32([103.5, 116.25, 123.0])) / np.float32([57.0, 57.5, 58.0])
    np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([1, 3]),
    st.floats(-300, 300, width=32),
    st.floats(0.0078125, 300, width=32),
)
def test_many_at_once_are_as_one_by_one(
    count: int, size: tuple[int, int], depth: int, mean: float, scale: float
) -> None:
    pixels = noise(count, *size, depth)
    tensor = AnInput((1, *size, depth), data_format="NHWC")
    recipe = Preprocess(mean=(mean,), scale=(scale,))
    together = recipe.inputs(pixels, tensor)
    expected = (pixels.astype(np.float32) - np.float32(mean)) / np.float32(scale)
    np.testing.assert_array_equal(together, expected)
    for index in range(count):
        np.testing.assert_array_equal(
            recipe.inputs(pixels[index : index + 1], tensor)[0], together[index]
        )


def test_floats_stay_floats() -> None:
    pixels = noise(1, 8, 8, 2).astype(np.float32) / 7
    tensor = AnInput((1, 2, 4, 4))
    found = Preprocess(resize=Resize((4, 4), "box")).inputs(pixels, tensor)
    expected = pixels.reshape(1, 4, 2, 4, 2, 2).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_flat_input() -> None:
    pixels = noise(2, 4, 4, 1)
    found = Preprocess().inputs(pixels, AnInput((1, 16), data_format="NONE"))
    np.testing.assert_array_equal(found, pixels.reshape(2, 16))


def test_an_int32_input_takes_pixels_as_they_are() -> None:
    tensor = AnInput(data_type="int32")
    found = Preprocess().inputs(noise(1, 4, 4, 1), tensor)
    assert found.dtype == np.int32
    with pytest.raises(InputError, match="int32"):
        Preprocess(scale=(255.0,)).inputs(noise(1, 4, 4, 1), tensor)


@pytest.mark.parametrize(
    ("recipe", "pixels", "tensor", "complaint"),
    [
        (Preprocess(), noise(1, 5, 4, 1), AnInput(), r"4x5 makes .* \[1, 1, 5, 4\]"),
        (Preprocess(), noise(1, 4, 4, 1), AnInput((2, 1, 4, 4)), r"is \[2, 1, 4, 4\]"),
        (Preprocess(crop=Crop((4, 6))), noise(1, 4, 4, 1), AnInput(), "too small for a crop"),
        (Preprocess(crop=Crop((4, 4), (1, 0))), noise(1, 4, 4, 1), AnInput(), "too small"),
        (Preprocess(mean=(1.0, 2.0)), noise(1, 4, 4, 1), AnInput(), "2 numbers of mean"),
        (Preprocess(channels="rgb"), noise(1, 4, 4, 4), rgb_input(4, 4), "4 channels cannot"),
        (
            Preprocess(resize=Resize((9000, 9000), shorter=True)),
            noise(1, 1, 2000, 1),
            AnInput(),
            "would become",
        ),
    ],
)
def test_what_does_not_fit(
    recipe: Preprocess, pixels: np.ndarray, tensor: AnInput, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        recipe.inputs(pixels, tensor)
    assert caught.value.hint
