"""The example is what its model card says."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from droidmace.config import load_deployment

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/fashion_mnist"
IMAGES = EXAMPLE / "t10k-first1000-images-idx3-ubyte.gz"
LABELS = EXAMPLE / "t10k-first1000-labels-idx1-ubyte.gz"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """``train.py`` as a module: it needs no PyTorch until it trains."""
    spec = importlib.util.spec_from_file_location("fashion_mnist_train", EXAMPLE / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def metrics() -> dict[str, object]:
    return json.loads((EXAMPLE / "metrics.json").read_text(encoding="utf-8"))


def test_the_card_states_what_was_measured(metrics: dict[str, float]) -> None:
    card = " ".join((EXAMPLE / "README.md").read_text(encoding="utf-8").split())
    by_class = metrics["top1_test_10000_by_class"]
    for text in (
        f"| Top-1, all 10,000 test images | {metrics['top1_test_10000'] * 100:.2f} % |",
        f"| Top-1, the first 1,000 test images | {metrics['top1_test_first_1000'] * 100:.2f} % |",
        f"| Parameters | {metrics['parameters']:,} (",
        f"| Multiply-accumulates | {metrics['macs']:,} per image |",
        f"It took {metrics['training_seconds']} seconds",
        f"{metrics['recipe']['epochs']} epochs of AdamW",
        f"peak {metrics['recipe']['peak_learning_rate']})",
        f"batches of {metrics['recipe']['batch_size']}",
        f"label smoothing {metrics['recipe']['label_smoothing']},",
        f"seed {metrics['recipe']['seed']}.",
        f"{60_000 - metrics['recipe']['hold_out']:,} images",
        "| " + " | ".join(f"{share * 100:.1f} %" for share in by_class) + " |",
    ):
        assert text in card


def test_the_model_is_small_and_good_enough(metrics: dict[str, float]) -> None:
    assert metrics["parameters"] < 100_000
    assert metrics["top1_test_10000"] >= 0.91


def test_parameters_and_work_are_those_of_the_model(
    script: ModuleType, metrics: dict[str, float]
) -> None:
    counted = script.count_parameters_and_macs(EXAMPLE / "fashion_mnist.onnx")
    assert counted == (metrics["parameters"], metrics["macs"])


def test_top1_on_the_committed_images(script: ModuleType, metrics: dict[str, float]) -> None:
    images, labels = script.read_idx(IMAGES), script.read_idx(LABELS)
    correct = script.correct_answers(EXAMPLE / "fashion_mnist.onnx", images, labels)
    assert len(correct) == 1000
    assert correct.mean() == metrics["top1_test_first_1000"]


def test_the_committed_images(script: ModuleType) -> None:
    images, labels = script.read_idx(IMAGES), script.read_idx(LABELS)
    assert images.shape == (1000, 28, 28)
    assert labels.shape == (1000,)
    assert set(labels.tolist()) == set(range(10))
    assert IMAGES.stat().st_size + LABELS.stat().st_size < 500_000
    for path, values in ((IMAGES, images), (LABELS, labels)):
        packed = path.read_bytes()
        assert packed[4:8] == bytes(4), "a time in the gzip header changes with every run"
        # Compressors differ between zlib releases; what they hold does not.
        assert gzip.decompress(script.idx_gz(values)) == gzip.decompress(packed)


def test_the_committed_images_are_the_first_of_the_test_set(script: ModuleType) -> None:
    if not script.DEBIAN_DATASET.is_dir():
        pytest.fail("Debian's dataset-fashion-mnist is not installed: make test installs it")
    images, labels = script.load_split(script.DEBIAN_DATASET, "t10k")
    np.testing.assert_array_equal(script.read_idx(IMAGES), images[:1000])
    np.testing.assert_array_equal(script.read_idx(LABELS), labels[:1000])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x0d\x01" + bytes(8),
        b"\x00\x00\x08\x03\x00",
        b"\x00\x00\x08\x01\x00\x00\x00\x05abc",
    ],
    ids=["empty", "floats", "cut off in the header", "cut off in the data"],
)
def test_a_damaged_data_file_is_named(script: ModuleType, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(SystemExit, match=r"images\.gz"):
        script.read_idx(path)


def test_the_deployment_file_names_this_model() -> None:
    model = load_deployment(ROOT / "configs/fashion_mnist.yml").models["fashion_mnist"]
    content = (EXAMPLE / "fashion_mnist.onnx").read_bytes()
    assert model.model_sha256 == hashlib.sha256(content).hexdigest()
