"""Top-1, agreement and the reference run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from droidmace.errors import MissingExtraError, ModelError
from droidmace.results import Accuracy
from droidmace.validation.accuracy import (
    NO_LABEL,
    agreement,
    compare,
    top1_labels,
)
from droidmace.validation.reference import reference_outputs

SAMPLES = Path(__file__).parent.parent / "samples"
LABELS = np.array([0, 1, 2, 2])
RIGHT = np.eye(3, dtype=np.float32)[LABELS]


def test_compare_all_three() -> None:
    one_wrong = RIGHT.copy()
    one_wrong[0] = [0, 0, 5]
    assert compare(LABELS, reference=RIGHT, untuned=RIGHT, tuned=one_wrong) == Accuracy(
        samples=4, reference=1.0, untuned=1.0, tuned=0.75, agreement=0.75
    )


def test_compare_what_there_is() -> None:
    assert compare(LABELS, tuned=RIGHT) == Accuracy(4, None, None, 1.0, None)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_wrong_and_never_agree(poison: float) -> None:
    bad = RIGHT.copy()
    bad[3, 0] = poison
    assert top1_labels(bad).tolist() == [0, 1, 2, NO_LABEL]
    found = compare(LABELS, reference=bad, tuned=bad)
    assert (found.reference, found.tuned, found.agreement) == (0.75, 0.75, 0.75)


def test_first_of_equals_wins() -> None:
    assert top1_labels(np.zeros((1, 4))).tolist() == [0]


def test_runs_over_other_samples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not two runs"):
        agreement(LABELS, LABELS[:3])
    with pytest.raises(ValueError, match="classes"):
        top1_labels(np.zeros(4))


class TestReference:
    @pytest.fixture(autouse=True)
    def _needs_onnxruntime(self) -> None:
        pytest.importorskip("onnxruntime")

    @pytest.fixture
    def inputs(self) -> np.ndarray:
        one = np.fromfile(SAMPLES / "tiny_input_nchw_1x3x32x32.f32", dtype="<f4")
        return one.reshape(1, 3, 32, 32)

    def test_recorded_sample(self, inputs: np.ndarray) -> None:
        expected = np.fromfile(SAMPLES / "tiny_output_1x10.f32", dtype="<f4")
        outputs = reference_outputs(SAMPLES / "tiny.onnx", np.repeat(inputs, 3, axis=0))
        assert outputs.shape == (3, 10)
        np.testing.assert_allclose(outputs, np.tile(expected, (3, 1)), atol=1e-6)

    def test_open_batch_dimension(self, tmp_path: Path) -> None:
        onnx = pytest.importorskip("onnx")
        from onnx import TensorProto, helper

        node = helper.make_node("Relu", ["x"], ["y"])
        shape = ["n", 2, 2]
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        )
        opset = helper.make_opsetid("", 13)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "m")
        inputs = np.arange(-100, 300, dtype=np.float32).reshape(100, 2, 2)
        outputs = reference_outputs(tmp_path / "m", inputs)
        np.testing.assert_array_equal(outputs, np.maximum(inputs, 0).reshape(100, 4))

    def test_wrong_shape(self, inputs: np.ndarray) -> None:
        with pytest.raises(ModelError, match=r"the samples are \[32, 32, 3\]"):
            reference_outputs(SAMPLES / "tiny.onnx", inputs.transpose(0, 2, 3, 1))

    def test_not_a_model(self, tmp_path: Path, inputs: np.ndarray) -> None:
        (tmp_path / "m.onnx").write_bytes(b"garbage")
        with pytest.raises(ModelError, match="onnxruntime cannot load it"):
            reference_outputs(tmp_path / "m.onnx", inputs)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="onnxruntime") as caught:
        reference_outputs(SAMPLES / "tiny.onnx", np.zeros((1, 3, 32, 32), dtype=np.float32))
    assert caught.value.hint == "pip install 'droidmace[reference]'"
