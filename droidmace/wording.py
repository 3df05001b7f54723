"""Numbers and foreign texts in sentences."""

from __future__ import annotations


def counted(count: int, one: str, several: str = "") -> str:
    """``1 process``, ``2 processes``: a count and its noun, whose plural by default has an s."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """The text with everything that is not a visible character (or a blank) escaped.

    What a file or a device says may hold sequences that a terminal obeys.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
