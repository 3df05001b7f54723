"""Convolutions, their transposes and poolings on the GPU runtime against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_harness import DRIVERS, LogReader
from hypothesis import given
from hypothesis import strategies as st
from onnx_oracle import SETTINGS, SIZES, check, floats, make_engine

from droidmace.engine.opencl.runtime import Gpu

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.fixture(scope="module", params=DRIVERS)
def gpu(
    request: pytest.FixtureRequest,
    opencl_devices: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gpu]:
    """One device for the module, so that equal programs are built once."""
    reader = LogReader(tmp_path_factory.mktemp("log") / "log.txt")
    yield make_engine(opencl_devices[request.param], reader.log)
    reader.close()


def _extent(kernel: int, dilation: int) -> int:
    return (kernel - 1) * dilation + 1


@st.composite
def _windows(
    draw: st.DrawFn, *, dilates: bool = True, even_pads: bool = False
) -> dict[str, object]:
    """Kernel, strides, dilations and pads, and a size that has room for the window."""
    kernel, strides = draw(PAIR), draw(PAIR)
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) if dilates else (1, 1)
    # ONNX: pads before the axes, then behind them; never a whole window
    before, behind = (
        tuple(draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 1)) for _ in "ab"
    )
    if even_pads:
        behind = before
    size = tuple(
        max(draw(SIZES), _extent(kernel[axis], dilations[axis]) - before[axis] - behind[axis])
        for axis in (0, 1)
    )
    return {
        "size": size,
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": (*before, *behind),
    }


@SETTINGS
@given(window=_windows(), data=st.data())
def test_convolution_in_groups(gpu: Gpu, window: dict[str, object], data: st.DataObject) -> None:
    """Any number of channels to a group: dense, depthwise with a multiplier, and between."""
    groups = data.draw(st.sampled_from([1, 1, 2, 3, 5]))
    inputs, outputs = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    size = window.pop("size")
    weights = floats(groups * outputs, inputs, *window["kernel_shape"])  # type: ignore[misc]
    check(
        gpu,
        "Conv",
        {"x": floats(2, groups * inputs, *size)},  # type: ignore[misc]
        {"w": weights, "b": floats(groups * outputs)},
        group=groups,
        mace_ops=("Conv2D", "DepthwiseConv2d", "FullyConnected"),
        runtime="cpu",
        **window,
    )


@SETTINGS
@given(window=_windows(), channels=st.integers(2, 11), multiplier=st.sampled_from([1, 1, 2, 3]))
def test_depthwise_convolution(
    gpu: Gpu, window: dict[str, object], channels: int, multiplier: int
) -> None:
    size = window.pop("size")
    weights = floats(channels * multiplier, 1, *window["kernel_shape"])  # type: ignore[misc]
    check(
        gpu,
        "Conv",
        {"x": floats(1, channels, *size)},  # type: ignore[misc]
        {"w": weights, "b": floats(channels * multiplier)},
        group=channels,
        mace_ops=("DepthwiseConv2d",),
        runtime="cpu",
        **window,
    )


@SETTINGS
@given(window=_windows(dilates=False), data=st.data())
def test_transposed_convolution(gpu: Gpu, window: dict[str, object], data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    size = window.pop("size")
    check(
        gpu,
        "ConvTranspose",
        {"x": floats(2, groups * inputs, *size)},  # type: ignore[misc]
        {
            "w": floats(groups * inputs, outputs, *window["kernel_shape"]),  # type: ignore[misc]
            "b": floats(groups * outputs),
        },
        group=groups,
        mace_ops=("Deconv2D", "DepthwiseDeconv2d"),
        **window,
    )


@SETTINGS
@given(window=_windows(), channels=st.integers(1, 11), ceil=st.booleans())
def test_largest_of_a_window(
    gpu: Gpu, window: dict[str, object], channels: int, ceil: bool
) -> None:
    if ceil:  # MACE has no uneven padding to go with it
        window["pads"] = (0, 0, 0, 0)
        window["size"] = tuple(size + 2 for size in window["size"])  # type: ignore[attr-defined]
    size = window.pop("size")
    x = floats(2, channels, *size) - 3  # type: ignore[misc]
    check(gpu, "MaxPool", {"x": x}, ceil_mode=int(ceil), runtime="cpu", **window)


@SETTINGS
@given(
    window=_windows(dilates=False, even_pads=True),
    channels=st.integers(1, 11),
    ceil=st.booleans(),
    counts_padding=st.booleans(),
)
def test_average_of_a_window(
    gpu: Gpu, window: dict[str, object], channels: int, ceil: bool, counts_padding: bool
) -> None:
    window.pop("dilations")
    size = window.pop("size")
    check(
        gpu,
        "AveragePool",
        {"x": floats(2, channels, *size)},  # type: ignore[misc]
        ceil_mode=int(ceil and not counts_padding),
        count_include_pad=int(counts_padding),
        **window,
    )
