"""Nonsense for every CPU op: an error that names the op, or a result; nothing else, and soon."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
from cpu_harness import argument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from droidmace.engine.cpu.base import CpuContext
from droidmace.engine.cpu.ops import CPU_OPS, run_op
from droidmace.engine.shapes import output_shapes
from droidmace.errors import EngineError
from droidmace.formats.netdef import DataType, OperatorDef

_NUMBERS = st.sampled_from(
    [0, 1, 2, 3, 4, 5, -1, -2, -7, 1 << 20, 1 << 31, -(1 << 62), (1 << 63) - 1]
)
_SMALL = st.integers(-1, 4)
_REALS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 1e30, -1e30, float("nan"), float("inf")])
_LISTS = (
    "axis", "axes", "starts", "ends", "strides", "dilations", "kernels", "padding_values",
    "paddings", "crops", "block_shape", "dims", "dim", "size", "offset",
)  # fmt: skip
_INTEGERS = (
    "axis", "group", "group_num", "block_size", "depth", "top_k", "padding", "pad_type",
    "round_mode", "pooling_type", "reduce_type", "type", "data_format", "has_data_format",
    "framework_type", "keepdims", "transpose_a", "transpose_b", "p", "depth_radius", "slice",
    "begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask", "out_val", "scalar_input_index",
    "align_corners", "coordinate_transformation_mode", "affine", "across_channels",
)  # fmt: skip
_FLOATS = ("height_scale", "width_scale", "epsilon", "alpha", "beta", "scalar_input", "max_limit")
_TEXTS = ("activation", "mode", "nearest_mode")


@st.composite
def _inputs(draw: st.DrawFn) -> np.ndarray:
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=5)))
    if draw(st.integers(0, 3)) == 0:
        return np.array(draw(st.lists(_NUMBERS | _SMALL, min_size=1, max_size=4)), np.int64).astype(
            np.int32
        )
    return np.ones(shape, np.float32)


@st.composite
def _ops(draw: st.DrawFn) -> tuple[OperatorDef, list[np.ndarray]]:
    kind = draw(st.sampled_from(sorted(CPU_OPS)))
    inputs = draw(st.lists(_inputs(), max_size=5))
    numbers = _NUMBERS | _SMALL
    arguments: dict[str, Any] = {
        **draw(st.dictionaries(st.sampled_from(_INTEGERS), numbers, max_size=5)),
        **draw(
            st.dictionaries(
                st.sampled_from(_LISTS), st.lists(numbers, min_size=1, max_size=8), max_size=4
            )
        ),
        **draw(st.dictionaries(st.sampled_from(_FLOATS), _REALS, max_size=2)),
        **draw(
            st.dictionaries(
                st.sampled_from(_TEXTS), st.sampled_from(["PRELU", "RELU", "CRD", "x"]), max_size=1
            )
        ),
    }
    if draw(st.booleans()):
        arguments["coeff"] = draw(st.lists(_REALS, max_size=3))
    count = draw(st.integers(1, 3))
    op = OperatorDef(
        inputs=tuple(f"i{index}" for index in range(len(inputs))),
        outputs=tuple(f"o{index}" for index in range(count)),
        name="the_op",
        type=kind,
        args=tuple(argument(name, value) for name, value in arguments.items()),
        output_types=tuple(draw(st.lists(st.sampled_from(DataType), max_size=2))),
    )
    return op, inputs


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=_ops(), constant=st.booleans(), on_gpu=st.booleans())
def test_nonsense_is_refused_by_name(
    made: tuple[OperatorDef, list[np.ndarray]], constant: bool, on_gpu: bool
) -> None:
    op, inputs = made
    known = dict(zip(op.inputs, inputs, strict=True)) if constant else {}
    try:
        results = run_op(op, inputs, CpuContext(known, on_gpu=on_gpu))
    except EngineError as exc:
        assert "'the_op'" in exc.message
        return
    known = dict(zip(op.inputs, inputs, strict=True))
    shapes = [value.shape for value in inputs]
    if not constant:
        known = {name: value for name, value in known.items() if value.dtype == np.int32}
    foretold = output_shapes(op, shapes, known, on_gpu=on_gpu)
    assert [result.shape for result in results] == foretold


def test_a_large_request_takes_no_memory_before_it_is_refused() -> None:
    """Windows over 2^20 padded rows and columns, of which every 2^20th is asked for."""
    op = OperatorDef(
        inputs=("x", "w"),
        outputs=("y",),
        name="the_op",
        type="Conv2D",
        args=(
            argument("padding_values", (1 << 20, 1 << 20)),
            argument("strides", (1 << 20, 1 << 20)),
        ),
    )
    inputs = [np.ones((1, 2, 2, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)]
    tracemalloc.start()
    try:
        message = ""
        try:
            run_op(op, inputs, CpuContext({}))
        except EngineError as exc:
            message = exc.message
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "'the_op'" in message
    assert "too large" in message
    assert peak < 1 << 20
