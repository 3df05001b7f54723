from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.tuning.kernel_shapes import MAX_ITEMS, guess_keys, kernel_shape


@pytest.mark.parametrize(
    ("key", "family", "gws"),
    [
        ("conv2d_1x1_opencl_kernel_1_56_56_128", "conv2d_1x1", (32, 14, 56)),
        ("conv2d_3x3_opencl_kernel_2_112_112_30", "conv2d_3x3", (8, 23, 224)),
        ("conv2d_general_opencl_kernel_1_7_9_6_5_5", "conv2d_general", (2, 3, 7)),
        ("depthwise_conv2d_ocl_kernel_4_28_112_1", "depthwise_conv2d", (4, 28, 112)),
        ("pooling_opencl_kernel__1_1_1_10", "pooling", (3, 1, 1)),
        ("batch_norm_opencl_kernel_1_1_8_9_16", "pointwise", (4, 9, 8)),
        ("relux_opencl_kernel_1_8_9_16", "pointwise", (4, 9, 8)),
        ("reduce_hw_opencl_kernel_1_2_8", "reduce", (1, 2, 8)),
        ("addn_opencl_kernel_1_8_9_16", "pointwise", (36, 8)),
        ("matmul_opencl_kernel_16_32_49", "matmul", (13, 128)),
        ("winograd_transform_kernel_36_64_196", "winograd", (196, 16)),
        ("winograd_inverse_transform_kernel_1_56_56_64_196", "winograd", (196, 16)),
        ("in_out_buffer_to_image_[1, 224, 224, 3]", "transform", (224, 224)),
        # what is not in the key is not made up
        ("deconv2d_opencl_kernel__0_1_8_9_16", "deconv2d", ()),
        ("filter_buffer_to_image_[32, 16, 1, 1]", "transform", ()),
        ("crop_opencl_kernel_0_1_1_0", "pad", ()),
        ("conv2d_1x1_opencl_kernel_1_56", "conv2d_1x1", ()),
        ("of_a_vendor_8_8_8", "of_a_vendor", ()),
    ],
)
def test_a_key_tells_its_kernel_and_global_size(
    key: str, family: str, gws: tuple[int, ...]
) -> None:
    shape = kernel_shape(key)
    assert (shape.family, shape.gws) == (family, gws)
    assert kernel_shape(obfuscate_symbol(key)) == shape or family == "of_a_vendor"


def test_a_tuned_value_of_other_axes_wins_over_the_key() -> None:
    key = "addn_opencl_kernel_1_8_9_16"
    assert kernel_shape(key, 2).gws == (36, 8)
    assert (kernel_shape(key, 3).axes, kernel_shape(key, 3).gws) == (3, ())
    assert kernel_shape("of_a_vendor_1_2", 2).axes == 2


@given(st.text(max_size=40) | st.from_regex(r"conv2d_1x1_opencl_kernel(_-?[0-9]{1,19}){1,6}"))
def test_any_key_gives_a_sane_shape(key: str) -> None:
    shape = kernel_shape(key)
    assert shape.axes in (0, 2, 3)
    assert len(shape.gws) in (0, shape.axes)
    assert all(size >= 1 for size in shape.gws)
    assert math.prod(shape.gws) <= MAX_ITEMS


@pytest.mark.parametrize(
    ("op", "output", "filter_shape", "key"),
    [
        ("Conv2D", (1, 16, 16, 16), (16, 3, 3, 3), "conv2d_3x3_opencl_kernel_1_16_16_16"),
        ("Conv2D", (1, 16, 16, 32), (32, 16, 1, 1), "conv2d_1x1_opencl_kernel_1_16_16_32"),
        ("Conv2D", (1, 9, 9, 8), (8, 4, 5, 1), "conv2d_general_opencl_kernel_1_9_9_8_5_1"),
        ("DepthwiseConv2d", (1, 16, 16, 16), (1, 16, 3, 3), "depthwise_conv2d_ocl_kernel_4_4_16_1"),
        ("Softmax", (1, 10), (), "softmax_opencl_kernel_1_1_1_10"),
        ("Pooling", (1, 1, 1, 32), (), "pooling_opencl_kernel__1_1_1_32"),
        ("BatchNorm", (1, 8, 8, 4), (), "batch_norm_opencl_kernel_2_1_8_8_4"),
        ("Conv2D", (1, 6, 6, 8), (8, 4, 3, 3), "matmul_opencl_kernel_16_8_9"),
    ],
)
def test_an_op_of_the_table_is_guessed_its_key(
    op: str, output: tuple[int, ...], filter_shape: tuple[int, ...], key: str
) -> None:
    assert key in guess_keys(op, output, filter_shape)
    assert obfuscate_symbol(key) in guess_keys(op, output, filter_shape, obfuscated=True)


def test_nothing_is_guessed_for_rows_that_tell_too_little() -> None:
    assert guess_keys("Conv2D", (1, 2, 2, 4)) == ()
    assert guess_keys("Conv2D", (), (1, 1, 1, 1)) == ()
    assert guess_keys("Softmax", (1, 0, 1, 1)) == ()
    assert guess_keys("SomethingElse", (1, 1, 1, 1)) == ()
