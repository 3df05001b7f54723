from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.formats.obfuscation import (
    deobfuscate_symbol,
    is_obfuscated,
    obfuscate_symbol,
    readable_program_key,
    readable_symbol,
)
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.formats.tuning_key import LaunchShape, TuningKey

SAMPLE = Path(__file__).parents[1] / "samples" / "tune_params"
READABLE = {
    "MACE_OPENCL_QUEUE_WINDOW_SIZE",
    "arg_buffer_to_image_[10]",
    "arg_buffer_to_image_[16]",
    "arg_buffer_to_image_[32]",
    "conv2d_1x1_opencl_kernel_1_16_16_32",
    "conv2d_3x3_opencl_kernel_1_16_16_16",
    "depthwise_conv2d_ocl_kernel_4_4_16_1",
    "dw_filter_buffer_to_image_[1, 16, 3, 3]",
    "filter_buffer_to_image_[16, 3, 3, 3]",
    "filter_buffer_to_image_[32, 16, 1, 1]",
    "in_out_buffer_to_image_[1, 32, 32, 3]",
    "in_out_image_to_buffer_[1, 1, 1, 10]",
    "reduce_hw_opencl_kernel_1_1_8",
    "softmax_opencl_kernel_1_1_1_10",
    "weight_width_buffer_to_image_[10, 32, 1, 1]",
}
"""What MACE tunes for the six-op net in tests/samples: its kernels and their shapes."""


def test_the_keys_of_a_real_file() -> None:
    keys = list(TunedParameters.parse(SAMPLE.read_bytes()).entries)
    assert {readable_symbol(key) for key in keys} == READABLE
    for key in keys:
        assert is_obfuscated(key) == (key != "MACE_OPENCL_QUEUE_WINDOW_SIZE")
        assert readable_symbol(readable_symbol(key)) == readable_symbol(key)
        if is_obfuscated(key):
            assert obfuscate_symbol(readable_symbol(key)) == key


@given(st.text(string.ascii_lowercase + string.digits + "_[], -", max_size=60))
def test_decoding_undoes_encoding(symbol: str) -> None:
    encoded = obfuscate_symbol(symbol)
    assert len(encoded) == len(symbol)
    assert deobfuscate_symbol(encoded) == symbol


@given(st.text(max_size=40))
def test_what_decodes_encodes_to_the_same(symbol: str) -> None:
    decoded = deobfuscate_symbol(symbol)
    assert decoded is None or obfuscate_symbol(decoded) == symbol


@given(st.binary(max_size=20).map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_any_key_can_be_shown(symbol: str) -> None:
    assert readable_symbol(symbol) in (symbol, deobfuscate_symbol(symbol))
    assert TuningKey.parse(symbol).key == symbol


def test_capitals_are_encoded_as_mace_does() -> None:
    # MACE subtracts 'a' from capitals, which puts 'A' where '4' is: they cannot be told apart.
    assert obfuscate_symbol("xA") == obfuscate_symbol("x4")
    assert obfuscate_symbol("") == ""
    assert deobfuscate_symbol("") == ""


def test_kernel_names_in_options_are_decoded() -> None:
    value = obfuscate_symbol("conv_2d_1x1")
    key = f"conv_2d_1x1 -DBIAS -DDATA_TYPE=float -Dconv_2d_1x1={value}"
    assert value != "conv_2d_1x1"
    assert readable_program_key(key) == (
        "conv_2d_1x1 -DBIAS -DDATA_TYPE=float -Dconv_2d_1x1=conv_2d_1x1"
    )


@pytest.mark.parametrize(
    ("key", "kernel", "sizes"),
    [
        ("conv2d_1x1_opencl_kernel_1_56_56_128", "conv2d_1x1_opencl_kernel", (1, 56, 56, 128)),
        ("c44ClxknJpoDF6F6FvGBPMEM2547C7_F_EE", "conv2d_1x1_opencl_kernel", (1, 16, 16, 32)),
        ("filter_buffer_to_image_[16, 3, 3, 3]", "filter_buffer_to_image", (16, 3, 3, 3)),
        ("pooling_opencl_kernel__1_8_8_16", "pooling_opencl_kernel", (1, 8, 8, 16)),
        ("lpnorm_opencl_kernel_1_2_-1", "lpnorm_opencl_kernel", (1, 2, -1)),
        ("MACE_OPENCL_QUEUE_WINDOW_SIZE", "MACE_OPENCL_QUEUE_WINDOW_SIZE", ()),
        ("_1_2", "_1_2", ()),
    ],
)
def test_tuning_keys_are_taken_apart(key: str, kernel: str, sizes: tuple[int, ...]) -> None:
    parsed = TuningKey.parse(key)
    assert (parsed.kernel, parsed.sizes) == (kernel, sizes)


def test_tuned_values_are_launch_shapes() -> None:
    assert LaunchShape.of((8, 4, 2, 0)) == LaunchShape((8, 4, 2), 0)
    assert LaunchShape.of((16, 256, 3)) == LaunchShape((16, 256), 3)
    assert LaunchShape.of((0,)) is None
