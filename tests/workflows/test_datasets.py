"""Every kind of data set through the one door, and into what tune sends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from droidmace.config import DatasetConfig, Deployment, load_deployment
from droidmace.errors import ConfigError, InputError
from droidmace.validation.pipeline import prepared
from droidmace.validation.sources.entry_point import EntryPointSource
from droidmace.validation.sources.idx import IdxSource
from droidmace.validation.sources.image_folder import ImageFolderSource
from droidmace.validation.sources.npz import NpzSource
from droidmace.validation.sources.plugin import AccuracyPlugin
from droidmace.workflows import samples as samples_module
from droidmace.workflows.datasets import dataset_from_option, open_source, preprocess_of
from droidmace.workflows.samples import load_samples
from tests.validation.labelled_files import noise, write_idx, write_images, write_text

IMAGES = noise(4, 6, 6, 3)
LABELS = np.array([3, 1, 2, 0], np.uint8)

PLUGIN = """\
import numpy as np
class AccuracyValidator:
    def sample_size(self): return 4
    def batch_size(self): return 1
    def preprocess(self, begin, end):
        images = np.load({path!r})["images"][begin:end].astype(np.float32)
        return {{"x": (images - 3) / 2}}
    def postprocess(self, begin, end, outputs): pass
    def result(self): print("done")
"""
FUNCTION = """\
import numpy as np
def load():
    images = np.load({path!r})["images"]
    return [(image, label) for image, label in zip(images, [3, 1, 2, 0])]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same four images in all kinds of data sets."""
    write_images(tmp_path / "images", {f"{n}.png": image for n, image in enumerate(IMAGES)})
    write_text(tmp_path / "labels.txt", *(str(label) for label in LABELS))
    write_idx(tmp_path / "images.idx.gz", IMAGES)
    write_idx(tmp_path / "labels.idx", LABELS)
    np.savez_compressed(tmp_path / "set.npz", images=IMAGES, labels=LABELS)
    arrays = str(tmp_path / "set.npz")
    (tmp_path / "plugin.py").write_text(PLUGIN.format(path=arrays), "utf-8")
    (tmp_path / "workflows_data.py").write_text(FUNCTION.format(path=arrays), "utf-8")
    return tmp_path


def deployment(folder: Path, dataset: str, layout: str = "NHWC", inputs: str = "x") -> Deployment:
    shape = "1,6,6,3" if layout == "NHWC" else "1,3,6,6"
    many = len(inputs.split(","))
    text = f"""\
library_name: lib
target_abis: [host]
models:
  net:
    platform: onnx
    model_file_path: net.onnx
    input_tensors: [{inputs}]
    input_shapes: {[shape] * many}
    input_data_formats: {layout}
    output_tensors: y
    output_shapes: "1,4"
droidmace:
  dataset: {{{dataset}}}
"""
    (folder / "net.yml").write_text(text, "utf-8")
    return load_deployment(folder / "net.yml")


KINDS = {
    "images: images, labels: labels.txt, mean: 3, scale: 2": ImageFolderSource,
    "images: images.idx.gz, labels: labels.idx, mean: 3, scale: 2": IdxSource,
    "images: images.idx.gz, labels: labels.txt, mean: 3, scale: 2": IdxSource,
    "arrays: set.npz, mean: 3, scale: 2": NpzSource,
    "entry_point: 'workflows_data:load', mean: 3, scale: 2": EntryPointSource,
    "plugin: plugin.py": AccuracyPlugin,
}


@pytest.mark.parametrize("text", KINDS)
def test_the_same_images_from_every_kind(folder: Path, text: str) -> None:
    found = deployment(folder, text)
    dataset, model = found.dataset, found.models["net"]
    assert dataset is not None
    source = open_source(dataset, model.inputs, outputs=model.outputs, allow_plugin=True)
    assert type(source) is KINDS[text]
    samples = list(prepared(source, preprocess_of(dataset), model.inputs, 0, 4, workers=2))
    expected = (IMAGES.astype(np.float32) - np.float32(3)) / np.float32(2)
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.inputs["x"], expected[index : index + 1])
        assert sample.label == (None if text.startswith("plugin") else LABELS[index])


@pytest.mark.parametrize("kind", ["images: images, labels: labels.txt", "arrays: set.npz"])
def test_tune_takes_every_kind(folder: Path, kind: str) -> None:
    for layout in ("NHWC", "NCHW"):
        found = deployment(folder, f"{kind}, limit: 3", layout)
        samples = load_samples(found, found.models["net"], None)
        assert samples.labels is not None
        assert samples.labels.tolist() == [3, 1, 2]
        order = (0, 3, 1, 2) if layout == "NCHW" else (0, 1, 2, 3)
        raw = IMAGES[:3].transpose(order).astype("<f4")
        assert [sample["x"] for sample in samples.inputs] == [image.tobytes() for image in raw]
        assert len(load_samples(found, found.models["net"], 2).inputs) == 2


def test_tune_takes_ready_inputs_of_several_tensors(folder: Path) -> None:
    first, second = noise(4, 6, 6, 3, seed=5).astype(np.float32), noise(4, 6, 6, 3, seed=6)
    np.savez(folder / "two.npz", x=first, z=second, labels=LABELS)
    found = deployment(folder, "arrays: two.npz", inputs="x,z")
    samples = load_samples(found, found.models["net"], None)
    assert samples.inputs[2]["x"] == first[2].tobytes()
    assert samples.inputs[2]["z"] == second[2].astype("<f4").tobytes()


def test_what_tune_refuses(folder: Path) -> None:
    found = deployment(folder, "images: images", inputs="x,z")
    with pytest.raises(ConfigError, match="needs a model with one input and one output"):
        load_samples(found, found.models["net"], None)
    found = deployment(folder, "images: images")
    with pytest.raises(InputError, match="a limit of 0"):
        load_samples(found, found.models["net"], 0)
    found = deployment(folder, "plugin: plugin.py")
    with pytest.raises(ConfigError, match="for 'droidmace validate'"):
        load_samples(found, found.models["net"], None)


def test_tune_takes_what_fits_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = deployment(folder, "images: images")
    one = load_samples(found, found.models["net"], 1)
    assert len(load_samples(found, found.models["net"], None).inputs) > 1
    monkeypatch.setattr(samples_module, "_MOST_BYTES", one.size_bytes)
    assert len(load_samples(found, found.models["net"], None).inputs) == 1
    # Who says how many gets them.
    assert len(load_samples(found, found.models["net"], 2).inputs) == 2


def test_a_data_set_by_its_path(folder: Path) -> None:
    base = DatasetConfig(
        images=folder / "images",
        classes=folder / "labels.txt",
        synset=folder / "x",
        limit=3,
        label_offset=1,
    )
    assert dataset_from_option(folder / "set.npz", None, base) == DatasetConfig(
        arrays=folder / "set.npz", classes=folder / "labels.txt", label_offset=1
    )
    assert dataset_from_option(folder / "images", folder / "labels.txt", base) == DatasetConfig(
        images=folder / "images",
        labels=folder / "labels.txt",
        classes=folder / "labels.txt",
        synset=folder / "x",
        label_offset=1,
    )
    assert dataset_from_option(folder / "images.idx.gz").images == folder / "images.idx.gz"
    with pytest.raises(InputError, match="no such file or folder"):
        dataset_from_option(folder / "nowhere")


def test_lists_that_are_for_folders(folder: Path) -> None:
    dataset = DatasetConfig(images=folder / "images.idx.gz", blacklist=folder / "labels.txt")
    with pytest.raises(InputError, match="are for folders of images"):
        open_source(dataset)
