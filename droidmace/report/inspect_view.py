"""Tables of what ``droidmace inspect`` found. Names come out of files, so they are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from droidmace.report.text import printable


class FactLike(Protocol):
    """A labelled value."""

    @property
    def label(self) -> str:
        """What it is, for people."""
        ...

    @property
    def value(self) -> object:
        """A JSON value."""
        ...


class ColumnLike(Protocol):
    """A column's heading."""

    @property
    def label(self) -> str:
        """What it is, for people."""
        ...

    @property
    def detail(self) -> bool:
        """Whether it is left to the machine output."""
        ...


class SectionLike(Protocol):
    """A titled table of JSON values."""

    @property
    def title(self) -> str:
        """Its heading."""
        ...

    @property
    def columns(self) -> Sequence[ColumnLike]:
        """One per cell of a row."""
        ...

    @property
    def rows(self) -> Sequence[Sequence[object]]:
        """Cells."""
        ...

    @property
    def detail(self) -> bool:
        """Whether it is left to the machine output."""
        ...


class InspectionLike(Protocol):
    """What was found out about a file."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def title(self) -> str:
        """What it is, for people."""
        ...

    @property
    def facts(self) -> Sequence[FactLike]:
        """Values about the whole file."""
        ...

    @property
    def sections(self) -> Sequence[SectionLike]:
        """Tables."""
        ...


def inspection_view(inspection: InspectionLike) -> RenderableType:
    """Render an inspection: the file's kind, its facts, one table per section that has rows."""
    parts: list[RenderableType] = [
        Text.assemble((inspection.title, "bold"), "  ", (printable(inspection.path), "dim")),
        _facts(inspection.facts),
    ]
    parts += [
        _table(section) for section in inspection.sections if section.rows and not section.detail
    ]
    return Group(*parts)


def _facts(facts: Sequence[FactLike]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for fact in facts:
        if fact.value not in (None, "", []):
            table.add_row(Text(printable(fact.label)), Text(_cell(fact.value)))
    return table


def _table(section: SectionLike) -> Table:
    table = Table(title=section.title, title_justify="left", box=box.SIMPLE_HEAD)
    shown = [index for index, column in enumerate(section.columns) if not column.detail]
    for index in shown:
        numeric = all(isinstance(row[index], int | float) for row in section.rows)
        table.add_column(
            section.columns[index].label, justify="right" if numeric else "left", overflow="fold"
        )
    for row in section.rows:
        table.add_row(*(Text(_cell(row[index])) for index in shown))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{printable(str(key))}={_cell(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_cell(inner) for inner in value)
    return printable(str(value))
