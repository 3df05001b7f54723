"""Standard output for the document alone: code of a user's data set may print there."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_for_document(as_json: bool) -> Iterator[None]:
    """With ``--json``, let whatever Python code prints meanwhile go to standard error instead."""
    if not as_json:
        yield
        return
    with contextlib.redirect_stdout(_ToStandardError()):
        yield


class _ToStandardError(io.TextIOBase):
    """Not ``sys.stderr`` itself: a plugin's ``print`` tells the two apart."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()
