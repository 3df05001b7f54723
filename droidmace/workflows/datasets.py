"""From a deployment file's data set to samples: the only place that knows all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from droidmace.config import DatasetConfig
from droidmace.errors import InputError
from droidmace.validation.labels import ClassNames, read_labels
from droidmace.validation.preprocess import Crop, Preprocess, Resize
from droidmace.validation.samples import InputTensor, SampleSource
from droidmace.validation.sources.idx import IdxSource


def preprocess_of(dataset: DatasetConfig) -> Preprocess:
    """The file's preprocessing as something that can be done."""
    config = dataset.preprocess
    resize, crop = config.resize, config.crop
    return Preprocess(
        resize=(
            Resize(resize.size, resize.interpolation, shorter=resize.shorter) if resize else None
        ),
        crop=Crop(crop.size, crop.at) if crop else None,
        mean=config.mean,
        scale=config.scale,
        channels=config.channels,
    )


def open_source(
    dataset: DatasetConfig,
    inputs: Sequence[InputTensor] = (),
    *,
    outputs: Sequence[InputTensor] = (),
    allow_plugin: bool = False,
    limit: int | None = None,
) -> SampleSource:
    """The data set's samples for a model with ``inputs`` and ``outputs``.

    ``allow_plugin``: whether code that the deployment file names may run. ``limit``: how many of
    the samples will be asked for, for a plugin that counts them itself.

    Raises ``InputError`` or ``FormatError`` naming the file, the sample or the class.
    """
    classes = ClassNames.read(dataset.classes, dataset.label_offset)
    if dataset.images is not None and not dataset.images.is_dir():
        labels = read_labels(dataset.labels, classes) if dataset.labels else None
        return IdxSource(dataset.images, labels, classes.names)
    raise InputError("this kind of data set cannot be read", hint="give IDX images")


def dataset_from_option(path: Path, labels: Path | None = None) -> DatasetConfig:
    """A data set by its path alone: a folder of images, an ``.npz`` file, or IDX images.

    Raises ``InputError`` if there is nothing.
    """
    if not path.exists():
        raise InputError("no such file or folder", where=str(path), hint="check the path")
    if path.suffix.lower() == ".npz":
        return DatasetConfig(arrays=path, labels=labels)
    return DatasetConfig(images=path, labels=labels)
