"""Deployment files: what is read, and how each mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.config import Deployment, load_deployment
from droidmace.errors import ConfigError
from droidmace.yamltree import MAX_BYTES

ROOT = Path(__file__).parents[2]

GOOD = """\
library_name: lib
target_abis: [arm64-v8a]
models:
  net:
    platform: onnx
    model_file_path: net.onnx
    subgraphs:
      - input_tensors: [a, b]
        input_shapes: ["1,2,2,3", "1,4"]
        input_data_formats: [NCHW, NONE]
        input_ranges: ["-1,1", "0,255"]
        output_tensors: out
        output_shapes: 1,10
    runtime: gpu
    data_type: fp32_fp32
"""


def load(tmp_path: Path, text: str) -> Deployment:
    path = tmp_path / "net.yml"
    path.write_text(text, "utf-8")
    return load_deployment(path)


def test_values_are_read(tmp_path: Path) -> None:
    deployment = load(tmp_path, GOOD)
    model = deployment.models["net"]
    assert deployment.target_abis == ("arm64-v8a",)
    assert deployment.target_socs == ("all",)
    assert [tensor.name for tensor in model.inputs] == ["a", "b"]
    assert model.inputs[0].shape == (1, 2, 2, 3)
    assert model.inputs[0].data_format == "NCHW"
    assert model.inputs[1].value_range == (0.0, 255.0)
    assert model.inputs[1].element_count == 4
    assert model.outputs[0].shape == (1, 10)
    assert model.outputs[0].data_format == "NHWC"
    assert model.model_file == tmp_path / "net.onnx"


def test_maces_sample_is_read() -> None:
    deployment = load_deployment(ROOT / "tests/samples/tiny_gpu.yml")
    model = deployment.models["tiny_gpu"]
    assert model.inputs[0].shape == (1, 3, 32, 32)
    assert model.model_sha256 is not None
    assert not model.obfuscate


def test_our_own_example_is_read() -> None:
    deployment = load_deployment(ROOT / "configs/fashion_mnist.yml")
    assert deployment.dataset is not None
    assert deployment.dataset.preprocess.scale == (255,)
    assert deployment.models["fashion_mnist"].graph_file is not None


def test_tensors_may_stand_at_the_models_own_level(tmp_path: Path) -> None:
    text = """\
library_name: lib
target_abis: host
models:
  net:
    platform: tensorflow
    model_file_path: net.pb
    input_tensors: x
    input_shapes: [1, 4]
    output_tensors: y
    output_shapes: "1,2"
"""
    model = load(tmp_path, text).models["net"]
    assert model.inputs[0].shape == (1, 4)
    assert model.outputs[0].shape == (1, 2)


def test_a_subgraph_goes_before_its_model(tmp_path: Path) -> None:
    """MACE's CMake tools name subgraphs, and let them override the model's keys."""
    text = """\
library_name: lib
target_abis: host
models:
  net:
    platform: onnx
    model_file_path: net.onnx
    runtime: gpu
    data_type: fp32_fp32
    subgraphs:
      first:
        input_tensors: [x, z]
        input_shapes: ["1,4", "1,4"]
        input_ranges: "0,1"
        input_aliases: [left, right]
        output_tensors: y
        output_shapes: "1,2"
        runtime: cpu
        cl_mem_type: buffer
        winograd: 4
    quantize: 1
"""
    model = load(tmp_path, text).models["net"]
    assert model.graph_name == "first"
    assert (model.runtime, model.data_type) == ("cpu", "fp32_fp32")
    assert (model.cl_mem_type, model.winograd, model.quantized) == ("buffer", 4, True)
    assert [tensor.alias for tensor in model.inputs] == ["left", "right"]
    assert [tensor.value_range for tensor in model.inputs] == [(0, 1), (0, 1)]
    assert model.outputs[0].alias is None


def test_the_droidmace_section_is_read(tmp_path: Path) -> None:
    (tmp_path / "mace_run").write_bytes(b"x")
    (tmp_path / "images").write_bytes(b"x")
    text = (
        GOOD
        + """\
droidmace:
  mace_run: {arm64-v8a: mace_run}
  models: {net: {graph_file: net.pb, data_file: net.data}}
  dataset: {images: images, labels: images, mean: 127.5, scale: 127.5, limit: 10}
  tune: {rounds: 7, blocks: 3, startup_runs: 2, timeout_s: 60}
"""
    )
    deployment = load(tmp_path, text)
    assert deployment.mace_run == {"arm64-v8a": tmp_path / "mace_run"}
    assert deployment.models["net"].graph_file == tmp_path / "net.pb"
    assert deployment.dataset is not None
    assert deployment.dataset.preprocess.mean == (127.5,)
    assert deployment.tune.rounds == 7
    assert deployment.tune.timeout_s == 60


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("runtime: gpu", "runtime: fast", 14, "'fast' is not one of"),
        ("runtime: gpu", "runtme: gpu", 14, "models.net.runtme: unknown key"),
        ("platform: onnx", "platform: 3", 5, "'3' is not one of"),
        ("    platform: onnx\n", "", 5, "the key 'platform' is missing"),
        ("1,2,2,3", "1,2,x,3", 9, "expected whole numbers separated by commas"),
        ("1,2,2,3", "1,0,2,3", 9, "a dimension of 0 is not between"),
        ("1,2,2,3", "1,99999999,2,3", 9, "a dimension of 99999999 is not between"),
        ("1,2,2,3", "1000000,1000000,1000000,3", 9, "elements are more than"),
        ('"1,2,2,3", "1,4"', '"1,2,2,3"', 9, "expected 2 shapes, found 1"),
        ("[a, b]", "[a, a]", 8, "a tensor is named twice"),
        ("-1,1", "1,-1", 11, "1 to -1 is not a range"),
        ("-1,1", "-inf,1", 11, "finite numbers"),
        ("  net:", "  ..:", 5, "the first not"),
        ("  net:", "  -net:", 5, "the first not"),
        ("[arm64-v8a]", "[arm64]", 2, "'arm64' is not one of"),
        ("models:\n", "models: {}\nx:\n", 3, "at least one model"),
        ("library_name: lib", "library_name: [lib]", 1, "expected a text, found a list"),
        ("library_name: lib", "library_name: lib\nlibrary_name: two", 2, "written twice"),
        ("  net:", "  ../net:", 5, "a model's name is"),
        ("runtime: gpu", "runtime: gpu\n    cl_mem_type: texture", 15, "'texture' is not one of"),
        ("runtime: gpu", "runtime: gpu\n    winograd: 3", 15, "3 is not one of 0, 2, 4"),
        ("runtime: gpu", "runtime: gpu\n    obfuscate: 2", 15, "expected 0 or 1"),
        ("runtime: gpu", "runtime: gpu\n    input_aliases: [p]", 15, "expected 2 aliases, found 1"),
        ("runtime: gpu", f"runtime: gpu\n    weight_sha256_checksum: {'0' * 64}", 15, "of no file"),
        ("net.onnx", "http://net/net.onnx", 6, "a URL; nothing is downloaded"),
        ('["-1,1", "0,255"]', '["-1,1", "0,255", "0,1"]', 11, "expected 2 ranges, found 3"),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, complaint: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert complaint in str(caught.value)
    assert caught.value.where == f"{tmp_path / 'net.yml'}:{line}"


def test_a_near_miss_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace("runtime:", "runtimes:"))
    assert caught.value.hint == "did you mean 'runtime'?"


@pytest.mark.parametrize(
    ("key", "written", "line"),
    [
        ("subgraphs", "subgraph", 8),
        ("input_tensors", "input_tensor", 8),
        ("output_shapes", "output_shape", 13),
        ("model_file_path", "model_filepath", 6),
    ],
)
def test_a_misspelt_key_that_is_needed_is_named(
    tmp_path: Path, key: str, written: str, line: int
) -> None:
    with pytest.raises(ConfigError, match="unknown key") as caught:
        load(tmp_path, GOOD.replace(f"{key}:", f"{written}:", 1))
    assert caught.value.hint == f"did you mean {key!r}?"
    assert caught.value.where == f"{tmp_path / 'net.yml'}:{line}"


def test_another_key_is_no_misspelling_of_one_that_is_missing(tmp_path: Path) -> None:
    without = GOOD.replace('        input_shapes: ["1,2,2,3", "1,4"]\n', "")
    with pytest.raises(ConfigError, match="the key 'input_shapes' is missing"):
        load(tmp_path, without)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("mace_run: {arm64-v8a: nowhere}", "no such file"),
        ("mace_run: {arm65: net.yml}", "unknown abi"),
        ("models: {other: {graph_file: a, data_file: b}}", "no model of the name 'other'"),
        ("dataset: {labels: net.yml}", "a data set has one of"),
        ("dataset: {images: net.yml, labels: net.yml, scale: 0}", "is not between"),
        ("tune: {rounds: 0}", "0 is not between 1 and"),
        ("tune: {rounds: 1.5}", "expected a whole number"),
        ("tune: {timeout_s: .inf}", "inf"),
    ],
)
def test_mistakes_in_our_own_section(tmp_path: Path, section: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match="net.yml:"):
        load(tmp_path, GOOD + f"droidmace:\n  {section}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD + f"droidmace:\n  {section}\n")
    assert complaint in str(caught.value)


def test_files_that_are_not_a_deployment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_deployment(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="the file is empty"):
        load(tmp_path, "# nothing\n")
    with pytest.raises(ConfigError, match="not YAML"):
        load(tmp_path, "a: [1,\n")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load(tmp_path, "- 1\n")
    with pytest.raises(ConfigError, match="too large"):
        load(tmp_path, "#" * (MAX_BYTES + 1))
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_deployment(tmp_path / "bytes.yml")


def test_tags_build_no_objects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, "!!python/object/apply:os.system ['exit 1']\n")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["models", "library_name", "target_abis", "droidmace", "net", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(document=VALUES, key=st.sampled_from(["models", "droidmace", "target_abis", "net"]))
def test_whatever_is_written_ends_in_a_value_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, document: object, key: str
) -> None:
    base = yaml.safe_load(GOOD)
    if key == "net":
        base["models"]["net"] = document
    else:
        base[key] = document
    path = tmp_path_factory.mktemp("yaml") / "net.yml"
    path.write_text(yaml.safe_dump(base), "utf-8")
    try:
        deployment = load_deployment(path)
    except ConfigError as error:
        assert error.where is not None
        assert str(path) in error.where
    else:
        assert deployment.models
