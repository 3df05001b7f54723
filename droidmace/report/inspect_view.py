"""Tables of what ``droidmace inspect`` found. Names come out of files, so they are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from droidmace.report.text import narrowest, wrapped
from droidmace.wording import printable

_BESIDE_CELLS = 3
"""A table's blanks and line beside each cell."""
_LEAST_ROOM = 16


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
        _Facts(inspection.facts),
    ]
    parts += [
        _SectionView(section)
        for section in inspection.sections
        if section.rows and not section.detail
    ]
    return Group(*parts)


class _Facts:
    """Labels and values; values break where they may."""

    def __init__(self, facts: Sequence[FactLike]) -> None:
        self._lines = [
            (printable(fact.label), _cell(fact.value))
            for fact in facts
            if fact.value not in (None, "", [])
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _labelled(self._lines, options.max_width)


class _SectionView:
    """A table, or where the terminal is too narrow for one, a list of each row's values."""

    def __init__(self, section: SectionLike) -> None:
        shown = [index for index, column in enumerate(section.columns) if not column.detail]
        self._title = section.title
        self._labels = [section.columns[index].label for index in shown]
        self._rows = [[_cell(row[index]) for index in shown] for row in section.rows]
        self._numeric = [
            all(isinstance(row[index], int | float) for row in section.rows) for index in shown
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(zip(self._labels, *self._rows, strict=True))
        wishes = [max(map(len, texts)) for texts in columns]
        needs = [
            # Digits in groups are one number.
            max(narrowest(label), *map(len if numeric else narrowest, cells))
            for numeric, (label, *cells) in zip(self._numeric, columns, strict=True)
        ]
        room = options.max_width - _BESIDE_CELLS * len(columns) - 1
        if sum(needs) > room:
            yield Text(self._title, style="italic")
            for row in self._rows:
                yield Padding(_labelled(list(zip(self._labels, row, strict=True)),
                                        options.max_width - 2), (0, 0, 1, 2))  # fmt: skip
            return
        table = Table(title=self._title, title_justify="left", box=box.SIMPLE_HEAD)
        widths = _shared_out(room, needs, wishes)
        for label, numeric, width in zip(self._labels, self._numeric, widths, strict=True):
            table.add_column(
                _folded(label, width),
                justify="right" if numeric else "left",
                overflow="fold",
                width=width,
            )
        for row in self._rows:
            table.add_row(*map(_folded, row, widths))
        yield table


def _shared_out(room: int, needs: Sequence[int], wishes: Sequence[int]) -> list[int]:
    """Column widths: what each needs, and of what is left as much as it wishes, in turns."""
    widths = list(needs)
    left = room - sum(widths)
    while left > 0:
        wishing = [place for place, wish in enumerate(wishes) if widths[place] < wish]
        if not wishing:
            break
        share = max(left // len(wishing), 1)
        for place in wishing:
            more = min(share, wishes[place] - widths[place], left)
            widths[place] += more
            left -= more
    return widths


def _labelled(lines: Sequence[tuple[str, str]], width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    room = max(width - max((len(label) for label, _ in lines), default=0) - 2, _LEAST_ROOM)
    for label, value in lines:
        table.add_row(Text(label), _folded(value, room))
    return table


def _folded(text: str, width: int) -> Text:
    return Text("\n".join(wrapped(text, width)))


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
