"""Ops that no ONNX node becomes one to one, on the GPU runtime against the CPU's; and 16 bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from engine_harness import DRIVERS, LogReader
from engine_models import Array, in_memory, model, op
from hypothesis import given
from hypothesis import strategies as st
from onnx_oracle import CHANNELS, MEMORIES, SETTINGS, SIZES, compare, floats, make_engine

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.model import Model
from droidmace.engine.opencl.runtime import Gpu
from droidmace.formats.netdef import DataType, OperatorDef

Shape = tuple[int, ...]
_IMAGES = st.tuples(st.integers(1, 2), SIZES, SIZES, CHANNELS)
"""NHWC shapes."""
_HALF_TOLERANCE = 4e-3


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


def _agree(
    gpu: Gpu,
    layer: OperatorDef,
    inputs: dict[str, Array],
    constants: dict[str, Any] | None = None,
    *,
    tolerance: float = 1e-4,
) -> None:
    """The op on the GPU, in either memory, and in numpy."""
    shapes = {name: value.shape for name, value in inputs.items()}
    made = model([layer], shapes, layer.outputs, constants)
    _compare(gpu, made, inputs, tolerance)


def _compare(gpu: Gpu, made: Model, inputs: dict[str, Array], tolerance: float) -> None:
    wanted = CpuNet(made, gpu.log).run(inputs)
    for memory in MEMORIES:
        found = GpuNet(in_memory(made, memory), gpu).run(inputs)
        for name, values in wanted.items():
            assert found[name].shape == values.shape
            compare(found[name], values, tolerance, memory.name)


@SETTINGS
@given(
    groups=st.integers(1, 4), size=st.integers(1, 3), pixels=st.tuples(st.integers(1, 19), SIZES)
)
def test_normalization_over_groups(
    gpu: Gpu, groups: int, size: int, pixels: tuple[int, int]
) -> None:
    x = {"x": 2 + floats(2, *pixels, groups * size)}
    group_norm = op("GroupNorm", ["x"], "y", group_num=groups, epsilon=1e-2)
    _agree(gpu, group_norm, x, tolerance=5e-4)
    for across in (0, 1):
        mvn = op("MVNorm", ["x"], "y", across_channels=across, epsilon=0.1)
        _agree(gpu, mvn, x, tolerance=5e-4)


@SETTINGS
@given(shape=_IMAGES, axis=st.integers(1, 2), power=st.integers(1, 2))
def test_division_by_a_norm(gpu: Gpu, shape: Shape, axis: int, power: int) -> None:
    x = {"x": floats(*shape) + 2}
    _agree(gpu, op("LpNorm", ["x"], "y", axis=axis, p=power, data_format=2), x)


@SETTINGS
@given(shape=_IMAGES)
def test_mean_of_squared_distances(gpu: Gpu, shape: Shape) -> None:
    inputs = {"x": floats(*shape), "m": floats(shape[0], 1, 1, shape[3], seed=1)}
    _agree(gpu, op("SqrDiffMean", ["x", "m"], "y"), inputs)


@SETTINGS
@given(shape=_IMAGES, count=st.integers(1, 6))
def test_sum_of_tensors(gpu: Gpu, shape: Shape, count: int) -> None:
    inputs = {f"x{index}": floats(*shape, seed=index) for index in range(count)}
    _agree(gpu, op("AddN", list(inputs), "y"), inputs)


@SETTINGS
@given(groups=st.integers(1, 5), per_group=st.integers(1, 5), pixels=st.tuples(SIZES, SIZES))
def test_channel_shuffle(gpu: Gpu, groups: int, per_group: int, pixels: tuple[int, int]) -> None:
    x = {"x": floats(2, *pixels, groups * per_group)}
    _agree(gpu, op("ChannelShuffle", ["x"], "y", group=groups), x, tolerance=0)


@SETTINGS
@given(shape=_IMAGES, data=st.data())
def test_crop(gpu: Gpu, shape: Shape, data: st.DataObject) -> None:
    offsets = [data.draw(st.integers(-1, size - 1)) for size in shape]
    sizes = [
        data.draw(st.integers(1, size - max(at, 0)))
        for size, at in zip(shape, offsets, strict=True)
    ]
    inputs = {"x": floats(*shape), "like": floats(*sizes)}
    _agree(gpu, op("Crop", ["x", "like"], "y", offset=offsets), inputs, tolerance=0)


@SETTINGS
@given(shape=_IMAGES, steps=st.tuples(*[st.sampled_from([-2, -1, 1, 2])] * 4))
def test_slices_that_run_backwards(gpu: Gpu, shape: Shape, steps: Shape) -> None:
    begins = [0 if step > 0 else size - 1 for size, step in zip(shape, steps, strict=True)]
    ends = [size if step > 0 else -size - 1 for size, step in zip(shape, steps, strict=True)]
    constants = {
        name: np.array(values, np.int32)
        for name, values in (("begins", begins), ("ends", ends), ("steps", steps))
    }
    layer = op("StridedSlice", ["x", *constants], "y")
    _agree(gpu, layer, {"x": floats(*shape)}, constants, tolerance=0)


@SETTINGS
@given(
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    tiles=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    edges=st.tuples(*[st.integers(0, 2)] * 4),
    channels=CHANNELS,
)
def test_blocks_of_pixels_against_images(
    gpu: Gpu, block: tuple[int, int], tiles: tuple[int, int], edges: Shape, channels: int
) -> None:
    edges = tuple(min(edge, block[i // 2] - 1) for i, edge in enumerate(edges))
    size = [tiles[i] * block[i] - edges[2 * i] - edges[2 * i + 1] for i in (0, 1)]
    there = op("SpaceToBatchND", ["x"], "y", block_shape=block, paddings=edges)
    _agree(gpu, there, {"x": floats(2, *size, channels)}, tolerance=0)
    back = op("BatchToSpaceND", ["x"], "y", block_shape=block, crops=edges)
    images = floats(2 * block[0] * block[1], *tiles, channels)
    _agree(gpu, back, {"x": images}, tolerance=0)


@pytest.mark.parametrize("mode", [0, 1, 2])
@SETTINGS
@given(shape=_IMAGES, size=st.tuples(SIZES, SIZES), align=st.booleans())
def test_bicubic_resize(
    gpu: Gpu, shape: Shape, size: tuple[int, int], align: bool, mode: int
) -> None:
    """Fractions of a pixel are rounded to 1/1024: a tie may fall either way."""
    layer = op(
        "ResizeBicubic",
        ["x"],
        "y",
        size=size,
        align_corners=int(align),
        coordinate_transformation_mode=mode,
    )
    _agree(gpu, layer, {"x": floats(*shape)}, tolerance=3e-3)


@pytest.mark.parametrize("kind", [1, 2])
def test_mirrored_edges_of_every_axis(gpu: Gpu, kind: int) -> None:
    layer = op("Pad", ["x"], "y", paddings=(1, 0, 2, 1, 0, 3, 2, 1), pad_type=kind)
    _agree(gpu, layer, {"x": floats(3, 4, 5, 6)}, tolerance=0)


@pytest.mark.parametrize("padding", [0, 1])
def test_transposed_convolution_that_says_its_size(gpu: Gpu, padding: int) -> None:
    """TensorFlow's way: the output's shape is an input, the bias comes after it."""
    shape = (1, 8, 10, 7) if padding else (1, 9, 11, 7)
    layer = op(
        "Deconv2D",
        ["x", "w", "shape", "b"],
        "y",
        strides=(2, 2),
        padding=padding,
        framework_type=0,
    )
    constants = {"w": floats(7, 6, 3, 3), "shape": np.array(shape, np.int32), "b": floats(7)}
    _agree(gpu, layer, {"x": floats(1, 4, 5, 6)}, constants)


@SETTINGS
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    paddings=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    kind=st.integers(1, 2),
    channels=CHANNELS,
)
def test_dilated_pooling(
    gpu: Gpu,
    kernel: tuple[int, int],
    dilations: tuple[int, int],
    paddings: tuple[int, int],
    kind: int,
    channels: int,
) -> None:
    layer = op(
        "Pooling",
        ["x"],
        "y",
        pooling_type=kind,
        kernels=kernel,
        strides=(2, 1),
        dilations=dilations,
        padding_values=[min(pad, size - 1) for pad, size in zip(paddings, kernel, strict=True)],
        round_mode=0,
    )
    _agree(gpu, layer, {"x": floats(2, 8, 7, channels) - 2})


def _outputs(layer: OperatorDef, names: Sequence[str]) -> OperatorDef:
    return dataclasses.replace(layer, outputs=tuple(names))


def test_a_tensor_of_which_only_a_part_is_used(gpu: Gpu) -> None:
    """Parts that nothing reads need memory of their own as long as they are written."""
    split = _outputs(op("Split", ["x"], "a", axis=3), ["a", "b", "c"])
    join = op("Concat", ["c", "a"], "y", axis=3)
    made = model([split, join], {"x": (1, 3, 4, 15)}, ["y"])
    _compare(gpu, made, {"x": floats(1, 3, 4, 15)}, 0)


_HALF_OPS: list[tuple[OperatorDef, Shape, dict[str, Shape]]] = [
    (
        op("Conv2D", ["x", "w", "b"], "y", group=2, strides=(1, 1), padding_values=(2, 2)),
        (1, 5, 6, 6),
        {"w": (4, 3, 3, 3), "b": (4,)},
    ),
    (
        op("Deconv2D", ["x", "w"], "y", strides=(2, 2), padding_values=(1, 1), framework_type=2),
        (1, 4, 5, 6),
        {"w": (5, 6, 3, 3)},
    ),
    (op("Reduce", ["x"], "y", axis=(1, 2), keepdims=1), (1, 300, 40, 6), {}),
    (op("InstanceNorm", ["x"], "y", epsilon=0.1), (1, 20, 30, 5), {}),
    (op("ResizeBilinear", ["x"], "y", size=(9, 7)), (1, 4, 5, 6), {}),
    (op("Transpose", ["x"], "y", dims=(0, 3, 1, 2)), (1, 4, 5, 6), {}),
    (op("Eltwise", ["x", "k"], "y", type=2), (1, 4, 5, 6), {"k": (6,)}),
    (op("Softmax", ["x"], "y"), (1, 4, 5, 6), {}),
]


@pytest.mark.parametrize(
    ("layer", "shape", "constants"), _HALF_OPS, ids=[layer.type for layer, *_ in _HALF_OPS]
)
def test_tensors_of_16_bits(
    gpu: Gpu, layer: OperatorDef, shape: Shape, constants: dict[str, Shape]
) -> None:
    """Rounded when they are stored, not while they are computed: no sum may overflow."""
    x = {"x": 20 + floats(*shape)}
    values = {name: floats(*sizes).astype(np.float16) for name, sizes in constants.items()}
    made = model([layer], {"x": shape}, ["y"], values, data_type=DataType.DT_HALF)
    _compare(gpu, made, x, _HALF_TOLERANCE * (20 if layer.type == "InstanceNorm" else 1))
