"""The tables below the run order that ``--benchmark`` logs (``mace/utils/statistics.cc``).

``Stat by Op Type``, ``Stat by MACs`` and ``Summary of Ops' Stat``: sums over types, and how far the
rounds of the process lie apart.
"""

from __future__ import annotations

import re

from droidmace.results.bench import OpTypeStat

MAX_TYPES = 1000

_BY_TYPE, _MACS, _SUMMARY = "Stat by Op Type", "Stat by MACs", "Summary of Ops' Stat"
_TITLES = (_BY_TYPE, _MACS, _SUMMARY)
_COUNT = re.compile(r"[0-9][0-9,]{0,23}\Z")
_TIME = re.compile(r"[0-9][0-9,]{0,17}(\.[0-9]{1,9})?\Z")
_MAX_TITLE_CHARACTERS = 400


class OpSummaryReader:
    """Collects the last of each of these tables; columns are found by their names.

    Takes any text and never raises; a row that cannot be read is left out.
    """

    def __init__(self) -> None:
        self._table = ""
        self._columns: list[str] | None = None
        self._types: list[OpTypeStat] = []
        self._figures: dict[tuple[str, str], str] = {}

    @property
    def by_type(self) -> tuple[OpTypeStat, ...]:
        """Sums over the ops of each type, in the table's order: those that take longest first."""
        return tuple(self._types)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one inference, as far as MACE counts them."""
        return _count(self._figures.get((_MACS, "total"), ""))

    @property
    def rounds(self) -> int | None:
        """Inferences that the tables sum up."""
        return _count(self._figures.get((_SUMMARY, "round"), ""))

    def total_ms(self, column: str) -> float | None:
        """Sum of the op times of an inference: ``first``, ``min``, ``max`` or ``avg``."""
        return _time(self._figures.get((_SUMMARY, f"{column}(ms)"), ""))

    def line(self, text: str) -> None:
        """Take the text of one log line."""
        stripped = text[:_MAX_TITLE_CHARACTERS].strip()
        if stripped.startswith("|"):
            if self._table:
                self._row([cell.strip() for cell in stripped.strip("|").split("|")])
            return
        title = next((one for one in _TITLES if stripped.startswith(one)), "")
        if title:
            self._table, self._columns = title, None
            if title == _BY_TYPE:
                self._types.clear()
        elif stripped.strip("-"):
            self._table = ""  # another table, or the end

    def _row(self, cells: list[str]) -> None:
        if self._columns is None:
            self._columns = cells
            return
        named = dict(zip(self._columns, cells, strict=False))
        if self._table != _BY_TYPE:
            self._figures.update({(self._table, name): cell for name, cell in named.items()})
            return
        count, macs = _count(named.get("Count", "")), _count(named.get("MACs", ""))
        avg_ms = _time(named.get("Avg(ms)", ""))
        if count is None or avg_ms is None or len(self._types) >= MAX_TYPES:
            return
        self._types.append(OpTypeStat(named.get("Op Type", ""), count, avg_ms, macs or 0))


def _count(text: str) -> int | None:
    return int(text.replace(",", "")) if _COUNT.match(text) else None


def _time(text: str) -> float | None:
    return float(text.replace(",", "")) if _TIME.match(text) else None
