"""Kernels for buffers on CPU drivers against numpy in double precision, over random shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from engine_harness import DRIVERS, LogReader
from engine_models import Array, in_memory, make_gpu, model, op
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droidmace.engine.attributes import Window
from droidmace.engine.fusion import RESIDUAL_ARGUMENT
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.opencl.tensor import BufferMemory
from droidmace.engine.ops import buffer_conv, buffer_wide, buffer_winograd
from droidmace.engine.ops.buffer_panels import Tile
from droidmace.engine.ops.buffer_pooling import BufferPooling
from droidmace.engine.ops.registry import find_op
from droidmace.formats.netdef import Argument, DataType, MemoryType, OperatorDef

Doubles = npt.NDArray[np.float64]
_SETTINGS = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_BOUNDED = ("NOOP", "RELU", "RELUX")
_FLOAT_TOLERANCE, _WINOGRAD_TOLERANCE, _HALF_TOLERANCE = 2e-5, 1e-4, 4e-3


@pytest.fixture(scope="module", params=DRIVERS)
def gpu(
    request: pytest.FixtureRequest,
    opencl_devices: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gpu]:
    """One device for the module, so that equal programs are built once."""
    reader = LogReader(tmp_path_factory.mktemp("log") / "log.txt")
    yield make_gpu(opencl_devices[request.param], reader.log)
    reader.close()


def _run(
    gpu: Gpu,
    ops: list[OperatorDef],
    inputs: dict[str, Array],
    constants: dict[str, Any],
    data_type: DataType = DataType.DT_FLOAT,
) -> Array:
    """The output ``y`` of a net whose activations lie in buffers."""
    shapes = {name: value.shape for name, value in inputs.items()}
    made = model(ops, shapes, ["y"], constants, data_type=data_type)
    return GpuNet(in_memory(made, MemoryType.GPU_BUFFER), gpu).run(inputs)["y"]


def _activate(x: Doubles, name: str, limit: float, coefficient: float) -> Doubles:
    if name == "RELU":
        return np.maximum(x, 0)
    if name == "RELUX":
        return np.clip(x, 0, limit)
    if name == "TANH":
        return np.tanh(x)
    if name == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-x)))
    if name == "LEAKYRELU":
        return np.maximum(x, 0) + coefficient * np.minimum(x, 0)
    if name == "ELU":
        return np.maximum(x, 0) + coefficient * np.expm1(np.minimum(x, 0))
    assert name == "NOOP"
    return x


def _windows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], pads: Any
) -> Doubles:
    """The input as [n, h, w, tap, channel], for each output pixel."""
    before = [total // 2 for total in pads]
    after = [total - total // 2 for total in pads]
    padded = np.pad(
        x.astype(np.float64), ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0))
    )
    out = [
        (padded.shape[1 + axis] - (kernel[axis] - 1) * dilation[axis] - 1) // stride[axis] + 1
        for axis in (0, 1)
    ]
    taps = []
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            rows = padded[:, kh * dilation[0] :: stride[0]][:, : out[0]]
            taps.append(rows[:, :, kw * dilation[1] :: stride[1]][:, :, : out[1]])
    return np.stack(taps, axis=3)


def _close(ours: Array, expected: Doubles, tolerance: float = _FLOAT_TOLERANCE) -> None:
    assert ours.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * scale)


@st.composite
def _sliding(draw: st.DrawFn, *, widest: int) -> dict[str, Any]:
    """A window and an input that it fits into; ``widest``: most channels of the input."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, size + 1)) for size in kernel)
    least = [max(1, (kernel[axis] - 1) * dilation[axis] + 1 - pads[axis]) for axis in (0, 1)]
    height = draw(st.integers(least[0], least[0] + 9))
    width = draw(st.integers(least[1], least[1] + 20))
    shape = (draw(st.integers(1, 2)), height, width, draw(st.integers(1, widest)))
    return {
        "x": np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape, np.float32),
        "kernel": kernel,
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation": dilation,
        "pads": pads,
        "activation": draw(st.sampled_from(_BOUNDED)),
        "bias": draw(st.booleans()),
    }


def _convolve(case: dict[str, Any], weights: Array, bias: Array) -> Doubles:
    """OIHW weights."""
    columns = _windows(case["x"], case["kernel"], case["stride"], case["dilation"], case["pads"])
    taps = weights.reshape(*weights.shape[:2], -1).astype(np.float64)
    sums = np.einsum("nhwtc,oct->nhwo", columns, taps)
    return _activate(sums + (bias if case["bias"] else 0), case["activation"], 1.5, 0.1)


def _window_op(kind: str, case: dict[str, Any], sources: tuple[str, ...] = ()) -> OperatorDef:
    return op(
        kind,
        [*(sources or ("x",)), "w", *(["b"] if case["bias"] else [])],
        "y",
        strides=case["stride"],
        dilations=case["dilation"],
        padding_values=case["pads"],
        activation=case["activation"],
        max_limit=1.5,
        activation_coefficient=0.1,
    )


_PLAIN: dict[str, Any] = {
    "kernel": (3, 3),
    "stride": (1, 1),
    "dilation": (1, 1),
    "pads": (2, 2),
    "activation": "NOOP",
    "bias": True,
}
_WINDOW_3X3 = Window((3, 3), (1, 1), (1, 1), None, 0)


def _with_residual(made: OperatorDef) -> OperatorDef:
    """The op with an activation ``r`` to be added."""
    flag = Argument(name=RESIDUAL_ARGUMENT, i=1)
    return replace(made, inputs=(*made.inputs, "r"), args=(*made.args, flag))


@given(case=_sliding(widest=36), channels=st.integers(1, 70))
@_SETTINGS
def test_convolution(gpu: Gpu, case: dict[str, Any], channels: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((channels, case["x"].shape[3], *case["kernel"]), np.float32)
    bias = rng.standard_normal(channels, np.float32)
    ours = _run(gpu, [_window_op("Conv2D", case)], {"x": case["x"]}, {"w": weights, "b": bias})
    _close(ours, _convolve(case, weights, bias))


@given(
    shape=st.tuples(*(st.integers(1, most) for most in (2, 9, 9, 70))),
    channels=st.integers(1, 70),
    bias=st.booleans(),
    activation=st.sampled_from(_BOUNDED),
)
@_SETTINGS
def test_convolution_1x1(
    gpu: Gpu, shape: tuple[int, ...], channels: int, bias: bool, activation: str
) -> None:
    rng = np.random.default_rng(2)
    case: dict[str, Any] = {
        "x": rng.standard_normal(shape, np.float32),
        "kernel": (1, 1),
        "stride": (1, 1),
        "dilation": (1, 1),
        "pads": (0, 0),
        "activation": activation,
        "bias": bias,
    }
    weights = rng.standard_normal((channels, shape[3], 1, 1), np.float32)
    values = rng.standard_normal(channels, np.float32)
    ours = _run(gpu, [_window_op("Conv2D", case)], {"x": case["x"]}, {"w": weights, "b": values})
    _close(ours, _convolve(case, weights, values))


@pytest.mark.parametrize(
    ("shape", "channels", "pads", "residual"),
    [
        ((1, 14, 16, 16), 32, (2, 2), False),
        ((1, 17, 13, 20), 37, (2, 2), True),
        ((2, 12, 15, 33), 16, (0, 3), False),
        ((17, 4, 5, 16), 48, (2, 1), True),
    ],
)
def test_winograd(
    gpu: Gpu, shape: tuple[int, ...], channels: int, pads: tuple[int, int], residual: bool
) -> None:
    rng = np.random.default_rng(9)
    case: dict[str, Any] = {**_PLAIN, "x": rng.standard_normal(shape, np.float32), "pads": pads}
    weights = rng.standard_normal((channels, shape[3], 3, 3), np.float32)
    bias = rng.standard_normal(channels, np.float32)
    expected = _convolve(case, weights, bias)
    assert buffer_winograd.pays(_WINDOW_3X3, (shape[3], channels), expected.shape, Tile.of(gpu))
    made, inputs = _window_op("Conv2D", case), {"x": case["x"]}
    if residual:
        made = _with_residual(made)
        inputs["r"] = rng.standard_normal(expected.shape, np.float32)
        expected = expected + inputs["r"]
    _close(_run(gpu, [made], inputs, {"w": weights, "b": bias}), expected, _WINOGRAD_TOLERANCE)


@given(case=_sliding(widest=40))
@_SETTINGS
def test_depthwise_convolution(gpu: Gpu, case: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    channels = case["x"].shape[3]
    weights = rng.standard_normal((1, channels, *case["kernel"]), np.float32)
    bias = rng.standard_normal(channels, np.float32)
    made = _window_op("DepthwiseConv2d", case)
    ours = _run(gpu, [made], {"x": case["x"]}, {"w": weights, "b": bias})
    columns = _windows(case["x"], case["kernel"], case["stride"], case["dilation"], case["pads"])
    sums = np.einsum("nhwtc,ct->nhwc", columns, weights.reshape(channels, -1).astype(np.float64))
    _close(ours, _activate(sums + (bias if case["bias"] else 0), case["activation"], 1.5, 0.1))


@given(case=_sliding(widest=40), is_maximum=st.booleans())
@_SETTINGS
def test_pooling(gpu: Gpu, case: dict[str, Any], is_maximum: bool) -> None:
    # a window may begin before the image, but not lie beside it
    pads = tuple(min(pad, size - 1) for pad, size in zip(case["pads"], case["kernel"], strict=True))
    x, kernel, stride = case["x"], case["kernel"], case["stride"]
    if any(x.shape[1 + axis] + pads[axis] < kernel[axis] for axis in (0, 1)):
        return
    made = op(
        "Pooling",
        ["x"],
        "y",
        kernels=kernel,
        strides=stride,
        dilations=(1, 1),
        padding_values=pads,
        pooling_type=2 if is_maximum else 1,
        round_mode=0,
    )
    columns = _windows(x, kernel, stride, (1, 1), pads)
    there = _windows(np.ones_like(x), kernel, stride, (1, 1), pads)
    if is_maximum:
        expected = np.where(there > 0, columns, -np.inf).max(axis=3)
    else:
        expected = columns.sum(axis=3) / there.sum(axis=3)
    _close(_run(gpu, [made], {"x": x}, {}), expected)


@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 1, 1, 37), 10), ((2, 3, 2, 5), 33), ((9, 1, 1, 20), 70)]
)
def test_fully_connected(gpu: Gpu, shape: tuple[int, int, int, int], channels: int) -> None:
    rng = np.random.default_rng(4)
    batch, height, width, depth = shape
    x = rng.standard_normal(shape, np.float32)
    weights = rng.standard_normal((channels, depth, height, width), np.float32)
    bias = rng.standard_normal(channels, np.float32)
    made = op("FullyConnected", ["x", "w", "b"], "y", activation="RELU")
    ours = _run(gpu, [made], {"x": x}, {"w": weights, "b": bias})
    sums = np.einsum("nhwc,ochw->no", x.astype(np.float64), weights.astype(np.float64)) + bias
    _close(ours, np.maximum(sums, 0).reshape(batch, 1, 1, channels))


@pytest.mark.parametrize("activation", ["TANH", "SIGMOID", "LEAKYRELU", "ELU"])
def test_other_activations(gpu: Gpu, activation: str) -> None:
    rng = np.random.default_rng(5)
    case = {**_PLAIN, "x": rng.standard_normal((1, 5, 6, 3), np.float32), "activation": activation}
    weights = rng.standard_normal((20, 3, 3, 3), np.float32)
    bias = rng.standard_normal(20, np.float32)
    ours = _run(gpu, [_window_op("Conv2D", case)], {"x": case["x"]}, {"w": weights, "b": bias})
    _close(ours, _convolve(case, weights, bias))


@pytest.mark.parametrize(("kind", "size"), [("Conv2D", 1), ("Conv2D", 3), ("DepthwiseConv2d", 3)])
def test_16_bit_floats(gpu: Gpu, kind: str, size: int) -> None:
    rng = np.random.default_rng(6)
    kernel = {"kernel": (size, size), "pads": (size - 1, size - 1)}
    case = {**_PLAIN, **kernel, "x": rng.standard_normal((1, 9, 8, 19), np.float32)}
    outputs = 40 if kind == "Conv2D" else 1
    weights = rng.standard_normal((outputs, 19, size, size), np.float32)
    bias = rng.standard_normal(outputs if kind == "Conv2D" else 19, np.float32)
    constants = {"w": weights.astype(np.float16), "b": bias.astype(np.float16)}
    ours = _run(gpu, [_window_op(kind, case)], {"x": case["x"]}, constants, DataType.DT_HALF)
    if kind == "Conv2D":
        expected = _convolve(case, weights, bias)
    else:
        columns = _windows(case["x"], case["kernel"], (1, 1), (1, 1), case["pads"])
        expected = np.einsum("nhwtc,ct->nhwc", columns, weights.reshape(19, -1)) + bias
    _close(ours, expected, _HALF_TOLERANCE)


@pytest.mark.parametrize("size", [1, 3])
def test_residual(gpu: Gpu, size: int) -> None:
    rng = np.random.default_rng(7)
    kernel = {"kernel": (size, size), "pads": (size - 1, size - 1)}
    case = {**_PLAIN, **kernel, "x": rng.standard_normal((1, 9, 8, 19), np.float32)}
    weights = rng.standard_normal((37, 19, size, size), np.float32)
    bias = rng.standard_normal(37, np.float32)
    residual = rng.standard_normal((1, 9, 8, 37), np.float32)
    fused = _with_residual(_window_op("Conv2D", {**case, "activation": "RELU"}))
    ours = _run(gpu, [fused], {"x": case["x"], "r": residual}, {"w": weights, "b": bias})
    _close(ours, np.maximum(_convolve(case, weights, bias) + residual, 0))


def test_work_groups_of_any_size(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Surplus work-items of a rounded-up global size must not write."""
    monkeypatch.setattr(buffer_wide, "one_item", lambda *_: (4, 1, 2, 0))
    rng = np.random.default_rng(8)
    case = {**_PLAIN, "x": rng.standard_normal((1, 9, 8, 19), np.float32)}
    weights = rng.standard_normal((70, 19, 3, 3), np.float32)
    bias = rng.standard_normal(70, np.float32)
    ours = _run(gpu, [_window_op("Conv2D", case)], {"x": case["x"]}, {"w": weights, "b": bias})
    _close(ours, _convolve(case, weights, bias))
    weights = rng.standard_normal((1, 19, 3, 3), np.float32)
    made = _window_op("DepthwiseConv2d", {**case, "bias": False})
    ours = _run(gpu, [made], {"x": case["x"]}, {"w": weights, "b": bias})
    columns = _windows(case["x"], (3, 3), (1, 1), (1, 1), (2, 2))
    taps = weights.reshape(19, -1).astype(np.float64)
    _close(ours, np.einsum("nhwtc,ct->nhwc", columns, taps))


def test_registry_knows_them(gpu: Gpu) -> None:
    memory = BufferMemory(gpu, half=False)
    assert find_op("Conv2D", memory) is buffer_conv.BufferConv2D
    assert find_op("DepthwiseConv2d", memory) is buffer_conv.BufferDepthwiseConv2d
    assert find_op("FullyConnected", memory) is buffer_conv.BufferFullyConnected
    assert find_op("Pooling", memory) is BufferPooling
