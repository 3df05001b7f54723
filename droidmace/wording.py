"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """``1 process``, ``2 processes``: a count and its noun, whose plural by default has an s."""
    return f"{count} {one if count == 1 else several or one + 's'}"
