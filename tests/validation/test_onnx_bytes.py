"""What is read from, and added to, an ONNX file without any ONNX package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from droidmace.validation.onnx_bytes import sha256_of_model, with_outputs


def model(location: str = "") -> onnx.ModelProto:
    """Adds a weight, which lies in the file ``location`` if that is given."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    if location:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="offset", value="0")
        weight.external_data.add(key="location", value=location)
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Add", ["n", "w"], ["y"])]
    return helper.make_model(helper.make_graph(nodes, "g", shape[:1], shape[1:], [weight]))


def test_outputs_are_added_and_nothing_else_changes() -> None:
    before = model()
    after = onnx.ModelProto.FromString(with_outputs(before.SerializeToString(), ["n", "größe"]))
    assert [output.name for output in after.graph.output] == ["y", "n", "größe"]
    del after.graph.output[1:]
    assert after == before


def test_hash_of_a_model_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    assert sha256_of_model(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_below_the_models_folder_count(tmp_path: Path) -> None:
    path, weights = tmp_path / "m.onnx", tmp_path / "sub" / "w.bin"
    weights.parent.mkdir()
    path.write_bytes(model("sub/w.bin").SerializeToString())
    hashes = set()
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        hashes.add(sha256_of_model(path))
    assert len(hashes) == 2


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret", "a\0b"])
def test_a_model_does_not_lead_out_of_its_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "m.onnx"
    path.write_bytes(model(location).SerializeToString())
    # Neither read nor missed: there is no such file.
    assert sha256_of_model(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_have_a_hash(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    whole = model().SerializeToString()
    for data in (noise, whole[:at] + noise + whole[at:]):
        path.write_bytes(data)
        assert sha256_of_model(path) == hashlib.sha256(data).hexdigest()
