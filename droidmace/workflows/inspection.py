"""What was found in a file, as facts and tables that people and programs can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
class Inspection:
    """All that was found out about one file."""

    path: str
    kind: str
    title: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...] = ()

    def record(self) -> dict[str, Json]:
        """The machine output: facts by key, sections as lists of objects."""
        facts = {fact.key: fact.value for fact in self.facts}
        sections = {
            section.key: [
                {column.key: cell for column, cell in zip(section.columns, row, strict=True)}
                for row in section.rows
            ]
            for section in self.sections
        }
        return {"path": self.path, "kind": self.kind, **facts, **sections}
