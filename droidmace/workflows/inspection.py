"""What was found in a file, as facts and tables that people and programs can read."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from droidmace.errors import FormatError, InputError

MAX_FILE_BYTES = 256 << 20
"""Larger files are none of those that droidmace looks into."""

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One value about the file as a whole."""

    key: str
    label: str
    value: Json


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a section. ``detail``: as with sections."""

    key: str
    label: str
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A table. One with ``detail`` is for the machine output only: it can be very long."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Json, ...], ...]
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What is particular to one kind of file. ``title`` says for people what it is."""

    title: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that was found out about one file."""

    path: str
    kind: str
    title: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...] = ()

    def record(self) -> dict[str, Json]:
        """The machine output: facts by key, sections as lists of objects.

        Numbers that JSON lacks (NaN, infinity) are texts in it.
        """
        facts = {fact.key: _json(fact.value) for fact in self.facts}
        sections = {
            section.key: [
                {column.key: _json(cell) for column, cell in zip(section.columns, row, strict=True)}
                for row in section.rows
            ]
            for section in self.sections
        }
        return {"path": self.path, "kind": self.kind, **facts, **sections}


def _json(value: Json) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_json(inner) for inner in value]
    return value


def read_bounded(path: Path) -> bytes:
    """The content of a regular file.

    Raises ``InputError`` if it cannot be read or is none (a pipe may never end), ``FormatError``
    if it is longer than :data:`MAX_FILE_BYTES`.
    """
    try:
        # Opening a pipe that nobody writes to would wait for ever; not every system has the flag.
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(
                    "this is not a regular file", where=str(path), hint="give a file or a bundle"
                )
            data = b"" if status.st_size > MAX_FILE_BYTES else stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        raise InputError(
            f"cannot be read: {reason or exc}", where=str(path), hint="check the path"
        ) from exc
    size_bytes = max(status.st_size, len(data))
    if size_bytes > MAX_FILE_BYTES:
        raise FormatError(
            f"{size_bytes} bytes are too many for any file that droidmace looks into",
            where=str(path),
            hint="give the model's graph (.pb), not its weights",
        )
    return data
