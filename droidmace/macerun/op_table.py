"""The table ``Sort by Run Order`` that ``--benchmark`` logs (``mace/utils/statistics.cc``)."""

from __future__ import annotations

import re

from droidmace.results import OpTime

MAX_OPS = 100_000

_TITLE = "Sort by Run Order"
_NUMBER = re.compile(r"-?[0-9][0-9,]{0,17}(\.[0-9]{1,9})?\Z")


class OpTableReader:
    """Collects the rows of the last such table; every other table is passed over.

    A table is: rule, title, rule, header, rule, rows, rule. Columns are found by their names.
    """

    def __init__(self) -> None:
        self._rows: list[OpTime] = []
        self._reading = False
        self._columns: list[str] | None = None

    @property
    def rows(self) -> tuple[OpTime, ...]:
        """The ops in the order in which they ran."""
        return tuple(self._rows)

    @property
    def complete(self) -> bool:
        """Whether there is a table, and it was printed to its end."""
        return bool(self._rows) and not self._reading

    def line(self, text: str) -> None:
        """Take the text of one log line."""
        stripped = text.strip()
        if stripped == _TITLE:
            self._reading, self._columns = True, None
            self._rows.clear()
        elif self._reading and stripped.startswith("|"):
            self._table_line(stripped)
        elif self._columns is not None and self._rows:
            # The rule below the last row.
            self._reading, self._columns = False, None

    def _table_line(self, text: str) -> None:
        inner = text.removeprefix("|").removesuffix("|")
        if self._columns is None:
            self._columns = [cell.strip() for cell in inner.split("|")]
            return
        # The name comes last and may hold the separator.
        cells = [cell.strip() for cell in inner.split("|", len(self._columns) - 1)]
        row = _op_time(dict(zip(self._columns, cells, strict=False)))
        if row is not None and len(self._rows) < MAX_OPS:
            self._rows.append(row)


def _op_time(cells: dict[str, str]) -> OpTime | None:
    numbers = [_number(cells.get(column, "")) for column in ("Start", "First", "Avg(ms)", "GMACPS")]
    start_ms, first_ms, avg_ms, gmacps = numbers
    if start_ms is None or first_ms is None or avg_ms is None:
        return None
    return OpTime(
        name=cells.get("name", ""),
        op_type=cells.get("Op Type", ""),
        start_ms=start_ms,
        first_ms=first_ms,
        avg_ms=avg_ms,
        gmacps=gmacps or 0.0,
        output_shape=_shape(cells.get("Output Shape", "")),
        filter_shape=_shape(cells.get("Filter Shape", "")),
    )


def _number(text: str) -> float | None:
    return float(text.replace(",", "")) if _NUMBER.match(text) else None


def _shape(text: str) -> tuple[int, ...]:
    """``[1,16,16,32]``; of several outputs (``[1,2:3,4]``) the first."""
    words = text.strip("[]").split(":")[0].split(",")
    if not all(word.isascii() and word.isdigit() and len(word) <= 18 for word in words):
        return ()
    return tuple(map(int, words))
