"""The reference run: against onnxruntime asked directly, in every layout and type."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from droidmace.errors import InputError, MissingExtraError, ModelError
from droidmace.validation.classification import ClassTally
from droidmace.validation.layouts import Tensor, order_of_platform
from droidmace.validation.onnx_bytes import sha256_of_model
from droidmace.validation.reference import Reference
from droidmace.validation.reference_cache import ReferenceCache

SAMPLES = Path(__file__).parent.parent / "samples"
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
Declared = tuple[str, int, list[Any]]


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Declared],
    outputs: list[Declared],
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a small model."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def convolution(path: Path, batch: int | str = 1) -> Path:
    """NCHW (n, 3, 4, 5) to (n, 2, 4, 5), not square: a wrong layout cannot go unnoticed."""
    weights = np.random.default_rng(1).normal(size=(2, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    return save(
        path,
        nodes,
        [("x", FLOAT, [batch, 3, 4, 5])],
        [("y", FLOAT, [batch, 2, 4, 5])],
        {"w": weights},
    )


def directly(model: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime says, without anything of ours."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def images(count: int) -> np.ndarray:
    """(n, 3, 4, 5)"""
    return np.random.default_rng(2).normal(size=(count, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("input_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("output_format", ["NHWC", "NCHW"])
def test_layouts_of_the_deployment_file(
    tmp_path: Path, batch: int | str, input_format: str, output_format: str
) -> None:
    model = convolution(tmp_path / "m.onnx", batch)
    x = images(37)
    expected = np.concatenate([directly(model, x=row[np.newaxis])[0] for row in x])
    shapes = {"NHWC": ((1, 4, 5, 3), (1, 4, 5, 2)), "NCHW": ((1, 3, 4, 5), (1, 2, 4, 5))}
    reference = Reference.open(
        model,
        [Tensor("x", shapes[input_format][0], data_format=input_format)],
        [Tensor("y", shapes[output_format][1], data_format=output_format)],
    )
    given = x.transpose(0, 2, 3, 1) if input_format == "NHWC" else x
    found = reference.run({"x": given})["y"]
    if output_format == "NHWC":
        expected = expected.transpose(0, 2, 3, 1)
    assert found.shape == (37, 40)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.reshape(37, -1), rtol=1e-5, atol=1e-5)
    assert (reference.computed, reference.cached) == (37, 0)


def test_samples_may_keep_their_batch_dimension(tmp_path: Path) -> None:
    model = convolution(tmp_path / "m.onnx")
    tensors = [Tensor("x", (1, 3, 4, 5), data_format="NCHW")], [Tensor("y", (1, 2, 4, 5))]
    reference = Reference.open(model, *tensors)
    flat, nested = images(3), images(3)[:, np.newaxis]
    np.testing.assert_array_equal(
        reference.run({"x": flat})["y"], reference.run({"x": nested}, first=7)["y"]
    )


def test_a_model_that_has_channels_last(tmp_path: Path) -> None:
    shape = ["n", 4, 5, 3]
    nodes = [helper.make_node("Mul", ["x", "by_channel"], ["y"])]
    scale = np.array([1, 10, 100], dtype=np.float32)
    model = save(
        tmp_path / "m", nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], {"by_channel": scale}
    )
    x = images(2).transpose(0, 2, 3, 1)
    # NCHW by the platform's habit, but the shapes leave only one way.
    reference = Reference.open(model, [Tensor("x", (1, 4, 5, 3))], [Tensor("y", (1, 4, 5, 3))])
    np.testing.assert_allclose(reference.run({"x": x})["y"], (x * scale).reshape(2, -1))


def test_where_both_layouts_fit_the_platform_decides(tmp_path: Path) -> None:
    shape = [1, 2, 2, 2]
    nodes = [helper.make_node("Mul", ["x", "by_last_axis"], ["y"])]
    scale = np.array([1, 10], dtype=np.float32)
    model = save(
        tmp_path / "m", nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], {"by_last_axis": scale}
    )
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    tensors = [Tensor("x", (1, 2, 2, 2))], [Tensor("y", (1, 2, 2, 2))]
    found = {
        platform: Reference.open(model, *tensors, order=order_of_platform(platform)).run({"x": x})
        for platform in ("onnx", "tensorflow")
    }
    np.testing.assert_array_equal(found["tensorflow"]["y"], (x * scale).reshape(1, -1))
    # x is NHWC, the model's last axis is then its width: our second spatial axis.
    wide = x * scale[np.newaxis, np.newaxis, :, np.newaxis]
    np.testing.assert_array_equal(found["onnx"]["y"], wide.reshape(1, -1))


@pytest.mark.parametrize("batch", [1, "n"])
def test_several_inputs_and_outputs_of_several_types(tmp_path: Path, batch: int | str) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["summed"], keepdims=0),
        helper.make_node("Add", ["summed", "bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    table = np.random.default_rng(3).normal(size=(10, 6)).astype(np.float32)
    model = save(
        tmp_path / "m.onnx",
        nodes,
        [("bias", FLOAT, [batch, 6]), ("ids", INT64, [batch, 4])],
        [("best", INT64, [batch]), ("scores", FLOAT, [batch, 6])],
        {"table": table, "axis": np.array([1])},
    )
    draw = np.random.default_rng(4)
    ids = draw.integers(0, 10, (33, 4)).astype(np.int32)
    bias = draw.normal(size=(33, 6)).astype(np.float32)
    reference = Reference.open(
        model,
        # In another order than the model's.
        [Tensor("ids", (1, 4), "int32", "NONE"), Tensor("bias", (1, 6), "float32", "NONE")],
        [Tensor("scores", (1, 6), data_format="NONE"), Tensor("best", (1,), "int32", "NONE")],
    )
    found = reference.run({"ids": ids, "bias": bias})
    expected = table[ids].sum(axis=1) + bias
    assert list(found) == ["scores", "best"]
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["best"], expected.argmax(axis=1)[:, np.newaxis])
    assert found["best"].dtype == np.int32


def test_an_output_from_the_middle_of_the_graph(tmp_path: Path) -> None:
    model = convolution(tmp_path / "m.onnx")
    outputs = [Tensor(name, (1, 2, 4, 5), data_format="NCHW") for name in ("c", "y")]
    inputs = [Tensor("x", (1, 3, 4, 5), data_format="NCHW")]
    found = Reference.open(model, inputs, outputs).run({"x": images(2)})
    assert found["c"].min() < 0
    np.testing.assert_array_equal(found["y"], np.maximum(found["c"], 0))
    with pytest.raises(ModelError, match="no tensor 'nowhere'; its outputs are 'y'"):
        Reference.open(model, inputs, [Tensor("nowhere", (1, 2, 4, 5))])


def test_a_model_that_mixes_its_samples_is_asked_one_by_one(tmp_path: Path) -> None:
    # Softmax over the batch: every answer of a batch would depend on the others.
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=0),
        helper.make_node("Add", ["s", "x"], ["y"]),
    ]
    shape = ["n", 3]
    model = save(tmp_path / "m.onnx", nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)])
    x = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
    tensor = Tensor("x", (1, 3), data_format="NONE"), Tensor("y", (1, 3), data_format="NONE")
    found = Reference.open(model, tensor[:1], tensor[1:]).run({"x": x})["y"]
    np.testing.assert_allclose(found, x + 1, rtol=1e-6)


def test_a_batch_dimension_that_only_looks_open(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = save(
        tmp_path / "m.onnx",
        nodes,
        [("x", FLOAT, ["n", 2, 3])],
        [("y", FLOAT, [1, 6])],
        {"shape": np.array([1, 6])},
    )
    x = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    reference = Reference.open(
        model, [Tensor("x", (1, 2, 3))], [Tensor("y", (1, 6), data_format="NONE")]
    )
    np.testing.assert_array_equal(reference.run({"x": x})["y"], x.reshape(5, 6))


def test_names_of_tensorflow_and_of_exported_models(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["in:0"], ["out:0"])]
    model = save(tmp_path / "m", nodes, [("in:0", FLOAT, [1, 2])], [("out:0", FLOAT, [1, 2])])
    x = np.array([[1, 2]], dtype=np.float32)
    out = [Tensor("out", (1, 2), data_format="NONE")]
    for name in ("in", "in:0", "called_otherwise"):
        reference = Reference.open(model, [Tensor(name, (1, 2), data_format="NONE")], out)
        assert reference.run({name: x})["out"].tolist() == [[-1.0, -2.0]]


def test_the_recorded_sample_of_the_real_binary() -> None:
    x = np.fromfile(SAMPLES / "tiny_input_nchw_1x3x32x32.f32", dtype="<f4")
    expected = np.fromfile(SAMPLES / "tiny_output_1x10.f32", dtype="<f4")
    reference = Reference.open(
        SAMPLES / "tiny.onnx",
        [Tensor("input", (1, 3, 32, 32), data_format="NCHW")],
        [Tensor("output", (1, 10), data_format="NONE")],
    )
    found = reference.run({"input": x.reshape(1, 3, 32, 32)})["output"]
    np.testing.assert_allclose(found, expected[np.newaxis], atol=1e-6)
    assert reference.description == f"onnxruntime {onnxruntime.__version__} on tiny.onnx"


class TestWhatDoesNotFit:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return convolution(tmp_path / "m.onnx")

    def test_shape(self, model: Path) -> None:
        with pytest.raises(ModelError, match=r"input 'x' is \[1, 3, 4, 5\].*\[1, 9, 9, 3\]") as e:
            Reference.open(model, [Tensor("x", (1, 9, 9, 3))], [Tensor("y", (1, 4, 5, 2))])
        assert e.value.hint is not None
        assert "input_shapes" in e.value.hint

    def test_number_of_inputs(self, model: Path) -> None:
        two = [Tensor("x", (1, 4, 5, 3)), Tensor("z", (1,))]
        with pytest.raises(ModelError, match="has 2 inputs, the model 1: x"):
            Reference.open(model, two, [Tensor("y", (1, 4, 5, 2))])

    def test_output_of_another_size(self, model: Path) -> None:
        reference = Reference.open(model, [Tensor("x", (1, 4, 5, 3))], [Tensor("y", (1, 7))])
        with pytest.raises(ModelError, match=r"output 'y' is \[1, 2, 4, 5\].*\[1, 7\]"):
            reference.run({"x": images(1).transpose(0, 2, 3, 1)})

    def test_inputs_that_are_not_the_models(self, model: Path) -> None:
        reference = Reference.open(model, [Tensor("x", (1, 4, 5, 3))], [Tensor("y", (1, 4, 5, 2))])
        with pytest.raises(InputError, match="no input 'x' among"):
            reference.run({"z": images(1)})
        with pytest.raises(InputError, match=r"shape \[3, 4, 4\] for the input 'x'"):
            reference.run({"x": images(1)[..., :4]})

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"garbage")
        with pytest.raises(ModelError, match="onnxruntime cannot load it"):
            Reference.open(tmp_path / "m.onnx", [Tensor("x", (1,))], [Tensor("y", (1,))])

    def test_no_onnxruntime(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtraError, match="onnxruntime") as caught:
            Reference.open(model, [Tensor("x", (1, 4, 5, 3))], [Tensor("y", (1, 4, 5, 2))])
        assert caught.value.hint == "pip install 'droidmace[reference]'"


class TestCached:
    TENSORS = ([Tensor("x", (1, 4, 5, 3))], [Tensor("y", (1, 4, 5, 2))])

    def open(self, model: Path, folder: Path, **how: Any) -> Reference:
        return Reference.open(model, *self.TENSORS, cache=ReferenceCache(folder), **how)

    def test_nothing_is_computed_twice_however_samples_are_grouped(self, tmp_path: Path) -> None:
        model = convolution(tmp_path / "m.onnx", "n")
        x = images(50).transpose(0, 2, 3, 1)
        first = self.open(model, tmp_path / "c")
        whole = first.run({"x": x})["y"]
        again = self.open(model, tmp_path / "c")
        pieces = [again.run({"x": x[b : b + 7]})["y"] for b in range(0, 50, 7)]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
        assert (first.computed, first.cached) == (50, 0)
        assert (again.computed, again.cached) == (0, 50)
        changed = x.copy()
        changed[3] += 1
        found = again.run({"x": changed})["y"]
        assert (again.computed, again.cached) == (1, 99)
        assert (found != whole).any(axis=1).tolist() == [index == 3 for index in range(50)]

    def test_another_model_has_answers_of_its_own(self, tmp_path: Path) -> None:
        model = convolution(tmp_path / "m.onnx")
        x = images(2).transpose(0, 2, 3, 1)
        before = self.open(model, tmp_path / "c")
        answers = before.run({"x": x})["y"]
        changed = onnx.load(model)
        changed.graph.initializer[0].raw_data = bytes(len(changed.graph.initializer[0].raw_data))
        onnx.save(changed, model)
        after = self.open(model, tmp_path / "c")
        assert after.identity != before.identity
        assert answers.any()
        assert not after.run({"x": x})["y"].any()
        assert after.cached == 0

    def test_a_damaged_cache_does_not_change_an_answer(self, tmp_path: Path) -> None:
        model = convolution(tmp_path / "m.onnx")
        x = images(4).transpose(0, 2, 3, 1)
        answers = self.open(model, tmp_path / "c").run({"x": x})["y"]
        (tmp_path / "c" / "reference.sqlite3").write_bytes(b"no database at all" * 100)
        reference = self.open(model, tmp_path / "c")
        np.testing.assert_array_equal(reference.run({"x": x})["y"], answers)
        assert reference.computed == 4
        assert self.open(model, tmp_path / "c").run({"x": x})["y"].tobytes() == answers.tobytes()

    def test_weights_in_a_file_of_their_own_belong_to_the_model(self, tmp_path: Path) -> None:
        model = convolution(tmp_path / "m.onnx")
        loaded = onnx.load(model)
        onnx.save(loaded, model, save_as_external_data=True, location="m.weights", size_threshold=0)
        before = sha256_of_model(model)
        x = images(1).transpose(0, 2, 3, 1)
        outputs = [Tensor("c", (1, 4, 5, 2)), Tensor("y", (1, 4, 5, 2))]
        found = Reference.open(model, self.TENSORS[0], outputs).run({"x": x})
        np.testing.assert_array_equal(found["y"], np.maximum(found["c"], 0))
        weights = tmp_path / "m.weights"
        weights.write_bytes(bytes(len(weights.read_bytes())))
        assert sha256_of_model(model) != before
        weights.unlink()
        with pytest.raises(ModelError, match="cannot be read"):
            sha256_of_model(model)


def test_top1_of_real_images_is_what_an_independent_count_gives() -> None:
    folder = Path(__file__).parents[2] / "examples" / "fashion_mnist"
    packed = {
        kind: gzip.decompress((folder / f"t10k-first1000-{kind}-ubyte.gz").read_bytes())
        for kind in ("images-idx3", "labels-idx1")
    }
    images = np.frombuffer(packed["images-idx3"], np.uint8, offset=16).reshape(1000, 28, 28)
    labels = np.frombuffer(packed["labels-idx1"], np.uint8, offset=8).astype(np.int64)
    inputs = images[:, np.newaxis].astype(np.float32) / 255
    reference = Reference.open(
        folder / "fashion_mnist.onnx",
        [Tensor("image", (1, 1, 28, 28), data_format="NCHW")],
        [Tensor("probabilities", (1, 10), data_format="NONE")],
    )
    tally = ClassTally(10)
    for begin in range(0, 1000, 300):
        outputs = reference.run({"image": inputs[begin : begin + 300]})["probabilities"]
        tally.add(labels[begin : begin + 300], outputs, outputs)
    found = tally.result()

    session = onnxruntime.InferenceSession(folder / "fashion_mnist.onnx")
    right = sum(
        int(np.argmax(session.run(None, {"image": image[np.newaxis]})[0])) == label
        for image, label in zip(inputs, labels, strict=True)
    )
    assert found.phone is not None
    assert found.phone.top1.count == right > 850
    assert found.agreement is not None
    assert found.agreement.value == 1.0
