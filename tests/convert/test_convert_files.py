"""Damaged files, declarations that do not fit, and the workflow that writes the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from droidmace.cli import convert as convert_command
from droidmace.config import ModelConfig, TensorSpec, load_deployment
from droidmace.convert import convert_model
from droidmace.errors import ConfigError, InputError, MissingExtraError, ModelError
from droidmace.workflows.convert import convert_deployment

SAMPLES = Path(__file__).parents[1] / "samples"
TINY_ONNX = (SAMPLES / "tiny.onnx").read_bytes()


def tiny(**changes: object) -> ModelConfig:
    (model,) = load_deployment(SAMPLES / "tiny_gpu.yml").models.values()
    return dataclasses.replace(model, **changes)  # type: ignore[arg-type]


def spec(name: str, *shape: int, data_format: str = "NCHW") -> TensorSpec:
    return TensorSpec(name, shape, data_format=data_format)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (spec("image", 1, 3, 32, 32),)}, "no input 'image'"),
        ({"inputs": (spec("input", 1, 3, 16, 16),)}, "declared as 1,3,16,16 NCHW, the model has"),
        (
            {"inputs": (spec("input", 1, 3, 32, 32, data_format="NHWC"),)},
            "declared as 1,3,32,32 NHWC, the model has 1,3,32,32",
        ),
        ({"inputs": (spec("input", 1, 3, 32, 32, data_format="NONE"),)}, "the format NONE"),
        ({"inputs": ()}, "the model's input 'input' is not declared"),
        ({"outputs": (spec("logits", 1, 10, 1, 1),)}, "no output 'logits'"),
        ({"outputs": (spec("output", 1, 10, data_format="NONE"),)}, "declared as 1,10 NONE"),
        ({"platform": "caffe"}, "platform 'caffe'"),
        ({"runtime": "dsp"}, "runtime 'dsp'"),
        ({"data_type": "bf16_fp32"}, "data type 'bf16_fp32'"),
    ],
)
def test_a_declaration_that_does_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        convert_model(tiny(**changes))
    assert caught.value.hint


def test_a_declaration_in_nhwc_gives_the_same_model() -> None:
    config = tiny(inputs=(spec("input", 1, 32, 32, 3, data_format="NHWC"),))
    assert convert_model(config) == convert_model(tiny())


def test_without_the_onnx_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError) as caught:
        convert_model(tiny())
    assert caught.value.hint == "pip install 'droidmace[convert]'"


# --- the workflow and the command ---------------------------------------------------------------


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A deployment file of its own folder, with the model beside it."""
    shutil.copy(SAMPLES / "tiny.onnx", tmp_path)
    return Path(shutil.copy(SAMPLES / "tiny_gpu.yml", tmp_path))


def edit(path: Path, **model: object) -> None:
    document = yaml.safe_load(path.read_text())
    document["models"]["tiny_gpu"].update(model)
    path.write_text(yaml.safe_dump(document))


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.callback()(lambda: None)
    convert_command.register(app)
    result = CliRunner().invoke(app, ["convert", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_result_goes_beside_the_deployment_file(deployment: Path) -> None:
    (conversion,) = convert_deployment(deployment)
    folder = deployment.parent / "build/tiny/model"
    assert conversion.graph_file == folder / "tiny_gpu.pb"
    assert sorted(path.name for path in folder.iterdir()) == ["tiny_gpu.data", "tiny_gpu.pb"]
    assert conversion.data_file.read_bytes() == (SAMPLES / "tiny_gpu.data").read_bytes()
    graph = conversion.graph_file.read_bytes()
    assert conversion.graph_sha256 == hashlib.sha256(graph).hexdigest()


def test_the_result_goes_where_the_deployment_file_says(deployment: Path) -> None:
    files = {"graph_file": "out/g.pb", "data_file": "out/w.data"}
    document = yaml.safe_load(deployment.read_text())
    document["droidmace"] = {"models": {"tiny_gpu": files}}
    deployment.write_text(yaml.safe_dump(document))
    convert_deployment(deployment)
    assert (deployment.parent / "out/g.pb").is_file()
    assert (deployment.parent / "out/w.data").is_file()


def test_the_command_prints_what_it_made(deployment: Path, tmp_path: Path) -> None:
    text = run("-c", str(deployment), "--output", str(tmp_path / "o"))
    assert "1,482 parameters" in text
    assert "2 Conv2D" in text
    assert str(tmp_path / "o/tiny_gpu/model/tiny_gpu.pb") in text
    document = json.loads(run("-c", str(deployment), "--output", str(tmp_path / "o"), "--json"))
    (model,) = document["models"]
    assert model["data_bytes"] == 5928
    assert model["ops"]["FullyConnected"] == 1
    assert Path(model["data_file"]).stat().st_size == 5928


def test_a_wrong_checksum_is_refused_with_both_values(deployment: Path) -> None:
    edit(deployment, model_sha256_checksum="0" * 64)
    with pytest.raises(ConfigError) as caught:
        convert_deployment(deployment)
    assert "0" * 64 in str(caught.value)
    assert hashlib.sha256(TINY_ONNX).hexdigest() in str(caught.value)
    assert caught.value.hint
    assert not (deployment.parent / "build").exists()


def test_a_missing_model_file(deployment: Path) -> None:
    (deployment.parent / "tiny.onnx").unlink()
    with pytest.raises(ConfigError, match=r"no such file: .*tiny\.onnx"):
        convert_deployment(deployment)


def test_an_unknown_model_name(deployment: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'other'") as caught:
        convert_deployment(deployment, model_name="other")
    assert caught.value.hint == "models there: tiny_gpu"


def test_one_bad_model_leaves_nothing_behind(deployment: Path) -> None:
    document = yaml.safe_load(deployment.read_text())
    good = document["models"]["tiny_gpu"]
    bad = json.loads(json.dumps(good))
    bad["subgraphs"][0]["output_tensors"] = ["nowhere"]
    document["models"]["bad"] = bad
    deployment.write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(ModelError, match="nowhere"):
        convert_deployment(deployment)
    assert not (deployment.parent / "build").exists()
    assert len(convert_deployment(deployment, model_name="tiny_gpu")) == 1


def test_a_target_that_cannot_be_written(deployment: Path) -> None:
    blocker = deployment.parent / "file"
    blocker.write_text("in the way")
    with pytest.raises(InputError, match="cannot be written") as caught:
        convert_deployment(deployment, output=blocker / "folder")
    assert caught.value.hint == "choose another folder with --output"
    assert blocker.read_text() == "in the way"


@pytest.mark.parametrize("weights", [None, b"of an earlier conversion"])
def test_a_graph_that_cannot_be_written_leaves_the_older_weights(
    deployment: Path, weights: bytes | None
) -> None:
    folder = deployment.parent / "out/tiny_gpu/model"
    (folder / "tiny_gpu.pb").mkdir(parents=True)
    if weights is not None:
        (folder / "tiny_gpu.data").write_bytes(weights)
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=r"tiny_gpu\.pb: cannot be written: Is a directory"):
        convert_deployment(deployment, output=deployment.parent / "out")
    assert sorted(folder.iterdir()) == before
    if weights is not None:
        assert (folder / "tiny_gpu.data").read_bytes() == weights
