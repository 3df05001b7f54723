"""The running story: one line per phase, and a moving one per phone on a terminal."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from droidmace.results import PhaseNote


class PhaseReporter:
    """Shows ``PhaseNote``s as they come, from any number of phones and threads.

    On a terminal every phone has a moving line; a finished phase stays as a line above. Without a
    terminal (a log file, CI) only the lines are printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._started: dict[tuple[str, str], float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = (
            Progress(
                SpinnerColumn(),
                TextColumn("{task.fields[serial]}  [bold]{task.fields[phase]}[/]"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal
            else None
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

    def __call__(self, note: PhaseNote) -> None:
        """Show one note."""
        with self._lock:
            started = self._started.setdefault((note.serial, note.phase), time.monotonic())
            if self._progress:
                self._move(note)
            if note.finished:
                seconds = time.monotonic() - started
                # A folded line in a log is a broken line.
                self._console.print(
                    f"{escape(note.serial)}  [green]✓[/] {escape(note.phase):<10} "
                    f"{escape(note.text)} [dim]({seconds:.1f} s)[/]",
                    highlight=False,
                    soft_wrap=True,
                )
                del self._started[(note.serial, note.phase)]

    def _move(self, note: PhaseNote) -> None:
        assert self._progress is not None
        task = self._tasks.get(note.serial)
        if task is None:
            task = self._progress.add_task(
                "", serial=escape(note.serial), phase="", note="", total=None
            )
            self._tasks[note.serial] = task
        self._progress.update(
            task,
            phase=escape(note.phase),
            note=escape(note.text[-60:]),
            total=note.total or None,
            completed=note.done,
        )
