"""The running story: one line per phase, and a moving one per phone on a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from droidmace.results import PhaseNote
from droidmace.wording import printable

LINE_EVERY_S = 20.0
"""How often a long phase says how far it is where there is no terminal."""
_WIDE = 120
# Columns beside the note (and a wide line's serial and phase): spinner, bar, time, blanks.
_BESIDE_WIDE = 35
_BESIDE_NARROW = 12


class PhaseReporter:
    """Shows ``PhaseNote``s as they come, from any number of phones and threads.

    On a terminal every phone has a moving line; a finished phase stays as a line above. Without a
    terminal (a log file, CI) there are only lines: one for each finished phase, and in a long one
    now and then how far it is. Whatever ends the story early, the phases that it broke off say how
    far they were.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()
        self._started: dict[tuple[str, str], float] = {}
        self._said: dict[tuple[str, str], float] = {}
        self._newest: dict[tuple[str, str], PhaseNote] = {}
        self._tasks: dict[str, TaskID] = {}
        self._wide = console.width >= _WIDE
        self._progress = self._moving_lines() if console.is_terminal else None

    def _moving_lines(self) -> Progress:
        """One line per phone; in a narrow terminal two, and a percentage instead of the bar."""
        phase = "{task.fields[serial]}  [bold]{task.fields[phase]}[/]"
        note = "{task.fields[note]}"
        told = (
            (TextColumn(phase), BarColumn(bar_width=20), TextColumn(note))
            if self._wide
            else (TextColumn(f"{phase}\n{note}"),)
        )
        return Progress(
            SpinnerColumn(), *told, TimeElapsedColumn(), console=self._console, transient=True
        )

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress:
            self._progress.stop()
        if error is None:
            return
        with self._lock:
            now = self._clock()
            for key, started in self._started.items():
                self._say(self._newest[key], "[red]✗[/]", now - started)

    def __call__(self, note: PhaseNote) -> None:
        """Show one note."""
        with self._lock:
            key = (note.serial, note.phase)
            now = self._clock()
            started = self._started.setdefault(key, now)
            self._newest[key] = note
            if self._progress:
                self._move(note)
            if note.finished:
                self._say(note, "[green]✓[/]", now - started)
                self._started.pop(key)
                self._said.pop(key, None)
                self._newest.pop(key)
            elif not self._progress and now - self._said.setdefault(key, now) >= LINE_EVERY_S:
                self._say(note, "…", now - started)
                self._said[key] = now

    def _say(self, note: PhaseNote, sign: str, seconds: float) -> None:
        text = note.text if note.finished else _with_share(note)
        # A folded line in a log is a broken line.
        self._console.print(
            f"{escape(note.serial)}  {sign} {escape(note.phase):<10} "
            f"{escape(printable(text))} [dim]({seconds:.1f} s)[/]",
            highlight=False,
            soft_wrap=True,
        )

    def _move(self, note: PhaseNote) -> None:
        assert self._progress is not None
        task = self._tasks.get(note.serial)
        if task is None:
            task = self._progress.add_task(
                "", serial=escape(note.serial), phase="", note="", total=None
            )
            self._tasks[note.serial] = task
        beside = len(note.serial) + len(note.phase) + _BESIDE_WIDE if self._wide else _BESIDE_NARROW
        text = note.text if self._wide else _with_share(note)
        self._progress.update(
            task,
            phase=escape(note.phase),
            note=escape(_fitting(text, self._console.width - beside)),
            total=note.total or None,
            completed=note.done,
        )


def _with_share(note: PhaseNote) -> str:
    """The note's text, after the share that is done where that is known."""
    share = f"{min(100 * note.done // note.total, 100)}%" if note.total > 0 else ""
    return ", ".join(part for part in (share, note.text) if part)


def _fitting(text: str, width: int) -> str:
    """The beginning of the text, as far as there is room: what matters most is said first."""
    text, room = printable(text), max(width, 20)
    return text if len(text) <= room else f"{text[: room - 1]}…"
