"""Ops that move values, and those that resize images, against onnxruntime."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from engine_harness import DRIVERS, LogReader
from hypothesis import given
from hypothesis import strategies as st
from onnx_oracle import CHANNELS, SETTINGS, SIZES, check, floats, images, make_engine

from droidmace.engine.opencl.runtime import Gpu

Shape = tuple[int, ...]


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


def _whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@SETTINGS
@given(shape=images(), axis=st.integers(0, 3), sizes=st.lists(CHANNELS, min_size=1, max_size=6))
def test_concatenation(gpu: Gpu, shape: Shape, axis: int, sizes: list[int]) -> None:
    """Several inputs may share a block of four channels."""
    inputs = {
        f"x{index}": floats(*shape[:axis], size, *shape[axis + 1 :], seed=index)
        for index, size in enumerate(sizes)
    }
    check(gpu, "Concat", inputs, axis=axis)


@SETTINGS
@given(
    shape=images(),
    axis=st.integers(0, 3),
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
)
def test_split(gpu: Gpu, shape: Shape, axis: int, sizes: list[int]) -> None:
    whole = (*shape[:axis], sum(sizes), *shape[axis + 1 :])
    check(
        gpu,
        "Split",
        {"x": floats(*whole)},
        {"sizes": _whole(*sizes)},
        axis=axis,
        outputs=len(sizes),
    )


@SETTINGS
@given(shape=images(), data=st.data())
def test_slice(gpu: Gpu, shape: Shape, data: st.DataObject) -> None:
    """Steps forwards, from either end."""
    begins, ends, steps = [], [], []
    for size in shape:
        begin = data.draw(st.integers(0, size - 1))
        end = data.draw(st.integers(begin + 1, size))
        begins.append(data.draw(st.sampled_from([begin, begin - size])))
        ends.append(data.draw(st.sampled_from([end, end + 7])) if end == size else end)
        steps.append(data.draw(st.integers(1, 3)))
    bounds = {
        "begins": _whole(*begins),
        "ends": _whole(*ends),
        "axes": _whole(0, 1, 2, 3),
        "steps": _whole(*steps),
    }
    check(gpu, "Slice", {"x": floats(*shape)}, bounds)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[1::3], ids=str)
def test_transpose(gpu: Gpu, order: Shape) -> None:
    check(gpu, "Transpose", {"x": floats(2, 5, 3, 6)}, perm=list(order))


@SETTINGS
@given(rows=st.integers(1, 6), columns=st.integers(1, 11))
def test_transpose_of_a_matrix(gpu: Gpu, rows: int, columns: int) -> None:
    check(gpu, "Transpose", {"x": floats(rows, columns)}, perm=[1, 0])


@SETTINGS
@given(factors=st.tuples(*[st.integers(1, 4)] * 6), rank=st.integers(1, 4))
def test_reshape(gpu: Gpu, factors: Shape, rank: int) -> None:
    """The same values counted channel by channel, whatever the ranks."""
    a, b, c, d, e, f = factors
    target = {
        1: (math.prod(factors),),
        2: (a * b, c * d * e * f),
        3: (a, b * c, d * e * f),
        4: (a * b, c, d * e, f),
    }[rank]
    x = floats(a, b * c, d, e * f)
    check(gpu, "Reshape", {"x": x}, {"target": _whole(*target)})


@SETTINGS
@given(groups=st.integers(1, 5), per_group=st.integers(1, 5), size=st.tuples(SIZES, SIZES))
def test_channels_against_pixels(
    gpu: Gpu, groups: int, per_group: int, size: tuple[int, int]
) -> None:
    channels = groups * per_group
    x = floats(2, channels * 4, *size)
    # MACE's GPU runtime has no blocks of other numbers
    runtime = "gpu" if channels <= 4 or channels % 4 == 0 else "cpu"
    for mode in ("DCR", "CRD"):
        check(gpu, "DepthToSpace", {"x": x}, blocksize=2, mode=mode, runtime=runtime)
    pixels = floats(1, groups, 2 * size[0], 2 * size[1])
    runtime = "cpu" if groups == 5 else "gpu"
    check(gpu, "SpaceToDepth", {"x": pixels}, blocksize=2, runtime=runtime)


@SETTINGS
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(3, 9), st.integers(3, 9), st.integers(3, 9)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    channels=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    mode=st.sampled_from(["constant", "reflect"]),
)
def test_pad(gpu: Gpu, shape: Shape, pads: Shape, channels: tuple[int, int], mode: str) -> None:
    top, left, bottom, right = pads
    constants = {"pads": _whole(0, channels[0], top, left, 0, channels[1], bottom, right)}
    if mode == "constant":
        constants["value"] = np.array(0.5, np.float32)
    # MACE's GPU runtime pads height and width only
    runtime = "cpu" if any(channels) else "gpu"
    check(gpu, "Pad", {"x": floats(*shape)}, constants, mode=mode, runtime=runtime)


_RESIZES = [
    ("nearest", "asymmetric"),
    ("linear", "asymmetric"),
    ("linear", "half_pixel"),
    ("linear", "pytorch_half_pixel"),
    ("linear", "align_corners"),
]


@pytest.mark.parametrize(("mode", "coordinates"), _RESIZES)
@SETTINGS
@given(shape=images(), size=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_resize(gpu: Gpu, shape: Shape, size: tuple[int, int], mode: str, coordinates: str) -> None:
    if mode == "nearest":  # only whole factors are the same to all who round
        size = (shape[2] * (size[0] % 3 + 1), shape[3] * (size[1] % 3 + 1))
    extra = {"nearest_mode": "floor"} if mode == "nearest" else {}
    check(
        gpu,
        "Resize",
        {"x": floats(*shape)},
        {"size": _whole(*shape[:2], *size)},
        order=("x", "", "", "size"),
        mode=mode,
        coordinate_transformation_mode=coordinates,
        **extra,
    )
