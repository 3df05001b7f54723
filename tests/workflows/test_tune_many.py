"""Several phones: what one of them does, or the vote, takes nothing from the others."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import pytest

from droidmace.errors import DroidmaceError
from droidmace.results import PhaseNote
from droidmace.workflows import tune_many as module
from droidmace.workflows.tune_many import _close_poll, _work, _Worker, tune_many
from droidmace.workflows.tune_request import TuneRequest
from droidmace.workflows.vote import Ballot


@dataclasses.dataclass(frozen=True)
class OnePhone:
    """As much of a ``PhoneRequest`` as the processes look at."""

    serial: str


@dataclasses.dataclass(frozen=True)
class Request:
    """The same of a ``TuneRequest``."""

    phone: OnePhone


def stand_in(request: TuneRequest, outbox: Connection) -> None:
    """A phone's process, whose tune says that it began and then waits to be interrupted."""

    def tune(request: Any, on_note: Any, poll: Any) -> None:
        serial = request.phone.serial
        try:
            on_note(PhaseNote(serial, "search"))
            time.sleep(60)
        except KeyboardInterrupt as interrupt:
            on_note(PhaseNote(serial, "search", "x" * 500_000))  # more than a pipe holds
            if serial != "silent":
                interrupt.add_note(f"12 runs of {serial}")
            raise

    module.tune = tune  # type: ignore[assignment]
    _work(request, outbox)


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts its processes in another way")
def test_interrupted_run_says_what_each_phone_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_work", stand_in)
    begun: set[str] = set()

    def on_note(note: PhaseNote) -> None:
        begun.add(note.serial)
        if len(begun) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    requests = [cast(TuneRequest, Request(OnePhone(name))) for name in ("one", "silent", "two")]
    with pytest.raises(KeyboardInterrupt) as caught:
        tune_many(requests, on_note)
    assert caught.value.__notes__ == ["one: 12 runs of one", "two: 12 runs of two"]


@pytest.mark.parametrize("journal", [None, Path("nowhere.jsonl")])
def test_vote_that_cannot_be_counted_is_told_to_every_phone(journal: Path | None) -> None:
    # None is a mistake of ours (an AttributeError), the other a file that is gone.
    ballot = Ballot(cast(Path, journal), ())
    ends = [Pipe() for _ in range(2)]
    workers = [_Worker(f"phone {i}", Process(), ours) for i, (ours, _) in enumerate(ends)]
    for worker in workers:
        worker.ballot = ballot
    _close_poll(workers)
    for _, theirs in ends:
        assert theirs.poll(10)
        answer = theirs.recv()
        assert isinstance(answer, DroidmaceError)
        assert answer.hint or answer.where
