"""Ops that change values where they stand, and normalisations, against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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


_ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("Elu", {"alpha": 0.5}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("HardSwish", {"opset": 14}),
    ("Abs", {}),
    ("Neg", {}),
    ("Sign", {}),
]


@pytest.mark.parametrize(("op_type", "attributes"), _ACTIVATIONS, ids=str)
def test_activation(gpu: Gpu, op_type: str, attributes: dict[str, Any]) -> None:
    check(gpu, op_type, {"x": 3 * floats(2, 7, 3, 5)}, **attributes)


@SETTINGS
@given(shape=images())
def test_slope_per_channel(gpu: Gpu, shape: Shape) -> None:
    slopes = floats(shape[1], 1, 1)
    check(gpu, "PRelu", {"x": floats(*shape)}, {"slope": slopes}, mace_ops=("Activation",))


@SETTINGS
@given(shape=images(), limits=st.tuples(st.floats(-1, 0), st.floats(0.25, 1)))
def test_clip(gpu: Gpu, shape: Shape, limits: tuple[float, float]) -> None:
    low, high = map(np.float32, limits)
    check(gpu, "Clip", {"x": floats(*shape)}, {"low": low, "high": high})


@st.composite
def _spread(draw: st.DrawFn) -> tuple[Shape, Shape]:
    """Two shapes that go together, either one spread over some axes of the other."""
    shape = draw(images())
    return tuple(
        tuple(1 if draw(st.booleans()) and draw(st.booleans()) else size for size in shape)
        for _ in "ab"
    )  # type: ignore[return-value]


@SETTINGS
@given(
    shapes=_spread(), op_type=st.sampled_from(["Add", "Sub", "Mul", "Div"]), constant=st.booleans()
)
def test_arithmetic_of_two(
    gpu: Gpu, shapes: tuple[Shape, Shape], op_type: str, constant: bool
) -> None:
    a, b = floats(*shapes[0]), np.abs(floats(*shapes[1], seed=1)) + np.float32(0.5)
    # in turn the first or the second is a constant of the model
    if constant:
        check(gpu, op_type, {"b": b}, {"a": a}, order=("a", "b"))
        check(gpu, op_type, {"a": a}, {"b": b})
    else:
        check(gpu, op_type, {"a": a, "b": b}, mace_ops=("Eltwise",))


@SETTINGS
@given(shapes=_spread(), op_type=st.sampled_from(["Max", "Min"]))
def test_extremes_of_two(gpu: Gpu, shapes: tuple[Shape, Shape], op_type: str) -> None:
    a, b = floats(*shapes[0]), floats(*shapes[1], seed=1)
    check(gpu, op_type, {"a": a, "b": b}, mace_ops=("Eltwise",))


@SETTINGS
@given(shape=images(), count=st.integers(2, 5))
def test_sum_of_many(gpu: Gpu, shape: Shape, count: int) -> None:
    check(gpu, "Sum", {f"x{i}": floats(*shape, seed=i) for i in range(count)})


@SETTINGS
@given(shape=images(), value=st.floats(0.5, 2), op_type=st.sampled_from(["Add", "Sub", "Div"]))
def test_arithmetic_with_a_number(gpu: Gpu, shape: Shape, value: float, op_type: str) -> None:
    positive = np.abs(floats(*shape)) + np.float32(0.5)
    number = {"s": np.float32(value)}
    check(gpu, op_type, {"x": positive}, number)
    check(gpu, op_type, {"x": positive}, number, order=("s", "x"))


@SETTINGS
@given(shape=images())
def test_batch_normalization(gpu: Gpu, shape: Shape) -> None:
    channels = shape[1]
    moments = {name: floats(channels, seed=i) for i, name in enumerate(("scale", "bias", "mean"))}
    variance = np.abs(floats(channels, seed=3)) + np.float32(0.1)
    check(
        gpu,
        "BatchNormalization",
        {"x": floats(*shape)},
        {**moments, "variance": variance},
        epsilon=1e-3,
    )


@SETTINGS
@given(batch=st.integers(1, 2), channels=CHANNELS, height=st.integers(1, 19))
def test_instance_normalization(gpu: Gpu, batch: int, channels: int, height: int) -> None:
    """Rows enough for one stage of sums or two."""
    check(
        gpu,
        "InstanceNormalization",
        {"x": floats(batch, channels, height, 5)},
        {"scale": floats(channels), "bias": floats(channels, seed=1)},
        epsilon=1e-2,
        tolerance=3e-4,
    )


@SETTINGS
@given(shape=images())
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_softmax_over_channels(gpu: Gpu, shape: Shape, op_type: str) -> None:
    """Values so large that their exponentials are infinite unless the largest is taken off."""
    check(gpu, op_type, {"x": 90 + 5 * floats(*shape)}, axis=1)


@SETTINGS
@given(rows=st.integers(1, 5), columns=st.integers(1, 11))
def test_softmax_of_a_matrix(gpu: Gpu, rows: int, columns: int) -> None:
    check(gpu, "Softmax", {"x": floats(rows, columns)}, axis=1, mace_ops=("Softmax",))
