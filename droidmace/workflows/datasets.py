"""From a deployment file's data set to samples: the only place that knows all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from droidmace.config import DatasetConfig
from droidmace.errors import InputError
from droidmace.validation.labels import ClassNames, read_labels
from droidmace.validation.layouts import TensorLike
from droidmace.validation.preprocess import Crop, Preprocess, Resize
from droidmace.validation.samples import SampleSource
from droidmace.validation.sources.entry_point import EntryPointSource
from droidmace.validation.sources.idx import IdxSource
from droidmace.validation.sources.image_folder import open_image_folder
from droidmace.validation.sources.npz import NpzSource
from droidmace.validation.sources.plugin import AccuracyPlugin


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
    inputs: Sequence[TensorLike] = (),
    *,
    outputs: Sequence[TensorLike] = (),
    allow_plugin: bool = False,
    limit: int | None = None,
) -> SampleSource:
    """The data set's samples for a model with ``inputs`` and ``outputs``.

    ``allow_plugin``: whether code that the deployment file names may run. ``limit``: how many of
    the samples will be asked for, for a plugin that counts them itself.

    Raises ``InputError`` or ``FormatError`` naming the file, the sample or the class.
    """
    if dataset.plugin is not None:
        return AccuracyPlugin(dataset.plugin, inputs, outputs, allow=allow_plugin, limit=limit)
    if dataset.entry_point is not None:
        return EntryPointSource(dataset.entry_point, dataset.folder, allow=allow_plugin)
    if dataset.images is not None and dataset.images.is_dir():
        return open_image_folder(
            dataset.images,
            labels=dataset.labels,
            classes=dataset.classes,
            synset=dataset.synset,
            blacklist=dataset.blacklist,
            label_offset=dataset.label_offset,
        )
    classes = ClassNames.read(dataset.classes, dataset.label_offset)
    labels = read_labels(dataset.labels, classes) if dataset.labels else None
    if dataset.arrays is not None:
        return NpzSource(dataset.arrays, inputs, classes, labels)
    if dataset.images is None:
        raise InputError("no data set", hint="add droidmace.dataset to the deployment file")
    if dataset.synset or dataset.blacklist:
        raise InputError(
            "synset and blacklist are for folders of images",
            where=str(dataset.images),
            hint="remove them from droidmace.dataset",
        )
    return IdxSource(dataset.images, labels, classes.names)


def dataset_from_option(
    path: Path, labels: Path | None = None, base: DatasetConfig | None = None
) -> DatasetConfig:
    """A data set by its path alone: a folder of images, an ``.npz`` file, or IDX images.

    ``base`` is the one of the deployment file: its preprocessing and its classes stay.

    Raises ``InputError`` if there is nothing.
    """
    if not path.exists():
        raise InputError("no such file or folder", where=str(path), hint="check the path")
    kept = base or DatasetConfig()
    arrays = path.suffix.lower() == ".npz" and not path.is_dir()
    return DatasetConfig(
        images=None if arrays else path,
        arrays=path if arrays else None,
        labels=labels,
        classes=kept.classes,
        synset=kept.synset if path.is_dir() else None,
        blacklist=kept.blacklist if path.is_dir() else None,
        label_offset=kept.label_offset,
        preprocess=kept.preprocess,
        folder=kept.folder,
    )
