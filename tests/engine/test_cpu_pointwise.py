"""The CPU's ops that work value by value or over an axis, against numpy and onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from cpu_harness import AUTO, NCHW, Values, close, cpu_op, noise, onnx_node, to_nchw, to_nhwc
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import EngineError
from droidmace.formats.netdef import DataType


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("NOOP", {}, lambda x: x),
        ("RELU", {}, lambda x: np.maximum(x, 0)),
        ("RELUX", {"max_limit": 1.5}, lambda x: np.clip(x, 0, 1.5)),
        ("TANH", {}, np.tanh),
        ("SIGMOID", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("LEAKYRELU", {"activation_coefficient": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x)),
        ("ELU", {"activation_coefficient": 1.5}, lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
        (
            "HARDSIGMOID",
            {"hardsigmoid_alpha": 0.2, "hardsigmoid_beta": 0.5},
            lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        ),
    ],
)
def test_activation(
    name: str, arguments: dict[str, float], expected: Callable[[Values], Values]
) -> None:
    x = 4 * noise(1, 2, 3, 4, 5)
    before = x.copy()
    (y,) = cpu_op("Activation", [x], activation=name, **arguments)
    close(y, expected(x).astype(np.float32))
    np.testing.assert_array_equal(x, before)


def test_extreme_values_stay_what_they_are() -> None:
    x = np.array([[[[-np.inf, np.inf, np.nan, -1e38]]]], np.float32)
    (y,) = cpu_op("Activation", [x], activation="SIGMOID")
    np.testing.assert_array_equal(y.ravel(), [0, 1, np.nan, 0])


@pytest.mark.parametrize("order", [AUTO, NCHW])
def test_prelu_has_a_slope_per_channel(order: int) -> None:
    x, slope = noise(1, 1, 3, 4, 5), noise(2, 5)
    (y,) = cpu_op("Activation", [x, slope], activation="PRELU", data_format=order)
    close(y, np.where(x > 0, x, slope * x))


_ARITHMETIC: dict[int, Callable[[Values, Values], Values]] = {
    0: np.add,
    1: np.subtract,
    2: np.multiply,
    3: np.divide,
    4: np.minimum,
    5: np.maximum,
    8: lambda a, b: (a - b) ** 2,
    9: np.power,
    10: lambda a, b: (a == b).astype(np.int32),
    11: lambda a, b: np.floor(a / b),
    15: lambda a, b: (a != b).astype(np.int32),
}
_IMAGE = (2, 3, 4, 5)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(_ARITHMETIC)),
    small=st.tuples(*(st.sampled_from([1, size]) for size in _IMAGE)),
    swapped=st.booleans(),
    constant=st.booleans(),
)
def test_eltwise_spreads_images(
    kind: int, small: tuple[int, ...], swapped: bool, constant: bool
) -> None:
    """In NHWC; a constant image lies as NCHW in the file."""
    values = [np.abs(noise(1, *_IMAGE)) + 0.5, np.abs(noise(2, *small)) + 0.5]
    if swapped:
        values.reverse()
    expected = _ARITHMETIC[kind](values[0], values[1])
    if constant:
        values[1] = to_nchw(values[1])
    (y,) = cpu_op(
        "Eltwise",
        values,
        constants=(1,) if constant else (),
        type=kind,
        data_format=AUTO,
        has_data_format=1,
    )
    close(y, expected)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 9])
def test_eltwise_with_a_vector_or_a_number(kind: int) -> None:
    x, vector = np.abs(noise(1, *_IMAGE)), np.abs(noise(2, 5)) + 1
    apply = _ARITHMETIC[kind]
    auto = {"data_format": AUTO, "has_data_format": 1}
    close(cpu_op("Eltwise", [x, vector], type=kind, **auto)[0], apply(x, vector))
    close(cpu_op("Eltwise", [vector, x], constants=(0,), type=kind, **auto)[0], apply(vector, x))
    close(cpu_op("Eltwise", [x], type=kind, scalar_input=1.5)[0], apply(x, np.float32(1.5)))
    first = cpu_op("Eltwise", [x], type=kind, scalar_input=1.5, scalar_input_index=0)
    close(first[0], apply(np.float32(1.5), x))


def test_eltwise_of_one_operand() -> None:
    x = noise(1, *_IMAGE)
    close(cpu_op("Eltwise", [x], type=6)[0], -x)
    close(cpu_op("Eltwise", [x], type=7)[0], np.abs(x))
    close(cpu_op("Eltwise", [x], type=12, coeff=(-0.5, 0.25))[0], np.clip(x, -0.5, 0.25))
    close(cpu_op("Eltwise", [x], type=13)[0], np.sign(x))
    weighted = cpu_op("Eltwise", [x, 2 * x], constants=(), type=0, coeff=(0.5, -1.0))
    close(weighted[0], -1.5 * x)


def test_eltwise_of_caffe_spreads_a_matrix_over_pixels() -> None:
    """Without ``has_data_format``: [N, C] against [N, C, H, W]."""
    x, scale = noise(1, 2, 3, 4, 5), noise(2, 2, 3)
    (y,) = cpu_op("Eltwise", [to_nhwc(x), scale], constants=(), type=2, data_format=AUTO)
    close(to_nchw(y), x * scale[:, :, None, None])


def test_integers_stay_integers() -> None:
    a, b = np.array([7, -7, 9], np.int32), np.array([2, 2, 3], np.int32)
    assert cpu_op("Eltwise", [a, b], type=3)[0].tolist() == [3, -3, 3]
    assert cpu_op("Eltwise", [a, b], type=11)[0].tolist() == [3, -4, 3]
    (half,) = cpu_op("Eltwise", [a], type=2, scalar_input=2.0)
    assert half.dtype == np.int32
    assert half.tolist() == [14, -14, 18]
    assert cpu_op("Cast", [a], output_type=DataType.DT_FLOAT)[0].dtype == np.float32
    (whole,) = cpu_op("Cast", [np.array([1.7, -1.7], np.float32)], output_type=DataType.DT_INT32)
    assert whole.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("order", "axis", "nhwc_axis"), [(AUTO, 1, 3), (AUTO, -1, 2), (NCHW, 1, 3), (NCHW, 3, 2)]
)
@pytest.mark.parametrize("log", [0, 1])
def test_softmax_of_an_image(order: int, axis: int, nhwc_axis: int, log: int) -> None:
    """Over the channels if the axis is 1, else over what MACE's CPU holds last."""
    x = noise(1, 2, 3, 4, 5)
    (y,) = cpu_op(
        "Softmax",
        [x],
        axis=axis,
        use_log=log,
        data_format=order,
        has_data_format=int(order == AUTO),
    )
    kind = "LogSoftmax" if log else "Softmax"
    close(y, onnx_node(kind, [x], {"axis": nhwc_axis})[0])


def test_softmax_of_a_matrix() -> None:
    x = 50 * noise(1, 3, 7)
    close(cpu_op("Softmax", [x], axis=1, data_format=AUTO)[0], onnx_node("Softmax", [x])[0])


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(1, 2), (3,), (-1,), (0, 1, 2, 3), ()])
def test_reduce(kind: int, keepdims: int, axes: tuple[int, ...]) -> None:
    x = noise(1, 2, 3, 4, 5)
    (y,) = cpu_op("Reduce", [x], reduce_type=kind, axis=axes, keepdims=keepdims)
    reduction = (np.mean, np.min, np.max, np.prod, np.sum)[kind]
    close(y, np.asarray(reduction(x, axis=axes or None, keepdims=bool(keepdims))))


@pytest.mark.parametrize("axes", [(2, 3), (1,), (-1,)])
def test_reduce_counts_nchw_where_the_op_says_so(axes: tuple[int, ...]) -> None:
    x = noise(1, 2, 3, 4, 5)
    (y,) = cpu_op("Reduce", [to_nhwc(x)], axis=axes, data_format=NCHW)
    close(y, x.mean(axis=axes))


@pytest.mark.parametrize(
    ("exclusive", "reverse", "axis"), list(itertools.product((0, 1), (0, 1), (0, 2, -1)))
)
def test_cumsum(exclusive: int, reverse: int, axis: int) -> None:
    x = noise(1, 2, 3, 4)
    (y,) = cpu_op("Cumsum", [x], axis=axis, exclusive=exclusive, reverse=reverse)
    attributes = {"exclusive": exclusive, "reverse": reverse}
    close(y, onnx_node("CumSum", [x, np.array(axis, np.int64)], attributes)[0])


@pytest.mark.parametrize("smallest", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arg_max(smallest: int, keepdims: int, axis: int) -> None:
    x = noise(1, 3, 4, 5)
    (y,) = cpu_op("ArgMax", [x], axis=axis, argmin=smallest, keepdims=keepdims, framework_type=2)
    kind = "ArgMin" if smallest else "ArgMax"
    (expected,) = onnx_node(kind, [x], {"axis": axis, "keepdims": keepdims})
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, expected)


def test_arg_max_of_several() -> None:
    x = np.array([[3, 1, 4, 1, 5]], np.float32)
    assert cpu_op("ArgMax", [x], axis=1, top_k=3)[0].tolist() == [[4, 2, 0]]
    assert cpu_op("ArgMax", [x], axis=1, top_k=2, out_val=1)[0].tolist() == [[5, 4]]
    (y,) = cpu_op("ArgMax", [x[..., None]], framework_type=1, top_k=2, out_val=1)
    assert y.tolist() == [[[4, 2], [5, 4]]]


def test_equal_values() -> None:
    """MACE sorts pairs of value and place, so of equal ones the last is the largest."""
    x = np.array([[2, 7, 7, 2]], np.float32)
    assert cpu_op("ArgMax", [x], axis=1)[0].tolist() == [[2]]
    assert cpu_op("ArgMax", [x], axis=1, argmin=1)[0].tolist() == [[0]]


@pytest.mark.parametrize("activation", ["NOOP", "RELU"])
def test_batch_norm(activation: str) -> None:
    x, scale, offset, mean = noise(1, 2, 3, 4, 5), noise(2, 5), noise(3, 5), noise(4, 5)
    variance = np.abs(noise(5, 5)) + 0.1
    parts = [to_nchw(x), scale, offset, mean, variance]
    expected = to_nhwc(onnx_node("BatchNormalization", parts, {"epsilon": 1e-3})[0])
    if activation == "RELU":
        expected = np.maximum(expected, 0)
    arguments = {"activation": activation, "epsilon": 1e-3}
    close(cpu_op("BatchNorm", [x, *parts[1:]], **arguments)[0], expected)
    folded = scale / np.sqrt(variance + np.float32(1e-3))
    close(cpu_op("BatchNorm", [x, folded, offset - mean * folded], **arguments)[0], expected)


def test_normalizations() -> None:
    x, scale, offset = noise(1, 2, 3, 4, 6), noise(2, 6), noise(3, 6)
    parts = [to_nchw(x), scale, offset]
    expected = to_nhwc(onnx_node("InstanceNormalization", parts, {"epsilon": 1e-3})[0])
    close(cpu_op("InstanceNorm", [x, scale, offset], affine=1, epsilon=1e-3)[0], expected)
    whole = cpu_op("GroupNorm", [x], group_num=6, epsilon=1e-3)[0]
    close(cpu_op("InstanceNorm", [x], epsilon=1e-3)[0], whole)
    centred = x - x.mean(axis=(1, 2, 3), keepdims=True)
    close(cpu_op("MVNorm", [x], across_channels=1, normalize_variance=0)[0], centred)
    close(
        cpu_op("MVNorm", [x], across_channels=1)[0],
        centred / x.std(axis=(1, 2, 3), keepdims=True),
    )
    close(
        cpu_op("GroupNorm", [x], group_num=1, epsilon=0.0)[0],
        cpu_op("MVNorm", [x], across_channels=1)[0],
    )


@pytest.mark.parametrize("power", [1, 2])
def test_lp_norm_sums_over_all_axes_behind(power: int) -> None:
    x = noise(1, 2, 3, 4)
    (y,) = cpu_op("LpNorm", [x], p=power, axis=1)
    norm = np.abs(x).sum(axis=(1, 2), keepdims=True)
    close(y, x / (norm if power == 1 else np.sqrt((x**2).sum(axis=(1, 2), keepdims=True))))


@pytest.mark.parametrize("radius", [0, 1, 2, 9])
def test_local_response_norm(radius: int) -> None:
    x = noise(1, 1, 2, 3, 6)
    (y,) = cpu_op("LocalResponseNorm", [x], depth_radius=radius, alpha=0.3, beta=0.7, bias=2.0)
    size = 2 * radius + 1
    attributes = {"size": size, "alpha": 0.3 * size, "beta": 0.7, "bias": 2.0}
    close(y, to_nhwc(onnx_node("LRN", [to_nchw(x)], attributes)[0]))


def test_sums_and_choices() -> None:
    x, y = noise(1, 2, 3, 4, 5), noise(2, 2, 3, 4, 5)
    close(cpu_op("AddN", [x, y, x], constants=())[0], 2 * x + y)
    close(cpu_op("BiasAdd", [x, noise(3, 5)], data_format=NCHW)[0], x + noise(3, 5))
    condition = (x > 0).astype(np.int32)
    close(cpu_op("Where", [condition, x, y], constants=())[0], np.where(x > 0, x, y))
    rows = np.array([1, 0], np.int32)
    (picked,) = cpu_op("Select", [rows, x[:, 0, 0], y[:, 0, 0]], constants=())
    close(picked, np.stack([x[0, 0, 0], y[1, 0, 0]]))
    distance = cpu_op("SqrDiffMean", [x, x.mean(axis=(1, 2), keepdims=True)], constants=())[0]
    close(distance, x.var(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize(
    ("kind", "shapes", "arguments", "words"),
    [
        ("Eltwise", [(1, 2), (1, 3)], {"type": 0}, "inputs \\[1, 2\\], \\[1, 3\\]"),
        ("Eltwise", [(1, 2)], {"type": 14}, "eltwise type 14"),
        ("Eltwise", [(1, 2)], {"type": 12, "coeff": (1.0, 0.0)}, "limits"),
        ("Activation", [(1, 2)], {"activation": "SWISH"}, "SWISH"),
        ("Reduce", [(1, 2)], {"axis": (2,)}, "axis 2 of 2"),
        ("Reduce", [(1, 2)], {"reduce_type": 7}, "reduce type 7"),
        ("BatchNorm", [(1, 2, 2, 3), (3,), (4,)], {}, "'i2' has the shape \\[4\\]"),
        ("GroupNorm", [(1, 2, 2, 3)], {"group_num": 2}, "group_num 2"),
        ("ArgMax", [(1, 2)], {"axis": 1, "top_k": 3}, "top_k 3"),
        ("LpNorm", [(1, 2)], {"p": 3}, "p 3"),
        ("LSTMCell", [(1, 2)], {}, "no such op"),
    ],
)
def test_refusals_name_the_op(
    kind: str, shapes: list[tuple[int, ...]], arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(EngineError, match=f"'the_op' \\({kind}\\).*{words}"):
        cpu_op(kind, [np.ones(shape, np.float32) for shape in shapes], **arguments)  # type: ignore[arg-type]
