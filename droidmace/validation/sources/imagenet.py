"""ImageNet's validation set: how its files are numbered, and what its ground truth says.

ILSVRC2012's images are ``ILSVRC2012_val_00000001.JPEG`` and on. Line i of the ground truth belongs
to image i (the development kit's readme): a number from 1, whose synset the kit's ``meta.mat``
says, or, as in MACE's and TensorFlow's tools, a synset or the name of a class. A blacklist names
images by number. The kit's numbers are not in the order of the synsets' names, which is the order
of most nets' outputs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from droidmace.errors import FormatError, InputError
from droidmace.validation.labels import ClassNames, label_of, text_lines
from droidmace.validation.sources.image_listing import ImageFile, inner_name

_NAME = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.(?:JPEG|jpe?g|png)", re.ASCII)
_NUMBER = re.compile(r"\d{1,8}", re.ASCII)


def image_number(name: str) -> int | None:
    """The number of one of ImageNet's validation images; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def synset_names(path: Path) -> tuple[str, ...]:
    """The synset of each number from 1, one a line; what follows it in a line is for people.

    Raises ``InputError``: empty, or one that stands there twice.
    """
    lines = text_lines(path)
    names: dict[str, int] = {}
    for line, text in lines:
        word = text.split(maxsplit=1)[0]
        if word in names:
            raise InputError(f"{word} stands in line {names[word]} as well", where=f"{path}:{line}")
        names[word] = line
    if not names:
        raise InputError("names no synset", where=str(path), hint="one a line: n01440764")
    return tuple(names)


def ground_truth(
    path: Path, files: Sequence[ImageFile], classes: ClassNames, synsets: tuple[str, ...]
) -> tuple[int, ...]:
    """The label of each of ImageNet's ``files``.

    A number's synset is looked up among ``classes``, if they are called by synsets; else number 1
    is class 0, and so on.

    Raises ``InputError`` or ``FormatError`` that names the line, or the first image without one.
    """
    lines = text_lines(path)
    index = classes.index()
    by_number = all(_NUMBER.fullmatch(word) for _, word in lines)
    translated = any(synset in index for synset in synsets)
    labels = []
    for file in files:
        number = image_number(file.name)
        if number is None or not 1 <= number <= len(lines):
            raise FormatError(
                f"holds {len(lines)} labels, but none for {file.name}",
                where=str(path),
                hint="line i of ImageNet's ground truth belongs to image i",
            )
        line, word = lines[number - 1]
        where = f"{path}:{line}"
        if not by_number:
            labels.append(label_of(word, classes, index, where))
            continue
        value = int(word)
        if value < 1 or (synsets and value > len(synsets)):
            raise InputError(
                f"unknown class {value}",
                where=where,
                hint=f"ImageNet's numbers go from 1 to {len(synsets) or 1000}",
            )
        if translated:
            labels.append(label_of(synsets[value - 1], classes, index, where))
        else:
            labels.append(classes.number(value - 1, where))
    return tuple(labels)


def blacklisted(path: Path, files: Sequence[ImageFile]) -> frozenset[str]:
    """Names of the ``files`` that a blacklist takes out: by name, or by ImageNet's number.

    Raises ``InputError`` that names the line of what is neither.
    """
    names = {file.name for file in files}
    numbers = {image_number(name): name for name in names}
    numbers.pop(None, None)
    out = set()
    for line, text in text_lines(path):
        where = f"{path}:{line}"
        if _NUMBER.fullmatch(text) and numbers:
            # A part of the set need not hold all that the list takes out.
            out |= {numbers[int(text)]} if int(text) in numbers else set()
            continue
        name = inner_name(text, where)
        if name not in names:
            raise InputError(
                f"there is no image {text[:200]!r}",
                where=where,
                hint="name images as they are in their folder, or by ImageNet's numbers",
            )
        out.add(name)
    return frozenset(out)
