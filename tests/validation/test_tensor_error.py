"""What counts as a wrong tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.validation.tensor_error import (
    OP_LIMITS_FLOAT,
    OP_LIMITS_HALF,
    least_error,
    net_limits,
    op_limits,
    tensor_error,
)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(1, 4, 5, 6)).astype(np.float32)


def test_equal_tensors_have_no_error(values: np.ndarray) -> None:
    error = tensor_error(values, values.copy(), OP_LIMITS_HALF)
    assert (error.relative, error.peak, error.lost) == (0.0, 0.0, 0)
    assert math.isinf(error.sqnr_db)
    assert error.cosine == pytest.approx(1.0)


def test_figures_are_those_of_their_definitions(values: np.ndarray) -> None:
    other = values.copy()
    other[0, 1, 2, 3] += 2.0
    error = tensor_error(other, values, OP_LIMITS_HALF)
    assert error.relative == pytest.approx(2.0 / np.linalg.norm(values), rel=1e-5)
    assert error.peak == pytest.approx(2.0 / np.abs(values).max(), rel=1e-5)
    assert error.worst_index == (0, 1, 2, 3)
    assert error.worst_gpu - error.worst_cpu == pytest.approx(2.0, rel=1e-5)
    noise = np.sum((other - values) ** 2.0)
    assert error.sqnr_db == pytest.approx(10 * np.log10(np.sum(values**2.0) / noise), rel=1e-4)


def test_lost_elements_are_counted_and_named(values: np.ndarray) -> None:
    other = values.copy()
    other[0, 3, 4, 5], other[0, 3, 4, 4] = np.inf, np.nan
    other[0, 0, 0, 0] += 100
    error = tensor_error(other, values, OP_LIMITS_HALF)
    assert error.lost == 2
    assert error.worst_index == (0, 3, 4, 4)
    assert OP_LIMITS_HALF.exceeded(error)
    assert error.as_document()["worst_gpu"] == "nan"


def test_what_the_cpu_has_no_number_for_is_nobody_s_loss(values: np.ndarray) -> None:
    values[0, 0, 0, 0] = np.inf
    assert tensor_error(values, values, OP_LIMITS_HALF).lost == 0


def test_values_beyond_half_precision_are_counted(values: np.ndarray) -> None:
    values[0, 0, 0, :2] = 65505, -1e9
    error = tensor_error(values, values, OP_LIMITS_HALF)
    assert error.overflowing == 2
    assert error.cpu_peak == pytest.approx(1e9)


def test_noise_around_zero_is_no_error() -> None:
    zeros = np.zeros((1, 8), np.float32)
    assert not OP_LIMITS_FLOAT.exceeded(tensor_error(zeros + 1e-10, zeros, OP_LIMITS_FLOAT))
    assert OP_LIMITS_FLOAT.exceeded(tensor_error(zeros + 1, zeros, OP_LIMITS_FLOAT))


@given(st.integers(0, 2**32 - 1), st.integers(1, 64))
def test_rounding_to_half_precision_is_right_and_a_quarter_off_is_wrong(
    seed: int, count: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(1, count)).astype(np.float32)
    limits = op_limits(half=True)
    rounded = values.astype(np.float16).astype(np.float32)
    assert not limits.exceeded(tensor_error(rounded, values, limits))
    assert limits.exceeded(tensor_error(values * 1.25, values, limits))


def test_one_element_is_enough() -> None:
    values = np.ones((1, 100, 100, 10), np.float32)
    other = values.copy()
    other[0, 0, 0, 0] = 0.8
    error = tensor_error(other, values, OP_LIMITS_HALF)
    assert error.relative < OP_LIMITS_FLOAT.relative
    assert OP_LIMITS_FLOAT.exceeded(error)
    assert OP_LIMITS_HALF.exceeded(error)


def test_another_order_of_axes_is_no_error(values: np.ndarray) -> None:
    n, h, w, c = values.shape
    as_nchw = values.transpose(0, 3, 1, 2).reshape(n, h, w, c)
    as_nhwc = values.reshape(n, c, h, w).transpose(0, 2, 3, 1)
    limits = op_limits(half=False)
    for other in (as_nchw, np.ascontiguousarray(as_nhwc)):
        assert limits.exceeded(tensor_error(other, values, limits))
        assert not limits.exceeded(least_error(other, values, limits))
    assert limits.exceeded(least_error(values[:, ::-1], values, limits))


def test_nets_may_be_further_off_than_ops() -> None:
    for half in (True, False):
        assert net_limits(half=half).relative > op_limits(half=half).relative


def test_other_shapes_cannot_be_compared(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        tensor_error(values[:, :1], values, OP_LIMITS_HALF)


def test_what_a_gpu_flushes_to_zero_is_no_error() -> None:
    """Subnormal numbers of half precision; in fp32 they are numbers like others."""
    small = np.linspace(1e-6, 6.1e-5, 24, dtype=np.float32).reshape(1, 2, 3, 4)
    flushed = np.zeros_like(small)
    for limits in (OP_LIMITS_HALF, net_limits(half=True)):
        assert not limits.exceeded(tensor_error(flushed, small, limits))
        assert not limits.exceeded(tensor_error(small, flushed, limits))
        error = tensor_error(flushed, small * 4, limits)
        assert limits.exceeded(error)
    assert OP_LIMITS_FLOAT.exceeded(tensor_error(flushed, small, OP_LIMITS_FLOAT))


def test_flushed_elements_do_not_hide_others() -> None:
    cpu = np.full((1, 1, 1, 64), 3e-5, np.float32)
    gpu = np.zeros_like(cpu)
    gpu[..., 5] = 0.5
    error = tensor_error(gpu, cpu, OP_LIMITS_HALF)
    assert OP_LIMITS_HALF.exceeded(error)
    assert error.worst_index == (0, 0, 0, 5)
