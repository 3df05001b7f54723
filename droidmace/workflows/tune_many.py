"""Several phones at once: one process each, so that no phone can hold up or break another.

Processes rather than threads: a hung driver of one connection stops nobody else, and Ctrl-C reaches
each of them where it is, so that each stops its own remote process and gives back its own lock.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from droidmace.errors import DroidmaceError
from droidmace.results import PhaseNote, TuneFailure, TuneResult
from droidmace.workflows.tune import tune
from droidmace.workflows.tune_request import TuneRequest
from droidmace.workflows.vote import Ballot, Elected, count_votes

CLEAN_UP_S = 30.0
"""How long interrupted phones get to stop what runs on them."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an interrupted phone has saved of its work."""

    text: str


@dataclass(slots=True)
class _Worker:
    serial: str
    process: BaseProcess
    inbox: Connection
    phase: str = ""
    ballot: Ballot | None = None
    """What it has handed in, as long as it waits for the others."""
    outcome: TuneResult | TuneFailure | None = None


def tune_many(
    requests: Sequence[TuneRequest], on_note: Callable[[PhaseNote], None]
) -> list[TuneResult | TuneFailure]:
    """Run all requests at the same time; one outcome each, in the order of the requests.

    A failure of one is a value. Ctrl-C interrupts all of them, waits until they have cleaned up,
    and is then raised again; its notes say what each of them has kept. SIGTERM does the same.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for request in requests:
            inbox, outbox = context.Pipe()
            process = context.Process(
                target=_work, args=(request, outbox), name=f"tune {request.phone.serial}"
            )
            process.start()
            # The child holds the other end; ours must go, or its death would not be seen.
            outbox.close()
            workers.append(_Worker(request.phone.serial, process, inbox))
        _listen(workers, on_note)
    except BaseException as error:
        for kept in _stop(workers):
            error.add_note(kept)
        raise
    for worker in workers:
        worker.process.join()
    return [worker.outcome or _vanished(worker) for worker in workers]


def _listen(workers: Sequence[_Worker], on_note: Callable[[PhaseNote], None]) -> None:
    """Take messages until every worker has closed its end."""
    # Windows' pipes are not of the class Connection: any key that ``wait`` gives back will do.
    by_inbox: dict[object, _Worker] = {worker.inbox: worker for worker in workers}
    while by_inbox:
        for inbox in wait([worker.inbox for worker in by_inbox.values()]):
            worker = by_inbox[inbox]
            try:
                message = worker.inbox.recv()
            except (EOFError, ConnectionResetError):
                del by_inbox[inbox]
                worker.ballot = None
            else:
                if isinstance(message, PhaseNote):
                    worker.phase = "" if message.finished else message.phase
                    on_note(message)
                elif isinstance(message, Ballot):
                    worker.ballot = message
                else:
                    worker.outcome = message
        _close_poll(list(by_inbox.values()))


def _close_poll(workers: Sequence[_Worker]) -> None:
    """Once every phone that is still at work has voted: tell each what its kind agreed on."""
    if any(worker.ballot is None and worker.outcome is None for worker in workers):
        return
    electorates: dict[tuple[tuple[str, str], ...], list[_Worker]] = {}
    for worker in workers:
        if worker.ballot is not None:
            electorates.setdefault(worker.ballot.electorate, []).append(worker)
    for voters in electorates.values():
        answer: Elected | DroidmaceError | None
        try:
            answer = count_votes([worker.ballot for worker in voters if worker.ballot])
        except DroidmaceError as error:
            answer = error
        except Exception as exc:
            # This process is every phone's: what each has measured outlives a mistake in here.
            answer = DroidmaceError(
                f"the phones' votes cannot be counted: {type(exc).__name__}: {exc}",
                hint="what each has measured is kept: tune them one by one, with --serial",
            )
            answer.__cause__ = exc
        for worker in voters:
            worker.ballot = None
            # One that has died since is noticed when its end of the pipe closes.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                worker.inbox.send(answer)


def _stop(workers: Sequence[_Worker]) -> list[str]:
    """Interrupt what still runs and wait for it; end by force what does not listen.

    What they say of the work that they kept.
    """
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid and sys.platform != "win32":
            os.kill(worker.process.pid, signal.SIGINT)
    deadline = time.monotonic() + CLEAN_UP_S
    kept = _last_words(workers, deadline)
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
    return kept


def _last_words(workers: Sequence[_Worker], deadline: float) -> list[str]:
    """Take what interrupted phones still send, until all have closed their ends.

    Nobody else does: one with much to tell would wait for ever.
    """
    kept: dict[str, str] = {}
    by_inbox: dict[object, _Worker] = {
        worker.inbox: worker for worker in workers if not worker.inbox.closed
    }
    while by_inbox:
        left_s = max(0.0, deadline - time.monotonic())
        ready = wait([worker.inbox for worker in by_inbox.values()], left_s)
        if not ready:
            break
        for inbox in ready:
            worker = by_inbox[inbox]
            try:
                message = worker.inbox.recv()
            except (EOFError, OSError):
                del by_inbox[inbox]
            else:
                if isinstance(message, _Kept):
                    kept[worker.serial] = f"{worker.serial}: {message.text}"
    return [kept[worker.serial] for worker in workers if worker.serial in kept]


def _vanished(worker: _Worker) -> TuneFailure:
    return TuneFailure(
        serial=worker.serial,
        phase=worker.phase,
        message=f"the process for this phone ended without a word (exit code "
        f"{worker.process.exitcode})",
        hint=f"run it alone to see why: droidmace tune --serial {worker.serial} …",
    )


def _work(request: TuneRequest, outbox: Connection) -> None:
    """The process of one phone."""
    if sys.platform != "win32":
        # A session of its own: Ctrl-C on the terminal reaches the parent alone, which then
        # interrupts each child exactly once. A second one would break its cleaning up.
        os.setsid()
    outcome: TuneResult | TuneFailure

    def poll(ballot: Ballot) -> Elected | None:
        outbox.send(ballot)
        answer: Elected | DroidmaceError | None = outbox.recv()
        if isinstance(answer, DroidmaceError):
            raise answer
        return answer

    try:
        outcome = tune(request, outbox.send, poll)
    except DroidmaceError as error:
        outcome = TuneFailure(
            serial=request.phone.serial,
            phase=error.phase or "",
            message=error.message,
            where=error.where,
            hint=error.hint,
            details=error.details,
        )
    except KeyboardInterrupt as interrupt:
        # Nobody listens if the parent has died.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for text in getattr(interrupt, "__notes__", ()):
                outbox.send(_Kept(text))
        sys.exit(130)
    outbox.send(outcome)
    outbox.close()
