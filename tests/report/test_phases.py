"""The running story in a log and on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from droidmace.report.phases import LINE_EVERY_S, PhaseReporter
from droidmace.results import PhaseNote

PROGRESS = "412 evaluations, 58.1 ms (untuned 71.3, -18.5 %), 3 min left"
SERIAL = "127.0.0.1:40569"


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def searching(done: int, text: str = PROGRESS) -> PhaseNote:
    return PhaseNote("phone", "search", text, done, 1000)


def test_a_log_gets_a_line_now_and_then() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)
    with PhaseReporter(console, clock) as reporter:
        reporter(PhaseNote("phone", "search"))
        for second in range(int(4 * LINE_EVERY_S)):
            clock.now_s = 100.0 + second
            reporter(searching(10 * second, f"{second} evaluations"))
        reporter(PhaseNote("phone", "search", "all tried", finished=True))
    lines = written(console).splitlines()
    assert len(lines) == 4
    assert [re.sub(r" +", " ", line) for line in lines] == [
        "phone … search 20%, 20 evaluations (20.0 s)",
        "phone … search 40%, 40 evaluations (40.0 s)",
        "phone … search 60%, 60 evaluations (60.0 s)",
        "phone ✓ search all tried (79.0 s)",
    ]


def test_a_short_phase_is_one_line_in_a_log() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)
    with PhaseReporter(console, clock) as reporter:
        for done in range(500):
            reporter(searching(done))
        clock.now_s += 3.0
        reporter(PhaseNote("phone", "search", "[x]\x1b[2J", finished=True))
        clock.now_s += 500.0
        reporter(searching(1))  # the same phase again begins anew
    [line] = written(console).splitlines()
    assert "[x]\\x1b[2J (3.0 s)" in line


def test_phones_have_lines_of_their_own() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)
    with PhaseReporter(console, clock) as reporter:
        reporter(PhaseNote("a", "search"))
        clock.now_s += LINE_EVERY_S - 1
        reporter(PhaseNote("b", "search"))
        clock.now_s += 1
        reporter(PhaseNote("a", "search", "far"))
        reporter(PhaseNote("b", "search", "near"))
    [line] = written(console).splitlines()
    assert line.startswith("a ")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_shows_how_far_a_search_is(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with PhaseReporter(console) as reporter:
        reporter(PhaseNote(SERIAL, "search"))
        reporter(PhaseNote(SERIAL, "search", PROGRESS, 412, 1000))
    shown = written(console)
    assert SERIAL in shown
    assert "412 evaluations, 58.1 ms (untuned 71.3" in shown
    assert ("3 min left" in shown) == (width >= 80)
    assert ("41%" in shown) == (width < 140)


def test_phases_that_are_broken_off_say_how_far_they_were() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)

    def story() -> None:
        with PhaseReporter(console, clock) as reporter:
            reporter(PhaseNote("phone", "push", "42 bytes", finished=True))
            reporter(searching(120, "120 evaluations"))
            clock.now_s += 3.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story()
    pushed, searched = written(console).splitlines()
    assert "✓ push" in pushed
    assert re.sub(r" +", " ", searched) == "phone ✗ search 12%, 120 evaluations (3.0 s)"


def test_more_than_all_is_all() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)
    with PhaseReporter(console, clock) as reporter:
        reporter(searching(900))
        clock.now_s += LINE_EVERY_S
        reporter(searching(1020, "1020 evaluations"))  # a batch is measured to its end
    [line] = written(console).splitlines()
    assert "100%, 1020 evaluations" in line
