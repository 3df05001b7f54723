"""A folder of images, labelled by a file or by the folders they lie in."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from droidmace.errors import FormatError, InputError
from droidmace.validation.image_file import read_image
from droidmace.validation.labels import ClassNames, label_of, read_labels, text_lines
from droidmace.validation.pillow import pillow_image
from droidmace.validation.samples import RawSample
from droidmace.validation.sources.image_listing import (
    SUFFIXES,
    ImageFile,
    inner_name,
    is_image_name,
    list_images,
)
from droidmace.validation.sources.imagenet import (
    blacklisted,
    ground_truth,
    image_number,
    synset_names,
)


class ImageFolderSource:
    """Images of a folder, in the order of ``files``, with a label each or none.

    ``excluded``: how many images of the folder a blacklist took out; they do not count.
    """

    many_readers = True

    def __init__(
        self,
        folder: Path,
        files: Sequence[ImageFile],
        labels: Sequence[int] | None,
        classes: tuple[str, ...] = (),
        *,
        excluded: int = 0,
    ) -> None:
        # Told before a phone is waited for.
        self._decoder = f"pillow {pillow_image('reading images').__version__}"
        self._folder = folder
        self._files = tuple(files)
        self._labels = None if labels is None else tuple(labels)
        self._classes = classes
        self.excluded = excluded

    @property
    def count(self) -> int:
        """How many images there are, those of the blacklist left out."""
        return len(self._files)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """All labels; None without."""
        return self._labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; empty if they are not known."""
        return self._classes

    @property
    def identity(self) -> str:
        """A hash of names, sizes, times of change and labels, and of which Pillow decodes.

        Images are not read for it.
        """
        digest = hashlib.sha256(self._decoder.encode())
        for file in self._files:
            digest.update(f"{file.name}\0{file.size_bytes}\0{file.modified_ns}\n".encode())
        if self._labels is not None:
            digest.update(np.array(self._labels, "<i8").tobytes())
        return digest.hexdigest()

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        """Images ``begin`` to ``end`` (exclusive), uint8 (height, width, 1 or 3)."""
        for index in range(begin, end):
            name = self._files[index].name
            label = None if self._labels is None else self._labels[index]
            yield RawSample(name, label, pixels=read_image(self._folder / name))


def open_image_folder(
    folder: Path,
    *,
    labels: Path | None = None,
    classes: Path | None = None,
    synset: Path | None = None,
    blacklist: Path | None = None,
    label_offset: int = 0,
) -> ImageFolderSource:
    """The images of ``folder``, sorted by name.

    ``labels`` is a text with lines ``NAME LABEL`` (a tab or blank between; with commas in a
    ``.csv``), or with a label a line: in the order of names, or, for ImageNet's validation images,
    by their number. Without it, images in folders have the folder's name for a class, and others no
    label. ``classes`` are the classes in the order of the model's output; without it, ``synset``;
    without both, folders' names in their order.

    Raises ``InputError`` or ``FormatError`` that names the file and line: no image, an image
    without label, a label without image, an unknown class; ``MissingExtraError``.
    """
    found = list_images(folder)
    out = blacklisted(blacklist, found) if blacklist else frozenset[str]()
    files = tuple(file for file in found if file.name not in out)
    if not files:
        why = f" but the {len(out)} of the blacklist" if out else ""
        raise InputError(
            f"holds no image{why}",
            where=str(folder),
            hint="names of images end in " + ", ".join(SUFFIXES),
        )
    synsets = synset_names(synset) if synset else ()
    names = ClassNames.read(classes, label_offset)
    if not names.names and synsets:
        names = _padded(synsets, label_offset)
    values: tuple[int, ...] | None
    if labels is None:
        values, names = _by_folders(folder, files, names)
    elif _names_images(labels):
        values = _by_names(labels, files, found, names)
    elif all(image_number(file.name) is not None for file in files) and _is_text(labels):
        values = ground_truth(labels, files, names, synsets)
    else:
        in_order = read_labels(labels, names)
        in_order.check_count(len(found), folder)
        labelled = zip(found, in_order.values, strict=True)
        values = tuple(label for file, label in labelled if file.name not in out)
    return ImageFolderSource(folder, files, values, names.names, excluded=len(out))


def _padded(names: tuple[str, ...], offset: int) -> ClassNames:
    """Names whose first is class ``offset``."""
    return ClassNames(tuple(f"({label})" for label in range(offset)) + names, offset)


def _by_folders(
    folder: Path, files: tuple[ImageFile, ...], classes: ClassNames
) -> tuple[tuple[int, ...] | None, ClassNames]:
    first, *others = (file.name.partition("/")[0] if "/" in file.name else "" for file in files)
    homes = [first, *others]
    if not any(homes):
        return None, classes
    if not all(homes):
        name = files[homes.index("")].name
        raise InputError(
            "has images both in folders and beside them",
            where=str(folder / name),
            hint="put each into the folder of its class, or give droidmace.dataset.labels",
        )
    if not classes.names:
        classes = _padded(tuple(sorted(set(homes))), classes.offset)
    index = classes.index()
    labels = {home: label_of(home, classes, index, str(folder / home)) for home in set(homes)}
    return tuple(labels[home] for home in homes), classes


def _is_text(labels: Path) -> bool:
    with labels.open("rb") as stream:
        return not stream.read(6).startswith((b"\x1f\x8b", b"\0\0", b"\x93NUMPY"))


def _names_images(labels: Path) -> bool:
    """Whether the first line (of a table, the first or second) begins with an image's name."""
    try:
        if not _is_text(labels):
            return False
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}", where=str(labels), hint="check the path"
        ) from error
    return any(is_image_name(name) for _, name, _ in _pairs(labels)[:2])


def _pairs(labels: Path) -> list[tuple[int, str, str]]:
    """Line number, name and label of each line; the label is empty where there is one word."""
    lines = text_lines(labels)
    if labels.suffix.lower() == ".csv":
        rows = csv.reader(text for _, text in lines)
        try:
            cells = [[cell.strip() for cell in row] for row in rows]
        except csv.Error as error:
            raise FormatError(f"not a table: {error}", where=str(labels)) from error
        if len(cells) != len(lines):
            raise FormatError("a cell goes over several lines", where=str(labels))
        return [
            (line, row[0], row[1] if len(row) > 1 else "")
            for (line, _), row in zip(lines, cells, strict=True)
        ]
    found = []
    for line, text in lines:
        name, tab, label = text.partition("\t")
        if not tab:
            # Names may have blanks in them, classes only behind a tab.
            name, _, label = text.rpartition(" ") if " " in text else (text, "", "")
        found.append((line, name.strip(), label.strip()))
    return found


def _by_names(
    labels: Path, files: tuple[ImageFile, ...], found: tuple[ImageFile, ...], classes: ClassNames
) -> tuple[int, ...]:
    known = {file.name for file in found}
    index = classes.index()
    values: dict[str, int] = {}
    pairs = _pairs(labels)
    if not is_image_name(pairs[0][1]):
        pairs = pairs[1:]  # a table's head
    for line, text, label in pairs:
        where = f"{labels}:{line}"
        name = inner_name(text, where)
        if name not in known:
            raise InputError(
                f"there is no image {text[:200]!r}",
                where=where,
                hint="names are relative to droidmace.dataset.images",
            )
        if name in values:
            raise InputError(
                f"{text[:200]!r} stands there twice", where=where, hint="keep one of the two lines"
            )
        values[name] = label_of(label, classes, index, where)
    missing = [file.name for file in files if file.name not in values]
    if missing:
        raise FormatError(
            f"holds {len(values)} labels for {len(found)} images; the first without: {missing[0]}",
            where=str(labels),
            hint="add them, or put those images on the blacklist: droidmace.dataset.blacklist",
        )
    return tuple(values[file.name] for file in files)
