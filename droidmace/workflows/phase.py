"""A phase of a workflow's story, as its listeners hear of it."""

from __future__ import annotations

from collections.abc import Callable

from droidmace.errors import DroidmaceError
from droidmace.results import PhaseNote

NoteCallback = Callable[[PhaseNote], None]


class Phase:
    """One phase: says that it began, moves on, and ended; names itself in what goes wrong."""

    def __init__(self, serial: str, name: str, on_note: NoteCallback) -> None:
        self._serial = serial
        self._name = name
        self._on_note = on_note
        self.summary = ""

    def __enter__(self) -> Phase:
        self._on_note(PhaseNote(self._serial, self._name))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._on_note(PhaseNote(self._serial, self._name, self.summary, finished=True))
        elif isinstance(error, DroidmaceError):
            error.phase = self._name

    def progress(self, text: str, done: int, total: int) -> None:
        """Move on."""
        self._on_note(PhaseNote(self._serial, self._name, text, done, total))
