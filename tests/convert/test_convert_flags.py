"""Flags of MACE's converter, in both spellings, and deployments of several models."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from droidmace.errors import ConfigError, InputError
from droidmace.workflows.convert import convert_deployment

SAMPLES = Path(__file__).parents[1] / "samples"
BOARDS = """\
devices:
  nanopi:
    target_abis: [arm64, armhf]
    target_socs: RK3399
    address: 10.0.0.1
  raspberry:
    target_abis: [armhf]
    target_socs: BCM2837
    address: 10.0.0.2
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A deployment file with two models, and a device file beside it."""
    shutil.copy(SAMPLES / "tiny.onnx", tmp_path)
    document = yaml.safe_load((SAMPLES / "tiny_gpu.yml").read_text())
    model = document["models"].pop("tiny_gpu")
    document["models"] = {"on_gpu": model, "on_cpu": {**model, "runtime": "cpu"}}
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump(document))
    (tmp_path / "devices.yml").write_text(BOARDS)
    return path


def droidmace(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "droidmace", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def convert(*arguments: object) -> list[dict[str, Any]]:
    done = droidmace("convert", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    models: list[dict[str, Any]] = json.loads(done.stdout)["models"]
    return models


@pytest.mark.parametrize("joint", ["-", "_"])
def test_maces_flags_in_both_spellings(deployment: Path, joint: str) -> None:
    folder = deployment.parent
    (model,) = convert(
        f"--config={deployment}",
        f"--model{joint}name=on_cpu",
        f"--target{joint}abi=aarch64-linux-gnu,arm64-v8a",
        f"--target{joint}socs=RK3399",
        f"--device{joint}conf={folder / 'devices.yml'}",
        f"--output={folder / 'build'}",
    )
    assert model["model"] == "on_cpu"
    assert model["runtime"] == "cpu"
    assert model["target_abis"] == ["aarch64-linux-gnu", "arm64-v8a"]
    assert model["target_socs"] == ["RK3399"]
    assert model["boards"] == ["nanopi"]
    # MACE's own tools look there for a converted model.
    assert model["graph_file"] == str(folder / "build/on_cpu/model/on_cpu.pb")
    assert sorted(path.name for path in (folder / "build").rglob("*.*")) == [
        "on_cpu.data",
        "on_cpu.pb",
    ]


def test_all_models_without_a_name(deployment: Path) -> None:
    cpu, gpu = convert_deployment(deployment, output=deployment.parent / "o")
    assert (cpu.model, gpu.model) == ("on_cpu", "on_gpu")
    assert gpu.graph_file.read_bytes() != cpu.graph_file.read_bytes()
    assert gpu.data_file.read_bytes() == cpu.data_file.read_bytes()
    assert gpu.targets.abis == ("host",)
    assert gpu.targets.socs == ("all",)


@pytest.mark.parametrize(("socs", "kept"), [("random", ("all",)), ("all", ("all",))])
def test_any_phone(deployment: Path, socs: str, kept: tuple[str, ...]) -> None:
    first, _ = convert_deployment(deployment, target_socs=socs)
    assert first.targets.socs == kept


def test_an_unknown_abi(deployment: Path) -> None:
    done = droidmace("convert", "--config", deployment, "--target_abi", "arm65")
    assert done.returncode == 2
    assert "error: unknown abi 'arm65'" in done.stderr
    assert not (deployment.parent / "build").exists()


def test_a_missing_device_file(deployment: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        convert_deployment(deployment, device_conf=deployment.parent / "none.yml")


def edit(path: Path, **keys: object) -> None:
    document = yaml.safe_load(path.read_text())
    for model in document["models"].values():
        model.update(keys)
    path.write_text(yaml.safe_dump(document))


def test_checksums_of_model_and_weights(deployment: Path) -> None:
    weights = deployment.parent / "tiny.weights"
    weights.write_bytes(b"12345")
    right, wrong = hashlib.sha256(b"12345").hexdigest(), "f" * 64
    edit(deployment, weight_file_path="tiny.weights", weight_sha256_checksum=right)
    assert len(convert_deployment(deployment)) == 2
    edit(deployment, weight_sha256_checksum=wrong)
    with pytest.raises(ConfigError, match=f"weight_sha256_checksum is {wrong}") as caught:
        convert_deployment(deployment)
    assert right in str(caught.value)
    edit(deployment, weight_sha256_checksum=right, model_sha256_checksum=wrong)
    with pytest.raises(ConfigError, match=f"model_sha256_checksum is {wrong}"):
        convert_deployment(deployment)
    weights.unlink()
    with pytest.raises(ConfigError, match=r"weight_file_path: no such file: .*tiny\.weights"):
        convert_deployment(deployment)


def test_a_model_that_would_have_to_be_downloaded(deployment: Path) -> None:
    edit(deployment, model_file_path="https://example.org/tiny.onnx")
    with pytest.raises(ConfigError, match="a URL; nothing is downloaded"):
        convert_deployment(deployment)


def test_a_folder_in_the_way(deployment: Path) -> None:
    (deployment.parent / "o").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        convert_deployment(deployment, output=deployment.parent / "o")
