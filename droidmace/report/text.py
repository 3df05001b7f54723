"""Texts from files and devices, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything that is not a visible character (or a blank) escaped.

    What a file or a device says may hold sequences that a terminal obeys.
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shortened(text: str, width: int) -> str:
    """At most ``width`` characters of the text, most of them from its end.

    An ellipsis stands for what is left out.
    """
    if len(text) <= width:
        return text
    if width < 2:
        return "…"[:width]
    head = (width - 1) // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
