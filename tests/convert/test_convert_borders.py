"""Inputs, outputs, and shapes that the model computes: what stands around the layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mace_interpreter import run_model
from onnx import helper
from onnx_models import compare_with_onnxruntime, declare, nhwc, op_types, save_model

from droidmace.config import TensorSpec
from droidmace.convert import convert_model
from droidmace.errors import ModelError
from droidmace.formats.netdef import DataType, parse_model

node = helper.make_node


def weights(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def image(name: str, *shape: int, data_format: str = "NHWC") -> TensorSpec:
    return TensorSpec(name, shape, data_format=data_format)


def test_an_onnx_file_whose_images_are_nhwc(tmp_path: Path) -> None:
    """As TensorFlow's exporter writes them: the Transposes at the border are no ops."""
    chain = [
        node("Sub", ["x", "mean"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Transpose", ["r"], ["y"], perm=[0, 2, 3, 1]),
    ]
    shapes = {"x": (1, 5, 6, 3)}, {"y": (1, 5, 6, 4)}
    constants = {"w": weights(4, 3, 3, 3), "mean": weights(3)}
    path = save_model(tmp_path / "m.onnx", chain, *shapes, constants)
    borders = {"inputs": (image("x", 1, 5, 6, 3),), "outputs": (image("y", 1, 5, 6, 4),)}
    config = replace(declare(path, *shapes), **borders)
    converted = convert_model(config)
    graph = parse_model(converted.graph)
    assert op_types(graph) == ["Eltwise", "Conv2D"]
    x = weights(1, 5, 6, 3, seed=2)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    found = run_model(graph, converted.data, {"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_declaration_in_nhwc_of_a_file_in_nchw(tmp_path: Path) -> None:
    """Shapes that could be read both ways are turned, unless a Transpose follows."""
    chain = [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    shapes = {"x": (1, 4, 4, 4)}, {"y": (1, 4, 4, 4)}
    path = save_model(tmp_path / "m.onnx", chain, *shapes, {"w": weights(4, 4, 3, 3)})
    as_nhwc = {"inputs": (image("x", 1, 4, 4, 4),), "outputs": (image("y", 1, 4, 4, 4),)}
    same = convert_model(declare(path, *shapes))
    assert convert_model(replace(declare(path, *shapes), **as_nhwc)).graph == same.graph


def test_several_inputs_and_outputs_and_one_of_two_axes(tmp_path: Path) -> None:
    chain = [
        node("Conv", ["x", "w"], ["a"]),
        node("Add", ["a", "z"], ["first"]),
        node("GlobalAveragePool", ["first"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Concat", ["f", "m"], ["c"], axis=1),
        node("Gemm", ["c", "g"], ["second"]),
        node("Relu", ["first"], ["third"]),
    ]
    inputs = {"x": (2, 3, 5, 6), "z": (2, 4, 5, 6), "m": (2, 7)}
    outputs = {"first": (2, 4, 5, 6), "second": (2, 3), "third": (2, 4, 5, 6)}
    constants = {"w": weights(4, 3, 1, 1), "g": weights(11, 3)}
    path = save_model(tmp_path / "m.onnx", chain, inputs, outputs, constants)
    for runtime in ("cpu", "gpu"):
        compare_with_onnxruntime(declare(path, inputs, outputs, runtime=runtime))


ALIASES = {
    "an identity": [node("Relu", ["x"], ["y"]), node("Identity", ["y"], ["z"])],
    "two identities": [
        node("Relu", ["x"], ["a"]),
        node("Identity", ["a"], ["y"]),
        node("Dropout", ["a"], ["z"]),
    ],
    "the input": [node("Relu", ["x"], ["y"]), node("Identity", ["x"], ["z"])],
    "a reshape": [node("Relu", ["x"], ["y"]), node("Reshape", ["y", "shape"], ["z"])],
}


@pytest.mark.parametrize("runtime", ["cpu", "gpu"])
@pytest.mark.parametrize("case", ALIASES)
def test_an_output_that_is_another_name(case: str, runtime: str, tmp_path: Path) -> None:
    shapes = {"x": (1, 4, 5, 6)}, {"y": (1, 4, 5, 6), "z": (1, 4, 5, 6)}
    constants = {"shape": np.array([1, 4, 5, 6])} if case == "a reshape" else {}
    path = save_model(tmp_path / "m.onnx", ALIASES[case], *shapes, constants)
    compare_with_onnxruntime(declare(path, *shapes, runtime=runtime))


@pytest.mark.parametrize("runtime", ["cpu", "gpu"])
def test_outputs_of_three_and_of_one_axis(runtime: str, tmp_path: Path) -> None:
    chain = [
        node("Reshape", ["x", "three"], ["y"]),
        node("ReduceMax", ["y"], ["z"], axes=[0, 2], keepdims=0),
    ]
    shapes = {"x": (2, 4, 5, 6)}, {"y": (2, 4, 30), "z": (4,)}
    path = save_model(tmp_path / "m.onnx", chain, *shapes, {"three": np.array([0, 0, -1])})
    compare_with_onnxruntime(declare(path, *shapes, runtime=runtime))


def test_an_image_without_an_order_of_axes(tmp_path: Path) -> None:
    path = save_model(
        tmp_path / "m.onnx",
        [node("Relu", ["x"], ["y"])],
        {"x": (1, 4, 5, 6)},
        {"y": (1, 4, 5, 6)},
    )
    outputs = (image("y", 1, 4, 5, 6, data_format="NONE"),)
    config = replace(declare(path, {"x": (1, 4, 5, 6)}, {}), outputs=outputs)
    with pytest.raises(ModelError, match="output 'y' has 4 dimensions and no order"):
        convert_model(config)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keep", [0, 1])
def test_the_class_itself_as_whole_numbers(op: str, keep: int, tmp_path: Path) -> None:
    x, path = weights(3, 7), tmp_path / "m.onnx"
    shape = (3, 1) if keep else (3,)
    save_model(path, [node(op, ["x"], ["y"], axis=1, keepdims=keep)], {"x": (3, 7)}, {"y": shape})
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path.write_bytes(model.SerializeToString())
    outputs = (TensorSpec("y", shape, data_type="int32", data_format="NONE"),)
    config = replace(declare(path, {"x": (3, 7)}, {}, runtime="cpu"), outputs=outputs)
    converted = convert_model(config)
    graph = parse_model(converted.graph)
    assert graph.nets[0].output_infos[0].data_type is DataType.DT_INT32
    assert graph.nets[0].ops[-1].output_types == (DataType.DT_INT32,)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    found = run_model(graph, converted.data, {"x": x})["y"]
    np.testing.assert_array_equal(found.reshape(shape), expected)


@pytest.mark.parametrize(("runtime", "shape"), [("cpu", (2, 5)), ("cpu", (5,)), ("gpu", (5,))])
def test_rows_that_whole_numbers_choose(
    runtime: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    chain = [
        node("Gather", ["table", "i"], ["rows"]),
        node("MatMul", ["rows", "w"], ["y"]),
    ]
    constants = {"table": weights(9, 4), "w": weights(4, 3)}
    save_model(path, chain, {"i": shape}, {"y": (*shape, 3)}, constants)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path.write_bytes(model.SerializeToString())
    whole = (TensorSpec("i", shape, data_type="int32", data_format="NONE"),)
    config = declare(path, {}, {"y": (*shape, 3)}, runtime=runtime)
    converted = convert_model(replace(config, inputs=whole))
    indices = np.random.default_rng(1).integers(0, 9, shape)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"i": indices})
    found = run_model(parse_model(converted.graph), converted.data, {"i": indices})["y"]
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_shapes_that_the_model_computes(tmp_path: Path) -> None:
    """PyTorch's ``view(x.size(0), -1)`` and its like, with the batch left open."""
    chain = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["batch"]),
        node("Unsqueeze", ["batch", "axis"], ["b"]),
        node("Gather", ["s", "two"], ["height"]),
        node("Mul", ["height", "double"], ["twice"]),
        node("Unsqueeze", ["twice", "axis"], ["h"]),
        node("Concat", ["b", "h", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["r"]),
        node("ConstantOfShape", ["one"], ["fill"], value=helper.make_tensor("v", 1, [1], [2.0])),
        node("Mul", ["r", "fill"], ["m"]),
        node("Shape", ["m"], ["t"]),
        node("Slice", ["t", "axis", "end"], ["front"]),
        node("Cast", ["front"], ["f"], to=1),
        node("Cast", ["f"], ["i"], to=7),
        node("Concat", ["i", "rest"], ["final"], axis=0),
        node("Reshape", ["m", "final"], ["y"]),
    ]
    constants = {
        "zero": np.array(0),
        "two": np.array(2),
        "axis": np.array([0]),
        "double": np.array(2),
        "rest": np.array([-1]),
        "one": np.array([1]),
        "end": np.array([1]),
    }
    path = save_model(
        tmp_path / "m.onnx", chain, {"x": ("n", 4, 5, 6)}, {"y": ("n", 120)}, constants
    )
    graph = compare_with_onnxruntime(declare(path, {"x": (2, 4, 5, 6)}, {"y": (2, 120)}))
    assert op_types(graph) == ["Reshape", "Eltwise"]


def test_weights_that_the_file_computes(tmp_path: Path) -> None:
    chain = [
        node("Transpose", ["w"], ["t"], perm=[1, 0, 2, 3]),
        node("Mul", ["t", "half"], ["v"]),
        node("Conv", ["x", "v"], ["y"]),
    ]
    constants = {"w": weights(3, 4, 1, 1), "half": np.float32(0.5)}
    shapes = {"x": (1, 3, 4, 4)}, {"y": (1, 4, 4, 4)}
    path = save_model(tmp_path / "m.onnx", chain, *shapes, constants)
    assert op_types(compare_with_onnxruntime(declare(path, *shapes))) == ["Conv2D"]


def test_the_declared_input_decides_an_open_size(tmp_path: Path) -> None:
    chain = [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])]
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": ("n", 3, "h", "w")},
        {"y": ("n", 4, "h", "w")},
        {"w": weights(4, 3, 3, 3)},
    )
    config = declare(path, {"x": (1, 3, 7, 5)}, {"y": (1, 4, 7, 5)})
    compare_with_onnxruntime(config)
    assert (
        nhwc(np.zeros((1, 3, 7, 5))).shape
        == parse_model(convert_model(config).graph).nets[0].input_infos[0].dims
    )
