"""Lines below a table: indented, warnings marked as such."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from droidmace.wording import printable

INDENT = (0, 0, 0, 2)


def line(text: str) -> RenderableType:
    """One line."""
    return Padding(Text(text), INDENT)


def lines(texts: Iterable[str]) -> list[RenderableType]:
    """Several lines."""
    return [line(text) for text in texts]


def marked(mark: str, style: str, texts: Iterable[str]) -> list[RenderableType]:
    """Lines of files and devices, each behind a mark like ``warning``."""
    return [Padding(Text.assemble((f"{mark}: ", style), printable(text)), INDENT) for text in texts]


def warnings(texts: Iterable[str]) -> list[RenderableType]:
    """One line for each warning."""
    return marked("warning", "yellow", texts)
