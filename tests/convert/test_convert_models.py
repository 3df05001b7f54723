"""Whole models: against MACE's own converter, against onnxruntime, against what is committed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mace_interpreter import run_model
from onnx_models import compare_with_onnxruntime, nhwc, op_types

from droidmace.config import ModelConfig, load_deployment
from droidmace.convert import convert_model
from droidmace.formats.netdef import DataType, parse_model

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/samples"
TINY = SAMPLES / "tiny_gpu.yml"
FASHION = ROOT / "configs/fashion_mnist.yml"


def only_model(path: Path) -> ModelConfig:
    (model,) = load_deployment(path).models.values()
    return model


def test_tiny_equals_what_maces_own_converter_made() -> None:
    converted = convert_model(only_model(TINY))
    reference = parse_model((SAMPLES / "tiny_gpu.pb").read_bytes())
    assert converted.data == (SAMPLES / "tiny_gpu.data").read_bytes()
    # Every op, argument, shape, offset and declaration; the bytes differ only in defaults that
    # MACE's converter writes out (a first offset of 0).
    assert parse_model(converted.graph) == reference


def test_tiny_gives_the_output_that_a_real_mace_run_gave() -> None:
    converted = convert_model(only_model(TINY))
    x = np.fromfile(SAMPLES / "tiny_input_nchw_1x3x32x32.f32", "<f4").reshape(1, 3, 32, 32)
    found = run_model(parse_model(converted.graph), converted.data, {"input": nhwc(x)})
    expected = np.fromfile(SAMPLES / "tiny_output_1x10.f32", "<f4")
    np.testing.assert_allclose(found["output"].reshape(-1), expected, atol=1e-5)


@pytest.mark.parametrize("config", [TINY, FASHION], ids=["tiny", "fashion_mnist"])
def test_a_converted_model_computes_what_onnxruntime_does(config: Path) -> None:
    compare_with_onnxruntime(only_model(config))


def test_fashion_mnist_stays_on_the_gpu() -> None:
    graph = parse_model(convert_model(only_model(FASHION)).graph)
    assert op_types(graph)[-3:] == ["Reduce", "FullyConnected", "Softmax"]
    assert set(op_types(graph)) <= {
        "Conv2D",
        "DepthwiseConv2d",
        "Eltwise",
        "Reduce",
        "FullyConnected",
        "Softmax",
    }
    limits = {op.float_arg("max_limit") for op in graph.nets[0].ops if op.arg("max_limit")}
    assert limits == {6.0}


def test_the_committed_model_is_a_fresh_conversion() -> None:
    model = only_model(FASHION)
    converted = convert_model(model)
    assert model.graph_file is not None
    assert model.data_file is not None
    assert model.graph_file.read_bytes() == converted.graph
    assert model.data_file.read_bytes() == converted.data


def test_the_summary_counts_what_is_in_the_model() -> None:
    converted = convert_model(only_model(FASHION))
    (net,) = parse_model(converted.graph).nets
    assert converted.summary.parameters == sum(tensor.data_size for tensor in net.tensors)
    assert sum(converted.summary.ops.values()) == len(net.ops)


def test_half_weights() -> None:
    single = only_model(FASHION)
    half = dataclasses.replace(single, data_type="fp16_fp32")
    converted = convert_model(half)
    graph = parse_model(converted.graph)
    (net,) = graph.nets
    assert net.data_type == DataType.DT_HALF
    assert {tensor.data_type for tensor in net.tensors} == {DataType.DT_HALF}
    assert {op.int_arg("T") for op in net.ops} == {int(DataType.DT_HALF)}
    assert all(tensor.offset % 4 == 0 for tensor in net.tensors)
    # MACE's inputs stay single: only weights and activations are half.
    assert [info.data_type for info in net.input_infos] == [DataType.DT_FLOAT]
    reference = convert_model(single)
    assert len(converted.data) < 0.55 * len(reference.data)
    x = np.random.default_rng(1).random((1, 28, 28, 1))
    precise = run_model(parse_model(reference.graph), reference.data, {"image": x})
    rounded = run_model(graph, converted.data, {"image": x})
    np.testing.assert_allclose(rounded["probabilities"], precise["probabilities"], atol=5e-3)
    assert not np.array_equal(rounded["probabilities"], precise["probabilities"])


@pytest.mark.parametrize(("runtime", "number"), [("cpu", 0), ("gpu", 2), ("cpu+gpu", 2)])
def test_the_runtime_is_an_argument_of_the_net(runtime: str, number: int) -> None:
    model = dataclasses.replace(only_model(TINY), runtime=runtime)
    (net,) = parse_model(convert_model(model).graph).nets
    assert net.int_arg("runtime_type", -1) == number


def test_winograd_marks_convolutions_only() -> None:
    model = dataclasses.replace(only_model(TINY), winograd=4)
    (net,) = parse_model(convert_model(model).graph).nets
    marked = {op.type for op in net.ops if op.arg("wino_block_size")}
    assert marked == {"Conv2D"}
    assert {op.int_arg("wino_block_size") for op in net.ops if op.type == "Conv2D"} == {4}


def test_fashion_mnist_labels_real_images_as_onnxruntime_does() -> None:
    import gzip

    import onnxruntime

    model = only_model(FASHION)
    packed = (ROOT / "examples/fashion_mnist/t10k-first1000-images-idx3-ubyte.gz").read_bytes()
    pixels = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16)
    images = pixels.reshape(-1, 1, 1, 28, 28)[:40].astype(np.float32) / np.float32(255)
    session = onnxruntime.InferenceSession(model.model_file, providers=["CPUExecutionProvider"])
    converted = convert_model(model)
    graph = parse_model(converted.graph)
    labels = set()
    for image in images:
        (expected,) = session.run(["probabilities"], {"image": image})
        found = run_model(graph, converted.data, {"image": nhwc(image)})["probabilities"]
        np.testing.assert_allclose(found.reshape(1, 10), expected, atol=1e-5)
        assert found.argmax() == expected.argmax()
        labels.add(int(expected.argmax()))
    assert len(labels) > 5
