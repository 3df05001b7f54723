"""From bytes in any fragmentation to clean lines of text, in bounded memory."""

from __future__ import annotations

MAX_LINE_BYTES = 64 << 10
"""What is kept of one line; the rest of a longer one is dropped."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A device's output ends up on a person's terminal: nothing in it may move the cursor.
_CONTROL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], _REPLACEMENT)
del _CONTROL[ord("\t")]


def clean_text(line: bytes) -> str:
    """A line as text: CR before the line's end dropped, anything unprintable replaced."""
    return line.rstrip(b"\r").decode("utf-8", "replace").translate(_CONTROL)


class LineFramer:
    """Cuts a byte stream into lines, whatever the pieces it arrives in."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Take more bytes; return the lines they complete."""
        *complete, rest = data.split(b"\n")
        lines = []
        for piece in complete:
            self._keep(piece)
            lines.append(clean_text(bytes(self._pending)))
            self._pending.clear()
        self._keep(rest)
        return lines

    def finish(self) -> list[str]:
        """The last line, if the stream ended without a line end."""
        if not self._pending:
            return []
        line = clean_text(bytes(self._pending))
        self._pending.clear()
        return [line]

    def _keep(self, piece: bytes) -> None:
        self._pending += piece[: MAX_LINE_BYTES - len(self._pending)]
