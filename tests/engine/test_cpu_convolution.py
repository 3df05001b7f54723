"""The CPU's convolutions and matrix products against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_harness import close, cpu_op, noise, onnx_node, to_nchw, to_nhwc
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import EngineError

SIZES = st.tuples(st.integers(5, 11), st.integers(5, 11))
KERNELS = st.tuples(st.integers(1, 4), st.integers(1, 4))
STEPS = st.tuples(st.integers(1, 3), st.integers(1, 3))
TOTALS = st.tuples(st.integers(0, 5), st.integers(0, 5))


def _pads(totals: tuple[int, int]) -> list[int]:
    """ONNX's pads for MACE's totals: the smaller half before."""
    return [totals[0] // 2, totals[1] // 2, -(-totals[0] // 2), -(-totals[1] // 2)]


@settings(max_examples=25, deadline=None)
@given(
    size=SIZES,
    kernel=KERNELS,
    stride=STEPS,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    totals=TOTALS,
    group=st.sampled_from([1, 1, 2, 3]),
    batch=st.integers(1, 2),
)
def test_conv2d(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    totals: tuple[int, int],
    group: int,
    batch: int,
) -> None:
    kernel = (min(kernel[0], 3), min(kernel[1], 3))
    x, b = noise(1, batch, *size, 2 * group), noise(3, 3 * group)
    w = noise(2, 3 * group, 2, *kernel)
    (y,) = cpu_op(
        "Conv2D",
        [x, w, b],
        strides=stride,
        dilations=dilation,
        padding_values=totals,
        group=group,
        activation="RELU",
    )
    attributes = {"strides": stride, "dilations": dilation, "pads": _pads(totals), "group": group}
    (expected,) = onnx_node("Conv", [to_nchw(x), w, b], attributes)
    close(y, np.maximum(to_nhwc(expected), 0))


@settings(max_examples=15, deadline=None)
@given(
    size=SIZES,
    kernel=KERNELS,
    stride=STEPS,
    totals=TOTALS,
    channels=st.integers(1, 6),
    multiplier=st.integers(1, 3),
)
def test_depthwise_conv2d(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    totals: tuple[int, int],
    channels: int,
    multiplier: int,
) -> None:
    x, w = noise(1, 2, *size, channels), noise(2, multiplier, channels, *kernel)
    b = noise(3, channels * multiplier)
    (y,) = cpu_op("DepthwiseConv2d", [x, w, b], strides=stride, padding_values=totals)
    per_channel = w.transpose(1, 0, 2, 3).reshape(channels * multiplier, 1, *kernel)
    attributes = {"strides": stride, "pads": _pads(totals), "group": channels}
    (expected,) = onnx_node("Conv", [to_nchw(x), per_channel, b], attributes)
    close(y, to_nhwc(expected))


@pytest.mark.parametrize(("padding", "out"), [(0, (3, 3)), (1, (5, 4)), (2, (7, 4))])
def test_padding_by_name(padding: int, out: tuple[int, int]) -> None:
    """VALID, SAME and FULL, as TensorFlow's models have it."""
    x, w = noise(1, 1, 9, 7, 2), noise(2, 4, 2, 5, 2)
    (y,) = cpu_op("Conv2D", [x, w], strides=(2, 2), padding=padding)
    assert y.shape == (1, *out, 4)
    total = [max((out[i] - 1) * 2 + w.shape[2 + i] - x.shape[1 + i], 0) for i in (0, 1)]
    (same,) = cpu_op("Conv2D", [x, w], strides=(2, 2), padding_values=total)
    close(y, same)


@settings(max_examples=20, deadline=None)
@given(size=SIZES, kernel=KERNELS, stride=STEPS, totals=TOTALS)
def test_deconv2d(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    totals: tuple[int, int],
) -> None:
    x, w, b = noise(1, 2, *size, 3), noise(2, 4, 3, *kernel), noise(3, 4)
    # at least one row and column are left
    full = [(size[i] - 1) * stride[i] + kernel[i] for i in (0, 1)]
    totals = (min(totals[0], full[0] - 1), min(totals[1], full[1] - 1))
    (y,) = cpu_op("Deconv2D", [x, w, b], strides=stride, padding_values=totals, framework_type=2)
    attributes = {"strides": stride, "pads": _pads(totals)}
    turned = np.ascontiguousarray(w.transpose(1, 0, 2, 3))
    (expected,) = onnx_node("ConvTranspose", [to_nchw(x), turned, b], attributes)
    close(y, to_nhwc(expected))


@settings(max_examples=15, deadline=None)
@given(size=SIZES, kernel=KERNELS, stride=STEPS, group=st.integers(1, 3), deep=st.booleans())
def test_deconv2d_in_groups(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], group: int, deep: bool
) -> None:
    """One channel to a group, or two that make three."""
    inputs, outputs = (2, 3) if deep else (1, 1)
    x = noise(1, 1, *size, inputs * group)
    of_onnx = noise(2, inputs * group, outputs, *kernel)
    w = np.ascontiguousarray(of_onnx.transpose(1, 0, 2, 3))
    cut = (min(kernel[0] - 1, 1), 0)
    (y,) = cpu_op("DepthwiseDeconv2d", [x, w], strides=stride, padding_values=cut, group=group)
    attributes = {"strides": stride, "pads": _pads(cut), "group": group}
    (expected,) = onnx_node("ConvTranspose", [to_nchw(x), of_onnx], attributes)
    close(y, to_nhwc(expected))


@pytest.mark.parametrize(
    ("padding", "out"), [(1, (9, 8)), (1, (10, 8)), (0, (11, 9)), (0, (12, 10))]
)
def test_deconv2d_of_tensorflow(padding: int, out: tuple[int, int]) -> None:
    """The third input is the output's NHWC shape; the fourth is the bias."""
    x, w, b = noise(1, 1, 5, 4, 3), noise(2, 2, 3, 3, 3), noise(3, 2)
    shape = np.array([1, *out, 2], np.int32)
    (y,) = cpu_op("Deconv2D", [x, w, shape, b], strides=(2, 2), padding=padding)
    (whole,) = cpu_op("Deconv2D", [x, w, b], strides=(2, 2), framework_type=2)
    top, left = (max(whole.shape[i + 1] - out[i], 0) // 2 for i in (0, 1))
    expected = np.pad(whole - b, ((0, 0), (0, 1), (0, 1), (0, 0))) + b
    close(y, expected[:, top : top + out[0], left : left + out[1]])


@pytest.mark.parametrize("pixels", [(1, 1), (3, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_fully_connected(pixels: tuple[int, int], bias: bool) -> None:
    x, w, b = noise(1, 2, *pixels, 5), noise(2, 7, 5, *pixels), noise(3, 7)
    (y,) = cpu_op("FullyConnected", [x, w, b] if bias else [x, w], activation="RELU")
    flat = to_nchw(x).reshape(2, -1) @ w.reshape(7, -1).T + (b if bias else 0)
    close(y, np.maximum(flat, 0)[:, None, None, :])


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5))]
)
@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], turned: tuple[int, int]) -> None:
    left, right, bias = noise(1, *a), noise(2, *b), noise(3, 5)
    given = [
        np.ascontiguousarray(value.swapaxes(-1, -2)) if turn else value
        for value, turn in zip((left, right), turned, strict=True)
    ]
    (y,) = cpu_op(
        "MatMul", [*given, bias], constants=(2,), transpose_a=turned[0], transpose_b=turned[1]
    )
    close(y, left @ right + bias)


@pytest.mark.parametrize("order", [2, 1000])
def test_matmul_of_images_counts_nchw(order: int) -> None:
    """Attention's products of four axes: what is last in ONNX is not the channels."""
    a, b = noise(1, 1, 2, 3, 4), noise(2, 1, 2, 4, 5)
    (y,) = cpu_op("MatMul", [to_nhwc(a), to_nhwc(b)], constants=(), data_format=order)
    close(to_nchw(y), a @ b)


@pytest.mark.parametrize(
    ("kind", "shapes", "words"),
    [
        ("Conv2D", [(1, 4, 4, 3), (2, 4, 1, 1)], "filter"),
        ("Conv2D", [(4, 3), (2, 3, 1, 1)], "four axes"),
        ("Conv2D", [(1, 4, 4, 3)], "inputs"),
        ("Conv2D", [(1, 4, 4, 3), (2, 3, 1, 1), (5,)], "'i2' has the shape"),
        ("DepthwiseConv2d", [(1, 4, 4, 3), (1, 4, 1, 1)], "filter"),
        ("Deconv2D", [(1, 4, 4, 3), (2, 3, 3, 3)], "output shape is not constant"),
        ("FullyConnected", [(1, 2, 2, 3), (4, 3, 1, 1)], "weights"),
        ("MatMul", [(2, 3), (4, 5)], "times"),
        ("MatMul", [(3,), (3, 5)], "two axes"),
    ],
)
def test_shapes_that_do_not_go_together(
    kind: str, shapes: list[tuple[int, ...]], words: str
) -> None:
    with pytest.raises(EngineError, match=f"'the_op' \\({kind}\\).*{words}"):
        cpu_op(kind, [np.zeros(shape, np.float32) for shape in shapes])


def test_window_larger_than_the_image() -> None:
    with pytest.raises(EngineError, match="'the_op'.*output of shape"):
        cpu_op("Conv2D", [noise(1, 1, 4, 4, 3), noise(2, 2, 3, 5, 5)], padding_values=(0, 0))
