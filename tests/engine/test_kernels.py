"""Every kernel against numpy, on both drivers and in both memories, over fixed random shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_harness import DRIVERS, LogReader
from engine_models import Array, make_gpu, model, op, run_both

from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.opencl.runtime import Gpu
from droidmace.errors import EngineError
from droidmace.formats.netdef import DataType

_TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogReader]:
    """One log for the module."""
    made = LogReader(tmp_path_factory.mktemp("log") / "log.txt")
    yield made
    made.close()


@pytest.fixture(scope="module", params=DRIVERS)
def gpu(
    request: pytest.FixtureRequest, opencl_devices: dict[str, object], reader: LogReader
) -> Gpu:
    """One device for the module, so that equal programs are built once."""
    return make_gpu(opencl_devices[request.param], reader.log)


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(7)


def _random(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _agree(
    gpu: Gpu, reader: LogReader, made: Any, inputs: dict[str, Array], tolerance: float = _TOLERANCE
) -> None:
    for ours, reference in run_both(made, inputs, gpu, reader.log):
        assert ours.shape == reference.shape
        np.testing.assert_allclose(ours, reference, rtol=tolerance, atol=tolerance)


# input NHWC, output channels, kernel, stride, dilation, total padding, bias, activation
_CONVOLUTIONS = [
    ((1, 9, 11, 3), 6, (1, 1), (1, 1), (1, 1), (0, 0), True, "RELU"),
    ((2, 8, 7, 13), 17, (1, 1), (2, 2), (1, 1), (0, 0), False, "NOOP"),
    ((1, 5, 6, 8), 4, (1, 1), (1, 1), (1, 1), (2, 2), True, "NOOP"),
    ((1, 12, 13, 3), 16, (3, 3), (2, 2), (1, 1), (2, 2), True, "RELU"),
    ((2, 7, 9, 5), 9, (3, 3), (1, 1), (1, 1), (1, 1), False, "NOOP"),
    ((1, 10, 10, 6), 7, (3, 3), (1, 1), (2, 3), (4, 6), True, "RELUX"),
    ((1, 11, 9, 5), 8, (5, 3), (1, 2), (1, 1), (4, 2), True, "RELU"),
    ((2, 8, 8, 4), 3, (2, 2), (2, 2), (1, 1), (0, 1), False, "NOOP"),
    ((1, 9, 9, 2), 5, (1, 7), (1, 1), (1, 1), (0, 6), True, "RELU"),
    ((2, 9, 14, 5), 6, (2, 3), (1, 1), (2, 3), (2, 6), False, "NOOP"),
    ((2, 7, 9, 5), 6, (1, 1), (2, 1), (1, 1), (0, 0), False, "NOOP"),
    ((1, 7, 9, 5), 6, (1, 1), (3, 4), (1, 1), (0, 0), False, "NOOP"),
    ((1, 1, 1, 5), 6, (3, 3), (4, 4), (1, 1), (2, 2), True, "NOOP"),
]


@pytest.mark.parametrize(
    ("shape", "channels", "kernel", "stride", "dilation", "padding", "bias", "activation"),
    _CONVOLUTIONS,
)
def test_conv2d(
    gpu: Gpu,
    reader: LogReader,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    bias: bool,
    activation: str,
) -> None:
    constants = {"w": _random(rng, channels, shape[3], *kernel), "b": _random(rng, channels)}
    conv = op(
        "Conv2D",
        ["x", "w", "b"] if bias else ["x", "w"],
        "y",
        strides=stride,
        dilations=dilation,
        padding_values=padding,
        activation=activation,
        max_limit=6.0,
    )
    made = model([conv], {"x": shape}, ["y"], constants)
    _agree(gpu, reader, made, {"x": _random(rng, *shape)})


@pytest.mark.parametrize("padding_type", [0, 1, 2])
def test_conv2d_padding_by_name(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, padding_type: int
) -> None:
    conv = op("Conv2D", ["x", "w"], "y", strides=(2, 2), padding=padding_type)
    made = model([conv], {"x": (1, 8, 9, 4)}, ["y"], {"w": _random(rng, 4, 4, 3, 3)})
    _agree(gpu, reader, made, {"x": _random(rng, 1, 8, 9, 4)})


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "dilation", "padding"),
    [
        ((1, 9, 10, 6), (3, 3), 1, (1, 1), (2, 2)),
        ((2, 7, 5, 16), (5, 5), 1, (1, 1), (4, 4)),
        ((1, 9, 11, 7), (3, 3), 2, (1, 1), (2, 2)),
        ((2, 12, 12, 4), (3, 3), 1, (2, 1), (4, 4)),
        ((1, 12, 12, 5), (3, 3), 4, (1, 3), (2, 4)),
        ((1, 6, 7, 5), (2, 4), 1, (1, 1), (1, 3)),
        ((1, 1, 1, 3), (3, 3), 1, (1, 1), (2, 2)),
    ],
)
def test_depthwise_conv2d(
    gpu: Gpu,
    reader: LogReader,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: int,
    dilation: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    conv = op(
        "DepthwiseConv2d",
        ["x", "w", "b"],
        "y",
        strides=(stride, stride),
        dilations=dilation,
        padding_values=padding,
        activation="RELUX",
        max_limit=1.5,
    )
    constants = {"w": _random(rng, 1, shape[3], *kernel), "b": _random(rng, shape[3])}
    made = model([conv], {"x": shape}, ["y"], constants)
    _agree(gpu, reader, made, {"x": _random(rng, *shape)})


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "round_mode"),
    [
        ((1, 8, 9, 6), (2, 2), (2, 2), (0, 0), 0),
        ((2, 7, 7, 5), (3, 3), (2, 2), (2, 2), 0),
        ((1, 10, 7, 4), (3, 2), (2, 2), (0, 0), 1),
        ((1, 5, 6, 3), (5, 6), (1, 1), (0, 0), 0),
        ((2, 9, 8, 5), (2, 3), (1, 4), (1, 2), 0),
    ],
)
def test_pooling(
    gpu: Gpu,
    reader: LogReader,
    rng: np.random.Generator,
    kind: int,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    round_mode: int,
) -> None:
    pool = op(
        "Pooling",
        ["x"],
        "y",
        pooling_type=kind,
        kernels=kernel,
        strides=stride,
        padding_values=padding,
        round_mode=round_mode,
    )
    made = model([pool], {"x": shape}, ["y"])
    _agree(gpu, reader, made, {"x": _random(rng, *shape)})


@pytest.mark.parametrize("kind", range(5))
def test_reduce_pixels(gpu: Gpu, reader: LogReader, rng: np.random.Generator, kind: int) -> None:
    """37 x 5 pixels take two stages of tiles."""
    reduce = op("Reduce", ["x"], "y", reduce_type=kind, axis=(1, 2), keepdims=1)
    made = model([reduce], {"x": (2, 37, 5, 6)}, ["y"])
    values = 1 + 0.1 * _random(rng, 2, 37, 5, 6)  # a product of 185 values must stay in range
    if kind == 2:
        values = -values  # no maximum may be what it starts from
    _agree(gpu, reader, made, {"x": values.astype(np.float32)}, tolerance=1e-3)


@pytest.mark.parametrize("channels", [4, 6, 11])
def test_reduce_channels(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, channels: int
) -> None:
    reduce = op("Reduce", ["x"], "y", reduce_type=0, axis=(3,), keepdims=1)
    made = model([reduce], {"x": (1, 3, 5, channels)}, ["y"])
    _agree(gpu, reader, made, {"x": _random(rng, 1, 3, 5, channels)})


def test_fully_connected_over_pixels(gpu: Gpu, reader: LogReader, rng: np.random.Generator) -> None:
    layer = op("FullyConnected", ["x", "w", "b"], "y", activation="RELU")
    constants = {"w": _random(rng, 7, 5, 2, 3), "b": _random(rng, 7)}
    made = model([layer], {"x": (2, 2, 3, 5)}, ["y"], constants)
    _agree(gpu, reader, made, {"x": _random(rng, 2, 2, 3, 5)})


@pytest.mark.parametrize("channels", [3, 8, 10])
@pytest.mark.parametrize("use_log", [0, 1])
def test_softmax(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, channels: int, use_log: int
) -> None:
    softmax = op("Softmax", ["x"], "y", use_log=use_log)
    made = model([softmax], {"x": (1, 2, 3, channels)}, ["y"])
    # exp of the largest is infinite unless it is taken off first
    _agree(gpu, reader, made, {"x": 100 + 10 * _random(rng, 1, 2, 3, channels)})


def test_softmax_of_a_matrix(gpu: Gpu, reader: LogReader, rng: np.random.Generator) -> None:
    made = model([op("Softmax", ["x"], "y")], {"x": (3, 9)}, ["y"])
    _agree(gpu, reader, made, {"x": _random(rng, 3, 9)})


_ACTIVATIONS = [
    {"activation": "RELU"},
    {"activation": "RELUX", "max_limit": 0.7},
    {"activation": "TANH"},
    {"activation": "SIGMOID"},
    {"activation": "LEAKYRELU", "activation_coefficient": 0.2},
    {"activation": "ELU", "activation_coefficient": 0.5},
    {"activation": "HARDSIGMOID", "hardsigmoid_alpha": 0.2, "hardsigmoid_beta": 0.5},
]


@pytest.mark.parametrize("arguments", _ACTIVATIONS, ids=lambda found: str(found["activation"]))
def test_activation(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, arguments: dict[str, Any]
) -> None:
    made = model([op("Activation", ["x"], "y", **arguments)], {"x": (1, 4, 5, 6)}, ["y"])
    _agree(gpu, reader, made, {"x": 3 * _random(rng, 1, 4, 5, 6)})


def test_prelu(gpu: Gpu, reader: LogReader, rng: np.random.Generator) -> None:
    layer = op("Activation", ["x", "alpha"], "y", activation="PRELU")
    made = model([layer], {"x": (1, 4, 5, 6)}, ["y"], {"alpha": _random(rng, 6)})
    _agree(gpu, reader, made, {"x": _random(rng, 1, 4, 5, 6)})


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 8, 9, 11])
def test_eltwise(gpu: Gpu, reader: LogReader, rng: np.random.Generator, kind: int) -> None:
    shape = (2, 3, 4, 6)
    made = model([op("Eltwise", ["a", "b"], "y", type=kind)], {"a": shape, "b": shape}, ["y"])
    positive = np.abs(_random(rng, *shape)) + np.float32(0.5)
    _agree(gpu, reader, made, {"a": positive, "b": _random(rng, *shape)})


@pytest.mark.parametrize("constant", [(6,), (1, 1, 1, 6), (2, 1, 1, 6), (2, 3, 4, 1), (2, 3, 4, 6)])
@pytest.mark.parametrize("first", [False, True])
def test_eltwise_broadcasts_a_constant(
    gpu: Gpu,
    reader: LogReader,
    rng: np.random.Generator,
    constant: tuple[int, ...],
    first: bool,
) -> None:
    names = ["k", "x"] if first else ["x", "k"]
    made = model(
        [op("Eltwise", names, "y", type=1)],
        {"x": (2, 3, 4, 6)},
        ["y"],
        {"k": _random(rng, *constant)},
    )
    _agree(gpu, reader, made, {"x": _random(rng, 2, 3, 4, 6)})


@pytest.mark.parametrize(
    "arguments",
    [
        {"type": 1, "scalar_input": 2.5},
        {"type": 1, "scalar_input": 2.5, "scalar_input_index": 0},
        {"type": 6},
        {"type": 7},
        {"type": 12, "coeff": (-0.5, 0.5)},
    ],
)
def test_eltwise_of_one_tensor(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, arguments: dict[str, Any]
) -> None:
    made = model([op("Eltwise", ["x"], "y", **arguments)], {"x": (1, 3, 4, 6)}, ["y"])
    _agree(gpu, reader, made, {"x": _random(rng, 1, 3, 4, 6)})


def test_eltwise_sum_with_coefficients(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator
) -> None:
    shape = (1, 3, 4, 6)
    layer = op("Eltwise", ["a", "b"], "y", type=0, coeff=(0.25, 2.0))
    made = model([layer], {"a": shape, "b": shape}, ["y"])
    _agree(gpu, reader, made, {"a": _random(rng, *shape), "b": _random(rng, *shape)})


@pytest.mark.parametrize("channels", [(4, 6), (5, 3), (6, 9), (7, 8), (1, 1), (4, 8, 4)])
def test_concat(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, channels: tuple[int, ...]
) -> None:
    names = [f"x{i}" for i in range(len(channels))]
    shapes = {name: (2, 3, 4, count) for name, count in zip(names, channels, strict=True)}
    made = model([op("Concat", names, "y", axis=3)], shapes, ["y"])
    _agree(gpu, reader, made, {name: _random(rng, *shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_pad(gpu: Gpu, reader: LogReader, rng: np.random.Generator, kind: int) -> None:
    layer = op(
        "Pad", ["x"], "y", paddings=(0, 0, 1, 2, 3, 0, 0, 0), pad_type=kind, constant_value=0.5
    )
    made = model([layer], {"x": (2, 4, 5, 6)}, ["y"])
    _agree(gpu, reader, made, {"x": _random(rng, 2, 4, 5, 6)})


def test_bias_add(gpu: Gpu, reader: LogReader, rng: np.random.Generator) -> None:
    made = model(
        [op("BiasAdd", ["x", "b"], "y")], {"x": (1, 3, 4, 6)}, ["y"], {"b": _random(rng, 6)}
    )
    _agree(gpu, reader, made, {"x": _random(rng, 1, 3, 4, 6)})


@pytest.mark.parametrize("folded", [False, True])
def test_batch_norm(gpu: Gpu, reader: LogReader, rng: np.random.Generator, folded: bool) -> None:
    names = ["scale", "offset"] if folded else ["scale", "offset", "mean", "variance"]
    constants = {name: np.abs(_random(rng, 6)) + np.float32(0.1) for name in names}
    layer = op("BatchNorm", ["x", *names], "y", epsilon=1e-3, activation="RELU")
    made = model([layer], {"x": (1, 3, 4, 6)}, ["y"], constants)
    _agree(gpu, reader, made, {"x": _random(rng, 1, 3, 4, 6)})


@pytest.mark.parametrize("has_data_format", [0, 1])
def test_reshape(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, has_data_format: int
) -> None:
    """With a data format the values are counted channel by channel."""
    layer = op(
        "Reshape",
        ["x"],
        "y",
        dim=(1, 4, -1, 6),
        has_data_format=has_data_format,
        framework_type=2,
    )
    made = model([layer], {"x": (1, 6, 4, 5)}, ["y"])
    _agree(gpu, reader, made, {"x": _random(rng, 1, 6, 4, 5)})


def test_chain_shares_memory_without_mixing_tensors(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator
) -> None:
    """A residual net: `a` must survive while the branch reuses other images."""
    constants = {name: _random(rng, 8, 8, 1, 1) for name in ("w0", "w1", "w2")}
    ops = [
        op("Conv2D", ["x", "w0"], "a", strides=(1, 1), padding_values=(0, 0)),
        op("Conv2D", ["a", "w1"], "b", strides=(1, 1), padding_values=(0, 0)),
        op("Identity", ["b"], "b2"),
        op("Conv2D", ["b2", "w2"], "c", strides=(1, 1), padding_values=(0, 0)),
        op("Eltwise", ["a", "c"], "d", type=0),
        op("Reduce", ["d"], "e", reduce_type=0, axis=(1, 2), keepdims=1),
        op("Squeeze", ["e"], "f", axis=(1, 2)),
    ]
    made = model(ops, {"x": (1, 6, 6, 8)}, ["f", "b"], constants)
    _agree(gpu, reader, made, {"x": _random(rng, 1, 6, 6, 8)}, tolerance=1e-4)


_ENDS_IN_INFINITIES = [
    op("Eltwise", ["x", "x"], "y", type=3),
    op("Eltwise", ["x", "x"], "y", type=11),
    op("Softmax", ["x"], "y"),
    op("BatchNorm", ["x", "one", "one", "one", "one"], "y", epsilon=0.0),
]


@pytest.mark.parametrize("layer", _ENDS_IN_INFINITIES, ids=lambda layer: str(layer.type))
@pytest.mark.parametrize("reader_type", ["Conv2D", "FullyConnected"])
def test_what_lies_beyond_the_channels_stays_there(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, layer: Any, reader_type: str
) -> None:
    """0 / 0 in a lane that holds no channel must not become a sum that is no number."""
    made = model(
        [layer, op(reader_type, ["y", "w"], "z", strides=(1, 1), padding_values=(0, 0))],
        {"x": (1, 1, 1, 5)},
        ["z"],
        {"one": np.ones(5, np.float32), "w": _random(rng, 6, 5, 1, 1)},
    )
    _agree(gpu, reader, made, {"x": -200 - np.abs(_random(rng, 1, 1, 1, 5))})


def test_another_input_shape_is_laid_out_again(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator
) -> None:
    conv = op("Conv2D", ["x", "w"], "y", strides=(1, 1), padding_values=(2, 2))
    made = model([conv], {"x": (1, 8, 8, 4)}, ["y"], {"w": _random(rng, 4, 4, 3, 3)})
    _agree(gpu, reader, made, {"x": _random(rng, 1, 5, 9, 4)})


def test_half_precision_storage(gpu: Gpu, reader: LogReader, rng: np.random.Generator) -> None:
    """16-bit weights and images, 32-bit arithmetic: off by rounding, not by more."""
    weights = _random(rng, 6, 5, 3, 3).astype(np.float16)
    conv = op("Conv2D", ["x", "w"], "y", strides=(1, 1), padding_values=(2, 2))
    made = model([conv], {"x": (1, 6, 6, 5)}, ["y"], {"w": weights}, data_type=DataType.DT_HALF)
    for ours, reference in run_both(made, {"x": _random(rng, 1, 6, 6, 5)}, gpu, reader.log):
        error = np.abs(ours - reference).max() / np.abs(reference).max()
        assert 1e-7 < error < 2e-3


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (op("LSTMCell", ["x", "w"], "y"), r"y_op.*LSTMCell"),
        (op("Conv2D", ["x", "w"], "y", group=2), "does not fit the filter"),
        (op("Conv2D", ["x", "w"], "y", group=3), "4 outputs in 3 groups"),
        (op("Eltwise", ["x"], "y", type=14), "eltwise type 14"),
        (op("Eltwise", ["x"], "y", type=12), "0 coefficients"),
        (op("Conv2D", ["x", "missing"], "y"), "missing"),
        (op("Conv2D", ["x"], "y"), "too few"),
        (op("Activation", ["x"], "y", activation="GELU"), "GELU"),
        (op("Reduce", ["x"], "y", axis=(4,)), "axis 4 of 4"),
        (op("Conv2D", ["x", "w", "short"], "y"), "'short' has 3 values for 4 channels"),
        (op("FullyConnected", ["x", "short"], "y"), r"filter 'short' has the shape \[3\]"),
        (op("BiasAdd", ["x", "short"], "y"), "'short' has 3 values for 4 channels"),
        (op("BatchNorm", ["x", "short", "short"], "y"), "'short' has 3 values"),
        (op("Activation", ["x", "short"], "y", activation="PRELU"), "'short' has 3 values"),
        (op("Eltwise", ["x", "short"], "y", type=0), "inputs"),
        (op("Conv2D", ["x", "w"], "y", strides=(0, 1)), r"strides \[0, 1\]"),
        (op("Pooling", ["x"], "y", kernels=(9, 9), padding_values=(0, 0)), "fewer than the window"),
        (op("Reshape", ["x"], "y", dim=(7, -1)), "to"),
        (op("Reshape", ["x"], "y", dim=(4, 4, 2, 2, 0)), "the shape"),
        (op("Softmax", ["nowhere"], "y"), "nothing makes its input 'nowhere'"),
    ],
)
def test_what_cannot_run_is_named(
    gpu: Gpu, rng: np.random.Generator, layer: Any, words: str
) -> None:
    constants = {"w": _random(rng, 4, 4, 1, 1), "short": _random(rng, 3)}
    made = model([layer], {"x": (1, 4, 4, 4)}, ["y"], constants)
    with pytest.raises(EngineError, match=words):
        GpuNet(made, gpu)


@pytest.mark.parametrize("shape", [(1, 0, 4, 4), (1, -4, -4, 4), (), (1, 1 << 30, 4, 4)])
def test_impossible_input_shapes(gpu: Gpu, shape: tuple[int, ...]) -> None:
    made = model([op("Softmax", ["x"], "y")], {"x": shape}, ["y"])
    with pytest.raises(EngineError, match="input 'x'|resources"):
        GpuNet(made, gpu)


def test_image_that_is_too_large_is_reported(gpu: Gpu, reader: LogReader) -> None:
    made = model([op("Softmax", ["x"], "y")], {"x": (1, 99999, 4, 4)}, ["y"])
    with pytest.raises(EngineError, match="Out of resources"):
        GpuNet(made, gpu)
    width, height = gpu.device.max_image_size
    assert (
        "] Allocate OpenCL image with shape: [4, 99999] failed because of CL_INVALID_IMAGE_SIZE\n"
        in reader.text
    )
    assert f"] The allowable OpenCL image size is: {width}x{height}\n" in reader.text
