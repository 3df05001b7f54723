"""The data set a model is checked with: the section ``droidmace: dataset:``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from droidmace.config.paths import beside
from droidmace.yamltree import YamlMapping, YamlNode

Channels = Literal["rgb", "bgr", "gray"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
CHANNELS: tuple[Channels, ...] = get_args(Channels)
KINDS = ("images", "arrays", "plugin", "entry_point")
"""The keys of which a data set has exactly one."""

MAX_SIDE = 16_384
MAX_LIMIT = 1_000_000_000
MAX_CHANNELS = 4
_ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ResizeConfig:
    """``size`` is (height, width); with ``shorter`` both are the length of the shorter side."""

    size: tuple[int, int]
    interpolation: Interpolation = "bilinear"
    shorter: bool = False


@dataclass(frozen=True, slots=True)
class CropConfig:
    """``size`` is (height, width); ``at`` is (top, left), None for the middle."""

    size: tuple[int, int]
    at: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PreprocessConfig:
    """How pixels become an input, in this order: channels, resize, crop, values.

    ``value = (pixel - mean) / scale`` in float32, with one number for all channels or one per
    channel in the order of ``channels`` (None: as the data set has them).
    """

    resize: ResizeConfig | None = None
    crop: CropConfig | None = None
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    channels: Channels | None = None


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """Where samples and labels are; one of ``images, arrays, plugin, entry_point`` is given.

    ``images``: IDX images (plain or gzip) or a folder of images. ``arrays``: an ``.npz`` file.
    ``plugin``: a script with MACE's ``AccuracyValidator``. ``entry_point``: ``module:function``,
    looked for among installed modules and in ``folder``.
    """

    images: Path | None = None
    labels: Path | None = None
    classes: Path | None = None
    """The classes' names in the order of the model's output, one a line."""
    synset: Path | None = None
    """The synset of each number in ImageNet's ground truth, one a line."""
    blacklist: Path | None = None
    """Images that are left out: names or ImageNet's numbers, one a line."""
    arrays: Path | None = None
    plugin: Path | None = None
    entry_point: str | None = None
    limit: int | None = None
    label_offset: int = 0
    """Added to every label, for nets with a class 0 that the data set does not know."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    folder: Path | None = None

    @classmethod
    def read(
        cls, node: YamlNode, path: Path, file_at: Callable[[YamlNode, Path], Path]
    ) -> DatasetConfig:
        """From the section of the deployment file ``path``.

        ``file_at`` says where a named file is and whether it must be there.

        Raises ``ConfigError``.
        """
        entry = node.mapping()

        def file(key: str) -> Path | None:
            child = entry.get(key)
            return file_at(child, path) if child else None

        images, entry_point = entry.get("images"), entry.get("entry_point")
        limit, offset = entry.get("limit"), entry.get("label_offset")
        dataset = cls(
            images=_images(images, path, file_at) if images else None,
            labels=file("labels"),
            classes=file("classes"),
            synset=file("synset"),
            blacklist=file("blacklist"),
            arrays=file("arrays"),
            plugin=file("plugin"),
            entry_point=_entry_point(entry_point) if entry_point else None,
            limit=limit.integer(1, MAX_LIMIT) if limit else None,
            label_offset=offset.integer(-10_000, 10_000) if offset else 0,
            preprocess=_preprocess(entry),
            folder=path.parent,
        )
        given = [key for key in KINDS if getattr(dataset, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise node.error(
                f"a data set has one of {', '.join(KINDS)}; found {found}",
                hint="images: a folder or IDX file; arrays: an .npz file",
            )
        if given[0] in ("plugin", "entry_point"):
            _refuse(entry, ("labels", "synset", "blacklist"), f"{given[0]} brings its own labels")
        if given[0] == "arrays":
            _refuse(entry, ("synset", "blacklist"), "it is for folders of images")
        if given[0] == "plugin":
            _refuse(entry, ("preprocess", "mean", "scale"), "plugin prepares its own inputs")
        entry.done()
        return dataset


def _refuse(entry: YamlMapping, keys: tuple[str, ...], why: str) -> None:
    for key in keys:
        if child := entry.get(key):
            raise child.error(f"does not go with this kind of data set: {why}", hint="remove it")


def _images(node: YamlNode, path: Path, file_at: Callable[[YamlNode, Path], Path]) -> Path:
    """A file as any other, or a folder."""
    place = beside(node, path)
    return place if place.is_dir() else file_at(node, path)


def _entry_point(node: YamlNode) -> str:
    text = node.text()
    if not _ENTRY_POINT.fullmatch(text):
        raise node.error(f"{text!r} is no entry point", hint="write package.module:function")
    return text


def _preprocess(dataset: YamlMapping) -> PreprocessConfig:
    """From ``preprocess``; mean and scale may stand beside it, for short."""
    node = dataset.get("preprocess")
    short = {key: dataset.get(key) for key in ("mean", "scale")}
    if node is None:
        mean, scale = short["mean"], short["scale"]
        return PreprocessConfig(
            mean=_numbers(mean, -1e6) if mean else (0.0,),
            scale=_numbers(scale, 1e-6) if scale else (1.0,),
        )
    for child in short.values():
        if child is not None:
            raise child.error("written beside preprocess", hint="move it into preprocess")
    entry = node.mapping()
    resize, crop = entry.get("resize"), entry.get("crop")
    mean, scale, channels = entry.get("mean"), entry.get("scale"), entry.get("channels")
    config = PreprocessConfig(
        resize=_resize(resize) if resize else None,
        crop=_crop(crop) if crop else None,
        mean=_numbers(mean, -1e6) if mean else (0.0,),
        scale=_numbers(scale, 1e-6) if scale else (1.0,),
        channels=_channels(channels) if channels else None,
    )
    entry.done()
    known = 1 if config.channels == "gray" else 3
    for child, values in ((mean, config.mean), (scale, config.scale)):
        if child and config.channels and len(values) not in (1, known):
            raise child.error(f"{len(values)} numbers for {known} channels")
    return config


def _numbers(node: YamlNode, low: float) -> tuple[float, ...]:
    values = tuple(item.number(low, 1e6) for item in node.items())
    if not 1 <= len(values) <= MAX_CHANNELS:
        raise node.error(f"expected a number, or one per channel; found {len(values)}")
    return values


def _channels(node: YamlNode) -> Channels:
    return cast("Channels", node.one_of(CHANNELS))


def _sides(node: YamlNode, low: int = 1) -> tuple[int, ...]:
    values = tuple(item.integer(low, MAX_SIDE) for item in node.items())
    if len(values) not in (1, 2):
        raise node.error("expected one number, or [height, width]")
    return values


def _resize(node: YamlNode) -> ResizeConfig:
    entry = node.mapping()
    size_node, interpolation, fit = entry.need("size"), entry.get("interpolation"), entry.get("fit")
    sides = _sides(size_node)
    shorter = len(sides) == 1
    if fit:
        shorter = fit.one_of(("shorter", "exact")) == "shorter"
        if shorter and len(sides) == 2:
            raise fit.error("height and width are exact", hint="give size one number, or fit exact")
    entry.done()
    return ResizeConfig(
        size=(sides[0], sides[-1]),
        interpolation=(
            cast("Interpolation", interpolation.one_of(INTERPOLATIONS))
            if interpolation
            else "bilinear"
        ),
        shorter=shorter,
    )


def _crop(node: YamlNode) -> CropConfig:
    entry = node.mapping()
    sides, at = _sides(entry.need("size")), entry.get("at")
    place: tuple[int, int] | None = None
    if at and (at.is_list or at.text() != "center"):
        corner = _sides(at, 0)
        if len(corner) != 2:
            raise at.error("expected center, or [top, left]")
        place = (corner[0], corner[1])
    entry.done()
    return CropConfig(size=(sides[0], sides[-1]), at=place)
