"""Pooling, transposed convolutions and resizes of any shape: right, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mace_interpreter import run_model
from onnx import helper
from onnx_models import declare, nhwc, save_model

from droidmace.convert import convert_model
from droidmace.errors import ModelError
from droidmace.formats.netdef import parse_model

few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pair = st.tuples(st.integers(1, 4), st.integers(1, 4))


def agree(
    folder: Path, chain: onnx.NodeProto, shape: tuple[int, ...], constants: dict[str, np.ndarray]
) -> None:
    """Compare with onnxruntime; what it or MACE cannot do is not compared."""
    path = folder / "m.onnx"
    save_model(path, [chain], {"x": shape}, {"y": ("n", "c", "h", "w")}, constants, opset=19)
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": x})
    except Exception:
        return
    if 0 in expected.shape or not np.isfinite(expected).all():
        return
    for runtime in ("cpu", "gpu"):
        config = declare(path, {"x": shape}, {"y": expected.shape}, runtime=runtime)
        try:
            converted = convert_model(config)
        except ModelError as error:
            # The second: ONNX's own shape inference differs from onnxruntime.
            assert "'n'" in error.message or "the model has" in error.message
            continue
        found = run_model(parse_model(converted.graph), converted.data, {"x": nhwc(x)})["y"]
        np.testing.assert_allclose(found, nhwc(expected), rtol=1e-4, atol=1e-4)


@few
@given(data=st.data())
def test_any_pool(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    kernel = draw(pair)
    attributes: dict[str, object] = {"kernel_shape": kernel, "strides": draw(pair)}
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes["auto_pad"] = draw(st.sampled_from(["VALID", "SAME_UPPER", "SAME_LOWER"]))
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    if draw(st.integers(0, 3)) == 0:
        attributes["dilations"] = draw(pair)
    shape = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 5)),
        *draw(st.tuples(*[st.integers(1, 9)] * 2)),
    )
    agree(tmp_path, helper.make_node(op, ["x"], ["y"], name="n", **attributes), shape, {})


@few
@given(data=st.data())
def test_any_transposed_convolution(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    kernel, strides, dilations = draw(pair), draw(pair), draw(st.sampled_from([(1, 1), (2, 1)]))
    attributes: dict[str, object] = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "output_padding": [draw(st.integers(0, stride - 1)) for stride in strides],
    }
    if draw(st.integers(0, 3)):
        attributes["pads"] = [draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
    else:
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
    group = draw(st.sampled_from([1, 1, 2, 4]))
    attributes["group"] = group
    shape = (1, 4, *draw(st.tuples(*[st.integers(1, 6)] * 2)))
    filters = np.random.default_rng(2).standard_normal((4, draw(st.integers(1, 3)), *kernel))
    constants = {"w": filters.astype(np.float32)}
    chain = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="n", **attributes)
    agree(tmp_path, chain, shape, constants)


@few
@given(data=st.data())
def test_any_resize(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    attributes: dict[str, object] = {
        "mode": mode,
        "coordinate_transformation_mode": draw(
            st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
        ),
    }
    if mode == "nearest":
        ways = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes["nearest_mode"] = draw(st.sampled_from(ways))
    shape = (1, draw(st.integers(1, 5)), *draw(st.tuples(*[st.integers(1, 6)] * 2)))
    sizes = draw(st.tuples(*[st.integers(1, 12)] * 2))
    if draw(st.booleans()):
        inputs, constants = ["x", "", "", "s"], {"s": np.array([*shape[:2], *sizes], np.int64)}
    else:
        scales = [draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])) for _ in range(2)]
        inputs, constants = ["x", "", "s"], {"s": np.array([1, 1, *scales], np.float32)}
    chain = helper.make_node("Resize", inputs, ["y"], name="n", **attributes)
    agree(tmp_path, chain, shape, constants)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_whole_scale_is_never_refused(mode: str, scale: int, tmp_path: Path) -> None:
    """What PyTorch's ``interpolate`` exports."""
    attributes = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"coordinate_transformation_mode": "half_pixel"},
    }[mode]
    chain = helper.make_node("Resize", ["x", "", "s"], ["y"], mode=mode, **attributes)
    constants = {"s": np.array([1, 1, scale, scale], np.float32)}
    shapes = {"x": (1, 3, 7, 5)}, {"y": (1, 3, 7 * scale, 5 * scale)}
    path = save_model(tmp_path / "m.onnx", [chain], *shapes, constants)
    converted = convert_model(declare(path, *shapes))
    assert len(parse_model(converted.graph).nets[0].ops) == 1
