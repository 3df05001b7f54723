"""Texts made to fit a width."""

from __future__ import annotations

import re

_WORD = re.compile(r"\S+\s*|\s+")
# Names of kernels, files and types are joined by these.
_PIECE = re.compile(r"[^_./,:@-]*[_./,:@-]+\s*|[^_./,:@-]+")
_SHORT_WORD = 12
_LONGEST_PIECE = 16


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


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters, broken at blanks, else where a name has a joint.

    Only a word that is too long even so (a hash) is broken anywhere.
    """
    lines = [""]

    def put(part: str) -> None:
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
            part = part.lstrip()
        while len(part.rstrip()) > width:
            lines[-1], part = part[:width], part[width:]
            lines.append("")
        lines[-1] += part

    for word in _WORD.findall(text):
        parts = [word] if len(word.rstrip()) <= width else _PIECE.findall(word)
        for part in parts:
            put(part)
    lines[-1] = lines[-1].rstrip()
    return lines


def narrowest(text: str) -> int:
    """The width that the text needs if no short word, and no piece of a long one, is broken."""
    needs = [0]
    for word in text.split():
        pieces = [word] if len(word) <= _SHORT_WORD else _PIECE.findall(word)
        needs += [min(len(piece), _LONGEST_PIECE) for piece in pieces]
    return max(needs)
