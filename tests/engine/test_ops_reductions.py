"""Reductions and products of matrices against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from engine_harness import DRIVERS, LogReader
from hypothesis import given
from hypothesis import strategies as st
from onnx_oracle import CHANNELS, SETTINGS, check, floats, images, make_engine

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


@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax"])
@SETTINGS
@given(
    shape=images(),
    axes=st.sampled_from([(1,), (3,), (2, 3), (0, 3), (1, 2, 3), (0, 1, 2, 3)]),
    keepdims=st.booleans(),
    tall=st.sampled_from([0, 0, 30]),
)
def test_reduction(
    gpu: Gpu, shape: Shape, axes: Shape, keepdims: bool, tall: int, op_type: str
) -> None:
    """Over any axes; of images so tall that their sums take two stages, too."""
    batch, channels, height, width = shape
    x = floats(batch, channels, height + tall, width) - 3
    check(
        gpu,
        op_type,
        {"x": x},
        axes=axes,
        keepdims=int(keepdims),
        tolerance=3e-4,
    )


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("channels", [3, 8])
def test_other_reductions(gpu: Gpu, op_type: str, channels: int) -> None:
    """Values near 1, for a product of many to stay in range; no extreme is what it starts from."""
    x = 1 + floats(2, channels, 5, 18) / 10
    axes = {"constants": {"axes": np.array([2, 3])}} if op_type == "ReduceSum" else {"axes": [2, 3]}
    check(gpu, op_type, {"x": x}, tolerance=3e-4, **axes)  # type: ignore[arg-type]
    over_channels = {"axes": [1]}
    if op_type != "ReduceSum":
        check(gpu, op_type, {"x": x}, **over_channels)  # type: ignore[arg-type]


@SETTINGS
@given(shape=images(), op_type=st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"]))
def test_global_pooling(gpu: Gpu, shape: Shape, op_type: str) -> None:
    check(gpu, op_type, {"x": floats(*shape)})


@SETTINGS
@given(rows=st.integers(1, 3), inputs=CHANNELS, outputs=CHANNELS, turned=st.booleans())
def test_linear_layer(gpu: Gpu, rows: int, inputs: int, outputs: int, turned: bool) -> None:
    shape = (outputs, inputs) if turned else (inputs, outputs)
    constants = {"w": floats(*shape), "b": floats(outputs)}
    check(gpu, "Gemm", {"x": floats(rows, inputs)}, constants, transB=int(turned))


@SETTINGS
@given(sizes=st.tuples(*[st.integers(1, 6)] * 5))
def test_product_of_matrices(gpu: Gpu, sizes: Shape) -> None:
    """On the CPU, in the middle of a GPU net: MACE's GPU runtime has none either."""
    batch, heads, rows, inner, columns = sizes
    check(
        gpu,
        "MatMul",
        {"a": floats(batch, heads, rows, inner), "b": floats(batch, heads, inner, columns)},
    )
