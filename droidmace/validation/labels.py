"""Labels and class names in files: numbers that count from 0, or names of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError, InputError
from droidmace.validation.idx import read_idx
from droidmace.validation.npy import read_npy

MAX_TEXT_BYTES = 256 << 20
MAX_LABEL = 10_000_000
_MAX_LABELS_BYTES = 1 << 30
_WHOLE = re.compile(r"[+-]?\d{1,12}", re.ASCII)
_SYNSET = re.compile(r"n\d{8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Labels:
    """One label per sample, and the file they are from."""

    values: tuple[int, ...]
    file: Path

    def check_count(self, samples: int, images: Path) -> None:
        """Raises ``FormatError`` unless there is a label for each of ``samples``, and no more."""
        if len(self.values) != samples:
            raise FormatError(
                f"holds {len(self.values)} labels for {samples} images",
                where=str(self.file),
                hint=f"give the labels that belong to {images.name}",
            )


@dataclass(frozen=True, slots=True)
class ClassNames:
    """Names of classes in the order of a model's output; ``names`` empty: only numbers count.

    A line that begins with a synset (``n01440764 tench``) can be called by either.
    """

    names: tuple[str, ...] = ()
    offset: int = 0
    """Added to labels that are numbers, and to none that are names."""

    @classmethod
    def read(cls, path: Path | None, offset: int = 0) -> ClassNames:
        """One class a line. Raises ``InputError``: empty, or a class that stands there twice."""
        if path is None:
            return cls(offset=offset)
        names = tuple(line for _, line in text_lines(path))
        if not names:
            raise InputError("names no class", where=str(path), hint="one class a line")
        return cls(names, offset)

    def index(self) -> dict[str, int]:
        """What a class may be called, and its label; names that several classes share are out."""
        found: dict[str, int] = {}
        shared: set[str] = set()
        for label, name in enumerate(self.names):
            word = name.split(maxsplit=1)[0].rstrip(",:;")
            for call in {name, word} if _SYNSET.fullmatch(word) else {name}:
                shared |= {call} & found.keys()
                found[call] = label
        return {call: label for call, label in found.items() if call not in shared}

    def number(self, value: int, where: str) -> int:
        """The label of a number. Raises ``InputError`` if there is no such class."""
        label = value + self.offset
        top = len(self.names) or MAX_LABEL
        if not 0 <= label < top:
            known = f"labels go from 0 to {top - 1}"
            shifted = f" (with label_offset {self.offset}: {label})" if self.offset else ""
            raise InputError(
                f"unknown class {value}{shifted}",
                where=where,
                hint=f"{known}; see droidmace.dataset.label_offset, classes and synset",
            )
        return label

    def all_of(self, values: NDArray[Any], file: Path, shown: str = "") -> Labels:
        """An array of numbers as labels."""
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
            raise FormatError(
                f"{shown}holds {values.dtype} {values.shape} instead of one integer "
                "label per image",
                where=str(file),
                hint="give the labels' file",
            )
        return Labels(
            tuple(
                self.number(value, f"{file}: label {index}")
                for index, value in enumerate(values.tolist())
            ),
            file,
        )


def read_labels(path: Path, classes: ClassNames) -> Labels:
    """A label per sample: IDX (plain or gzip), ``.npy``, or a text with one label a line.

    Raises ``InputError`` or ``FormatError`` naming the file, and the line of an unknown class.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(6)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint="check the path"
        ) from error
    if begin.startswith((b"\x1f\x8b", b"\0\0")):
        return classes.all_of(read_idx(path, max_bytes=_MAX_LABELS_BYTES), path)
    if begin == b"\x93NUMPY":
        return classes.all_of(read_npy(path, max_bytes=_MAX_LABELS_BYTES), path)
    index = classes.index()
    return Labels(
        tuple(label_of(word, classes, index, f"{path}:{line}") for line, word in text_lines(path)),
        path,
    )


def label_of(word: str, classes: ClassNames, index: dict[str, int], where: str) -> int:
    """The label that a text stands for: a class by name, or else its number."""
    if (named := index.get(word)) is not None:
        return named
    if _WHOLE.fullmatch(word):
        return classes.number(int(word), where)
    if word in classes.names:
        raise InputError(
            f"class {word[:80]!r} stands for several",
            where=where,
            hint="call classes by what is theirs alone, such as synsets",
        )
    known = f"the {len(classes.names)} classes" if classes.names else "no classes file"
    raise InputError(
        f"unknown class {word[:80]!r}",
        where=where,
        hint=f"labels are numbers from 0, or names of droidmace.dataset.classes ({known})",
    )


def text_lines(path: Path) -> Sequence[tuple[int, str]]:
    """Lines that are not blank, without blanks around them, and their numbers from 1.

    Raises ``InputError`` if it cannot be read, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint="check the path"
        ) from error
    if len(data) > MAX_TEXT_BYTES:
        raise InputError(f"has more than {MAX_TEXT_BYTES} bytes", where=str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not a text in UTF-8 (byte {error.start})",
            where=str(path),
            hint="give a text with one entry a line",
        ) from error
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line]
