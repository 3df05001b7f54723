"""The data set and the validation of a deployment file, and their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.config import (
    CropConfig,
    DatasetConfig,
    Deployment,
    ModelConfig,
    PreprocessConfig,
    ResizeConfig,
    ValidateConfig,
    ValidationGates,
    load_deployment,
)
from droidmace.errors import ConfigError

BASE = """\
library_name: lib
target_abis: [arm64-v8a]
models:
  net:
    platform: onnx
    model_file_path: net.onnx
    input_tensors: a
    input_shapes: "1,2,2,3"
    output_tensors: b
    output_shapes: "1,10"
"""


def load(tmp_path: Path, section: str, model: str = "") -> Deployment:
    (tmp_path / "file").touch()
    (tmp_path / "val").mkdir(exist_ok=True)
    path = tmp_path / "net.yml"
    path.write_text(f"{BASE}{model}droidmace:\n  {section}\n", "utf-8")
    return load_deployment(path)


def dataset(tmp_path: Path, text: str) -> DatasetConfig:
    found = load(tmp_path, f"dataset: {{{text}}}").dataset
    assert found is not None
    return found


def model(tmp_path: Path, text: str) -> ModelConfig:
    return load(tmp_path, "tune: {}", f"    {text}\n").models["net"]


def test_a_folder_with_all_there_is(tmp_path: Path) -> None:
    found = dataset(
        tmp_path,
        "images: val, labels: file, classes: file, synset: file, blacklist: file, limit: 7, "
        "label_offset: 1, preprocess: {resize: {size: 256, interpolation: bicubic}, "
        "crop: {size: 224}, mean: [1, 2.5, 3], scale: 58.5, channels: bgr}",
    )
    assert found.images == tmp_path / "val"
    assert found.labels == found.classes == found.synset == found.blacklist == tmp_path / "file"
    assert (found.limit, found.label_offset, found.folder) == (7, 1, tmp_path)
    assert found.preprocess == PreprocessConfig(
        resize=ResizeConfig((256, 256), "bicubic", shorter=True),
        crop=CropConfig((224, 224)),
        mean=(1.0, 2.5, 3.0),
        scale=(58.5,),
        channels="bgr",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size: [32, 48]", ResizeConfig((32, 48))),
        ("size: 32, fit: exact", ResizeConfig((32, 32))),
        ("size: [32], fit: shorter", ResizeConfig((32, 32), shorter=True)),
    ],
)
def test_how_images_are_made_to_fit(tmp_path: Path, text: str, expected: ResizeConfig) -> None:
    found = dataset(tmp_path, f"images: val, preprocess: {{resize: {{{text}}}}}")
    assert found.preprocess.resize == expected


@pytest.mark.parametrize(("text", "at"), [("center", None), ("[0, 3]", (0, 3))])
def test_where_a_crop_is(tmp_path: Path, text: str, at: tuple[int, int] | None) -> None:
    found = dataset(tmp_path, f"images: val, preprocess: {{crop: {{size: [4, 5], at: {text}}}}}")
    assert found.preprocess.crop == CropConfig((4, 5), at)


def test_the_other_kinds(tmp_path: Path) -> None:
    assert dataset(tmp_path, "arrays: file, mean: 2, scale: [3]").preprocess == PreprocessConfig(
        mean=(2.0,), scale=(3.0,)
    )
    assert dataset(tmp_path, "plugin: file, limit: 3").plugin == tmp_path / "file"
    assert dataset(tmp_path, "entry_point: 'my.data:load'").entry_point == "my.data:load"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("limit: 3", "a data set has one of images, arrays, plugin, entry_point; found none"),
        ("images: val, arrays: file", "found images and arrays"),
        ("images: nowhere", "no such file"),
        ("arrays: val", "no such file"),
        ("arrays: file, synset: file", "dataset.synset: does not go with this kind"),
        ("plugin: file, labels: file", "dataset.labels: does not go with .*brings its own labels"),
        ("plugin: file, scale: 2", "dataset.scale: does not go with .*prepares its own inputs"),
        ("entry_point: load", "'load' is no entry point"),
        ("entry_point: 'os; rm:x'", "is no entry point"),
        ("images: val, scale: 0", "0 is not between 1e-06 and"),
        ("images: val, mean: []", "expected a number, or one per channel; found 0"),
        ("images: val, mean: [1, 2, 3, 4, 5]", "found 5"),
        ("images: val, scale: 2, preprocess: {}", "dataset.scale: written beside preprocess"),
        ("images: val, preprocess: {resise: {}}", "resise: unknown key"),
        ("images: val, preprocess: {resize: {}}", "the key 'size' is missing"),
        ("images: val, preprocess: {resize: {size: 0}}", "0 is not between 1 and 16384"),
        ("images: val, preprocess: {resize: {size: [1, 2, 3]}}", "expected one number, or"),
        ("images: val, preprocess: {resize: {size: 4, interpolation: cubic}}", "'cubic' is not"),
        ("images: val, preprocess: {resize: {size: [4, 4], fit: shorter}}", "height and width are"),
        ("images: val, preprocess: {crop: {size: 4, at: top}}", "expected a whole number"),
        ("images: val, preprocess: {crop: {size: 4, at: [1]}}", "expected center, or"),
        ("images: val, preprocess: {channels: rgba}", "'rgba' is not one of rgb, bgr, gray"),
        ("images: val, preprocess: {channels: gray, mean: [1, 2, 3]}", "3 numbers for 1 channels"),
        ("images: val, preprocess: {channels: rgb, scale: [1, 2]}", "2 numbers for 3 channels"),
        ("images: val, limit: 0", "0 is not between 1 and"),
    ],
)
def test_mistakes_in_a_data_set(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        dataset(tmp_path, text)
    assert caught.value.where is not None
    assert caught.value.where.startswith(str(tmp_path / "net.yml") + ":")


def test_how_a_model_is_validated(tmp_path: Path) -> None:
    assert load(tmp_path, "tune: {}").validate == ValidateConfig()
    found = load(
        tmp_path,
        "validate: {against: cpu, storage_share: 0.1, chunk_samples: 8, tolerance: 0.01, "
        "confidence: 0.99, timeout_s: 60, gates: {top1: 0.9, cosine: 0.999, non_finite: 0}}",
    ).validate
    assert found == ValidateConfig(
        "cpu", 0.1, 8, 0.01, 0.99, 60.0, ValidationGates(top1=0.9, cosine=0.999, non_finite=0.0)
    )
    assert found.gates.wanted == {"top1": 0.9, "cosine": 0.999, "non_finite": 0.0}
    assert load(tmp_path, "validate: {against: file}").validate.against == tmp_path / "file"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("against: nowhere", "no such file"),
        ("storage_share: 1.5", "1.5 is not between"),
        ("gates: {top1: 90}", "90 is not between 0 and 1"),
        ("gates: {top3: 0.9}", "unknown key"),
        ("confidence: 1", "1 is not between"),
    ],
)
def test_mistakes_in_a_validation(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, f"validate: {{{text}}}")


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("runtime: gpu", 0.995),
        ("runtime: cpu", 0.999),
        ("runtime: cpu+gpu", 0.995),
        ("runtime: dsp", 0.98),
        ("quantize: 1", 0.98),
        ("validation_threshold: {GPU: 0.9}", 0.9),
        ("validation_threshold: {gpu: 0.9, DSP: 0.7}", 0.9),
        ("validation_threshold: {CPU: 0.9}", 0.995),
    ],
)
def test_maces_thresholds(tmp_path: Path, text: str, threshold: float) -> None:
    assert model(tmp_path, text).similarity_threshold == threshold


def test_dsp_is_hexagon(tmp_path: Path) -> None:
    found = model(
        tmp_path, "{runtime: dsp, validation_threshold: {dsp: 0.5}}"[1:-1].replace(", v", "\n    v")
    )
    assert found.similarity_threshold == 0.5


@pytest.mark.parametrize("text", ["val.py", "[val.py]"])
def test_maces_plugin_and_backend(tmp_path: Path, text: str) -> None:
    found = model(tmp_path, f"accuracy_validation_script: {text}\n    backend: pytorch")
    assert found.accuracy_validation_script == tmp_path / "val.py"
    assert found.backend == "pytorch"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("validation_threshold: {VPU: 0.5}", "unknown runtime 'VPU'"),
        ("validation_threshold: {GPU: 2}", "2 is not between -1 and 1"),
        ("validation_threshold: 0.9", "expected a mapping"),
        ("accuracy_validation_script: [a.py, b.py]", "one script, found 2"),
    ],
)
def test_mistakes_in_a_model(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        model(tmp_path, text)


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.sampled_from(["val", "center", "rgb"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["images", "preprocess", "resize", "crop", "size", "at", "mean"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_data_set_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    import yaml

    path = tmp_path_factory.mktemp("config") / "net.yml"
    text = yaml.safe_dump({"droidmace": {"dataset": value}})
    path.write_text(BASE + text, "utf-8")
    try:
        found = load_deployment(path, check_files=False).dataset
    except ConfigError as error:
        assert error.where is not None
    else:
        assert found is None or found.images is not None
