"""The input of a command under way, given to it from a thread of its own.

Beside the reading of its output: a command may print more than fits before it takes its input.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable


class CommandInput:
    """Writes pieces, and keeps what making them raised for whoever reads the command's output."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        *,
        write: Callable[[bytes], object],
        end: Callable[[], object],
        abandon: Callable[[], object],
    ) -> None:
        """``end``: after the last piece. ``abandon``: instead, so that the reader wakes up.

        An ``OSError`` of any of the three is none of ours: a command that reads no more, or a
        connection that broke, shows to the reader.
        """
        self._pieces = pieces
        self._write = write
        self._end = end
        self._abandon = abandon
        self._error: Exception | None = None
        threading.Thread(target=self._give, name="command input", daemon=True).start()

    def check(self) -> None:
        """Raise what making the pieces raised, if it did."""
        if self._error is not None:
            raise self._error

    def _give(self) -> None:
        try:
            for data in self._pieces:
                if not self._is_written(data):
                    break
        except Exception as error:  # raised again in the reader's thread
            self._error = error
            with contextlib.suppress(OSError):
                self._abandon()
            return
        with contextlib.suppress(OSError):
            self._end()

    def _is_written(self, data: bytes) -> bool:
        try:
            self._write(data)
        except OSError:
            return False
        return True
