"""The kernels for GPUs with activations in buffers, against numpy, on the drivers of this machine.

The device is told to be a GPU, so that its kernels are chosen; they are OpenCL C like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyopencl as cl
import pytest
from engine_harness import DRIVERS, LogReader
from engine_models import Array, in_memory, make_gpu, model, op
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.model import Model
from droidmace.engine.opencl.arena import Arena, place_of
from droidmace.engine.opencl.local_size import Limits
from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.opencl.tensor import BufferMemory
from droidmace.engine.ops.buffer_gpu_conv import (
    GpuBufferConv2D,
    GpuBufferDepthwiseConv2d,
    GpuBufferReduce,
    depthwise_rule,
    shared_sum_choices,
    shared_sums,
)
from droidmace.engine.ops.registry import find_op
from droidmace.formats.netdef import DataType, MemoryType, OperatorDef, OutputShape

_TOLERANCE = 2e-5
_GPU_ALIGNMENT = 4
_BRIEF = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Intel's compiler has something to say about every program
pytestmark = pytest.mark.filterwarnings("ignore:Non-empty compiler output")


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
    return _as_gpu(make_gpu(opencl_devices[request.param], reader.log))


def _as_gpu(made: Gpu) -> Gpu:
    made.device = replace(made.device, is_cpu=False, channel_alignment=_GPU_ALIGNMENT)
    return made


def _random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _run(gpu: Gpu, made: Model, inputs: dict[str, Array]) -> Array:
    return GpuNet(in_memory(made, MemoryType.GPU_BUFFER), gpu).run(inputs)["y"]


def _agree(
    gpu: Gpu,
    reader: LogReader,
    made: Model,
    inputs: dict[str, Array],
    tolerance: float = _TOLERANCE,
) -> None:
    ours = _run(gpu, made, inputs)
    expected = CpuNet(made, reader.log).run(inputs)["y"]
    scale = max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * scale)


@dataclass(frozen=True)
class _Layer:
    """Sizes of a convolution: input NHWC, output channels, window, and what follows the sum."""

    shape: tuple[int, int, int, int]
    outputs: int
    kernel: tuple[int, int]
    stride: int
    dilation: int
    padding: tuple[int, int]
    has_bias: bool
    activation: str

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "strides": [self.stride] * 2,
            "dilations": [self.dilation] * 2,
            "padding_values": list(self.padding),
            "activation": self.activation,
            "max_limit": 1.5,
        }

    def inputs(self) -> list[str]:
        return ["x", "w", *(["b"] if self.has_bias else [])]


@st.composite
def _layers(draw: st.DrawFn, kernels: Sequence[tuple[int, int]]) -> _Layer:
    kernel = draw(st.sampled_from(kernels))
    dilation = draw(st.sampled_from([1, 2])) if kernel == (3, 3) else 1
    smallest = [(size - 1) * dilation + 1 for size in kernel]
    height, width = (draw(st.integers(size, size + 8)) for size in smallest)
    return _Layer(
        shape=(draw(st.integers(1, 2)), height, width, draw(st.integers(1, 70))),
        outputs=draw(st.integers(1, 40)),
        kernel=kernel,
        stride=draw(st.sampled_from([1, 2])),
        dilation=dilation,
        padding=(draw(st.integers(0, 3)), draw(st.integers(0, 3))),
        has_bias=draw(st.booleans()),
        activation=draw(st.sampled_from(["NOOP", "RELU", "RELUX", "SIGMOID"])),
    )


@_BRIEF
@given(layer=_layers([(1, 1), (3, 3), (2, 3)]))
def test_convolutions(gpu: Gpu, reader: LogReader, layer: _Layer) -> None:
    constants = {"w": _random(1, layer.outputs, layer.shape[3], *layer.kernel)}
    if layer.has_bias:
        constants["b"] = _random(2, layer.outputs)
    made = model(
        [op("Conv2D", layer.inputs(), "y", **layer.arguments)], {"x": layer.shape}, ["y"], constants
    )
    _agree(gpu, reader, made, {"x": _random(3, *layer.shape)})


@_BRIEF
@given(layer=_layers([(3, 3), (5, 5)]))
def test_depthwise_convolutions(gpu: Gpu, reader: LogReader, layer: _Layer) -> None:
    channels = layer.shape[3]
    constants = {"w": _random(1, 1, channels, *layer.kernel)}
    if layer.has_bias:
        constants["b"] = _random(2, channels)
    layers = [op("DepthwiseConv2d", layer.inputs(), "y", **layer.arguments)]
    _agree(
        gpu,
        reader,
        model(layers, {"x": layer.shape}, ["y"], constants),
        {"x": _random(3, *layer.shape)},
    )


@_BRIEF
@given(
    shape=st.tuples(*(st.integers(1, 9) for _ in range(3)), st.integers(1, 70)),
    kind=st.sampled_from([0, 4]),
)
def test_means_and_sums(
    gpu: Gpu, reader: LogReader, shape: tuple[int, int, int, int], kind: int
) -> None:
    layers = [op("Reduce", ["x"], "y", axis=[1, 2], reduce_type=kind, keepdims=1)]
    _agree(gpu, reader, model(layers, {"x": shape}, ["y"]), {"x": _random(3, *shape)})


@pytest.mark.parametrize("shape", [(1, 1, 1, 300), (3, 2, 3, 7)])
def test_fully_connected(gpu: Gpu, reader: LogReader, shape: tuple[int, ...]) -> None:
    weights = {"w": _random(1, 11, shape[3], *shape[1:3]), "b": _random(2, 11)}
    layers = [op("FullyConnected", ["x", "w", "b"], "y", activation="RELU")]
    _agree(gpu, reader, model(layers, {"x": shape}, ["y"], weights), {"x": _random(3, *shape)})


def _residual_block(channels: int) -> tuple[list[OperatorDef], dict[str, Array]]:
    """Expansion, depthwise, projection, addition, activation: what mobile nets are made of."""
    wide = 3 * channels
    layers = [
        op("Conv2D", ["x", "w0", "b0"], "wide", padding=1, activation="RELUX", max_limit=6.0),
        op("DepthwiseConv2d", ["wide", "w1", "b1"], "deep", padding=1, activation="RELU"),
        op("Conv2D", ["deep", "w2", "b2"], "narrow", padding=1),
        op("Eltwise", ["narrow", "x"], "sum", type=0),
        op("Activation", ["sum"], "y", activation="RELU"),
    ]
    constants = {
        "w0": _random(1, wide, channels, 1, 1),
        "b0": _random(2, wide),
        "w1": _random(3, 1, wide, 3, 3),
        "b1": _random(4, wide),
        "w2": _random(5, channels, wide, 1, 1),
        "b2": _random(6, channels),
    }
    return layers, constants


def _with_shapes(layers: list[OperatorDef], shape: tuple[int, ...]) -> list[OperatorDef]:
    """The ops with their outputs' shapes declared, as converters do."""
    wide = (*shape[:3], 3 * shape[3])
    made = []
    for layer in layers:
        dims = wide if layer.outputs[0] in ("wide", "deep") else shape
        made.append(replace(layer, output_shapes=(OutputShape(dims=dims),)))
    return made


@pytest.mark.parametrize("data_type", [DataType.DT_FLOAT, DataType.DT_HALF])
def test_a_residual_block_is_fused_and_right(
    gpu: Gpu, reader: LogReader, data_type: DataType
) -> None:
    shape = (1, 6, 5, 10)
    layers, constants = _residual_block(shape[3])
    half = data_type == DataType.DT_HALF
    stored = {name: value.astype(np.float16) for name, value in constants.items()}
    made = model(
        _with_shapes(layers, shape),
        {"x": shape},
        ["y"],
        stored if half else constants,
        data_type=data_type,
    )
    _agree(gpu, reader, made, {"x": _random(7, *shape)}, 1e-2 if half else _TOLERANCE)


def test_any_local_size_gives_the_same(gpu: Gpu) -> None:
    """Parts of a sum, surplus items, groups too large to share out sums: all come out alike."""
    shape = (1, 3, 5, 37)
    constants = {"w": _random(1, 21, 37, 1, 1), "b": _random(2, 21)}
    made = model([op("Conv2D", ["x", "w", "b"], "y", padding=1)], {"x": shape}, ["y"], constants)
    inputs = {"x": _random(3, *shape)}
    expected = _run(gpu, made, inputs)
    for lws in ((1, 1, 1, 0), (8, 4, 8, 0), (3, 1, 5, 0), (2, 2, 64, 0), (16, 8, 4, 0)):
        with _parameters(gpu, lws):
            np.testing.assert_allclose(_run(gpu, made, inputs), expected, rtol=0, atol=1e-5)


@contextlib.contextmanager
def _parameters(gpu: Gpu, lws: tuple[int, ...]) -> Iterator[None]:
    """Tuned parameters for the convolution of this module's test."""
    table = gpu.tuner._table
    key = "conv2d_1x1_opencl_kernel_1_3_5_21_37"
    table[key] = lws
    try:
        yield
    finally:
        del table[key]


def test_tensors_that_share_no_memory_object(
    gpu: Gpu, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("droidmace.engine.opencl.tensor.CHUNK_BYTES", 64)
    shape = (1, 4, 4, 8)
    layers, constants = _residual_block(shape[3])
    _agree(
        gpu,
        reader,
        model(_with_shapes(layers, shape), {"x": shape}, ["y"], constants),
        {"x": _random(7, *shape)},
    )


def test_the_kernels_under_test_are_those_of_gpus(gpu: Gpu) -> None:
    memory = BufferMemory(gpu, half=False)
    assert find_op("Conv2D", memory) is GpuBufferConv2D
    assert find_op("DepthwiseConv2d", memory) is GpuBufferDepthwiseConv2d
    assert find_op("Reduce", memory) is GpuBufferReduce


def test_pieces_of_an_arena_do_not_overlap(gpu: Gpu) -> None:
    made: list[cl.Buffer] = []

    def allocate(size_bytes: int) -> cl.Buffer:
        made.append(cl.Buffer(gpu.device.context, cl.mem_flags.READ_WRITE, size_bytes))
        return made[-1]

    alignment = gpu.device.device.mem_base_addr_align // 8
    arena = Arena(allocate, alignment, 16 * alignment)
    sizes = (alignment + 4, 4, 7 * alignment, 7 * alignment, 9 * alignment)
    pieces = [arena.allocate(size) for size in sizes]
    places = [place_of(piece) for piece in pieces]
    assert [piece.size for piece in pieces] == list(sizes)
    # the fourth does not fit any more, and the last is too large to share
    assert [chunk.int_ptr for chunk, _ in places] == [
        made[index].int_ptr for index in (0, 0, 0, 1, 2)
    ]
    assert [start // alignment for _, start in places] == [0, 2, 3, 0, 0]


_LIMITS = Limits(cache_bytes=1 << 20, compute_units=132, kwg_size=1024)
_SIZES = st.integers(1, 5000)


@given(gws=st.tuples(_SIZES, _SIZES, st.just(1)), terms=_SIZES, kwg=st.integers(1, 1024))
def test_local_sizes_fit_the_kernel(gws: tuple[int, int, int], terms: int, kwg: int) -> None:
    limits = replace(_LIMITS, kwg_size=kwg)
    for rule in (shared_sums(terms), depthwise_rule):
        across, down, last, block = rule(gws, limits)
        assert 1 <= across * down * last <= kwg
        assert block == 0
    for across, down, last, block in shared_sum_choices(gws, kwg):
        assert 1 <= across * down * last <= kwg
        assert block == 0


def test_small_layers_share_out_their_sums() -> None:
    """The last layers of mobile nets have few outputs and long sums; the first the other way."""
    assert shared_sums(288)((48, 13, 1), _LIMITS) == (4, 1, 32, 0)
    assert shared_sums(4)((24, 3136, 1), _LIMITS) == (8, 16, 1, 0)
    assert shared_sums(320)((250, 1, 1), _LIMITS) == (2, 1, 64, 0)
