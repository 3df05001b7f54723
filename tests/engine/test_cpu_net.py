"""The numpy runtime against loops that anyone can check by reading."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from engine_harness import SAMPLES, LogReader
from engine_models import Array, model, op

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.model import Model, load_model
from droidmace.engine.net import OpTiming
from droidmace.errors import EngineError
from droidmace.formats.netdef import (
    DataFormat,
    DataType,
    InputOutputInfo,
    NetDef,
    OperatorDef,
    parse_model,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _random(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _convolve(
    x: Array, w: Array, stride: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int]
) -> Array:
    """Seven loops."""
    batch, height, width, _ = x.shape
    out_channels, in_channels, kernel_h, kernel_w = w.shape
    out_h = (height + padding[0] - (kernel_h - 1) * dilation[0] - 1) // stride[0] + 1
    out_w = (width + padding[1] - (kernel_w - 1) * dilation[1] - 1) // stride[1] + 1
    y = np.zeros((batch, out_h, out_w, out_channels), np.float32)
    for n, i, j, o in np.ndindex(y.shape):
        for c, kh, kw in itertools.product(range(in_channels), range(kernel_h), range(kernel_w)):
            h = i * stride[0] + kh * dilation[0] - padding[0] // 2
            v = j * stride[1] + kw * dilation[1] - padding[1] // 2
            if 0 <= h < height and 0 <= v < width:
                y[n, i, j, o] += x[n, h, v, c] * w[o, c, kh, kw]
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"),
    [
        ((1, 1), (1, 1), (1, 1), (0, 0)),
        ((3, 3), (2, 1), (1, 1), (2, 2)),
        ((3, 2), (1, 1), (2, 3), (1, 3)),
    ],
)
def test_conv2d(
    log_reader: LogReader,
    rng: np.random.Generator,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    x, w, b = _random(rng, 2, 6, 7, 3), _random(rng, 4, 3, *kernel), _random(rng, 4)
    conv = op(
        "Conv2D",
        ["x", "w", "b"],
        "y",
        strides=stride,
        dilations=dilation,
        padding_values=padding,
        activation="RELU",
    )
    made = model([conv], {"x": x.shape}, ["y"], {"w": w, "b": b})
    y = CpuNet(made, log_reader.log).run({"x": x})["y"]
    expected = np.maximum(_convolve(x, w, stride, dilation, padding) + b, 0)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_depthwise_conv2d_is_one_convolution_per_channel(
    log_reader: LogReader, rng: np.random.Generator
) -> None:
    x, w = _random(rng, 1, 6, 5, 3), _random(rng, 1, 3, 3, 3)
    conv = op("DepthwiseConv2d", ["x", "w"], "y", strides=(2, 2), padding_values=(2, 2))
    made = model([conv], {"x": x.shape}, ["y"], {"w": w})
    y = CpuNet(made, log_reader.log).run({"x": x})["y"]
    for channel in range(3):
        one = slice(channel, channel + 1)
        expected = _convolve(x[..., one], w[:, one], (2, 2), (1, 1), (2, 2))
        np.testing.assert_allclose(y[..., one], expected, rtol=1e-4, atol=1e-5)


def test_average_pooling_leaves_padding_out(log_reader: LogReader) -> None:
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    pool = op(
        "Pooling", ["x"], "y", pooling_type=1, kernels=(3, 3), strides=(2, 2), padding_values=(2, 2)
    )
    made = model([pool], {"x": x.shape}, ["y"])
    y = CpuNet(made, log_reader.log).run({"x": x})["y"]
    # the corners see 2 x 2 pixels each
    assert y.ravel().tolist() == [2.0, 3.0, 5.0, 6.0]


def test_sample_model(log_reader: LogReader) -> None:
    """The model that a real mace_run was given, and the output of the ONNX reference."""
    made = load_model(
        parse_model((SAMPLES / "tiny_gpu.pb").read_bytes()),
        (SAMPLES / "tiny_gpu.data").read_bytes(),
    )
    image = np.fromfile(SAMPLES / "tiny_input_nchw_1x3x32x32.f32", "<f4").reshape(1, 3, 32, 32)
    timings: list[OpTiming] = []
    net = CpuNet(made, log_reader.log)
    (output,) = net.run({"input": image.transpose(0, 2, 3, 1)}, timings).values()
    expected = np.fromfile(SAMPLES / "tiny_output_1x10.f32", "<f4")
    np.testing.assert_allclose(output.ravel(), expected, atol=1e-6)
    assert [timing.name for timing in timings] == [
        "relu1",
        "relu2",
        "relu3",
        "gap",
        "fc",
        "softmax",
    ]


def test_unsupported_op_is_named(log_reader: LogReader) -> None:
    made = model([op("LSTMCell", ["x"], "y")], {"x": (1, 1, 1, 4)}, ["y"])
    with pytest.raises(EngineError, match="y_op.*LSTMCell"):
        CpuNet(made, log_reader.log)


def test_activations_are_let_go_after_their_last_use(log_reader: LogReader) -> None:
    """Thirty layers of 1 MiB each take the memory of a few."""
    x = np.ones((1, 512, 512, 1), np.float32)
    names = ["x", *(f"y{index}" for index in range(30))]
    layers = [
        op("Eltwise", [source], target, type=0, scalar_input=1.0)
        for source, target in itertools.pairwise(names)
    ]
    net = CpuNet(model(layers, {"x": x.shape}, ["y29"]), log_reader.log)
    tracemalloc.start()
    try:
        y = net.run({"x": x})["y29"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert y.min() == y.max() == 31
    assert peak < 5 << 20


def _fed(info: InputOutputInfo, layer: OperatorDef) -> Model:
    outputs = tuple(InputOutputInfo(name=name) for name in layer.outputs)
    return Model(NetDef(ops=(layer,), input_infos=(info,), output_infos=outputs), {})


def test_image_without_a_format_is_taken_for_nchw(
    log_reader: LogReader, rng: np.random.Generator
) -> None:
    x = _random(rng, 1, 2, 3, 4)
    pool = op("Reduce", ["x"], "y", axis=(1,), keepdims=0, data_format=int(DataFormat.AUTO))
    info = InputOutputInfo(name="x", dims=x.shape, data_format=int(DataFormat.NONE))
    y = CpuNet(_fed(info, pool), log_reader.log).run({"x": x})["y"]
    np.testing.assert_allclose(y, x.mean(axis=1), atol=1e-6)


def test_integers_go_in_and_out(log_reader: LogReader) -> None:
    info = InputOutputInfo(name="x", dims=(3,), data_type=DataType.DT_INT32)
    halve = op("Eltwise", ["x"], "y", type=3, scalar_input=2.0)
    net = CpuNet(_fed(info, halve), log_reader.log)
    assert net.run({"x": np.array([7, -7, 4], np.float32)})["y"].tolist() == [3, -3, 2]


def test_tables_show_shapes_as_mace_holds_them(log_reader: LogReader) -> None:
    """Images as NCHW; every output; a MatMul's first operand."""
    split = OperatorDef(
        inputs=("x",),
        outputs=("a", "b"),
        name="split",
        type="Split",
        args=op("Split", [], "", axis=3, data_format=1000, has_data_format=1).args,
    )
    matmul = op("MatMul", ["m", "m"], "y", transpose_a=1)
    made = model([split, matmul], {"x": (1, 4, 5, 6), "m": (3, 2)}, ["a", "b", "y"])
    timings: list[OpTiming] = []
    x, m = np.ones((1, 4, 5, 6), np.float32), np.ones((3, 2), np.float32)
    outputs = CpuNet(made, log_reader.log).run({"x": x, "m": m}, timings)
    assert outputs["b"].shape == (1, 4, 5, 3)
    assert timings[0].output_shape == (1, 3, 4, 5)
    assert timings[0].other_shapes == ((1, 3, 4, 5),)
    assert (timings[1].kernels, timings[1].output_shape) == ((2, 3), (2, 2))
    assert "Operator split has shape: [1, 3, 4, 5]" in log_reader.text
