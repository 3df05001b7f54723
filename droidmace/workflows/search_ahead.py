"""Thinking while the phone works: the next batch is proposed during the last process of this one,
and brought to the phone.

A strategy may take as long to think as a process takes to run. What that last process will tell is
not known then, so the strategy is told that it will be as slow as MACE's defaults: it asks for
nothing twice, and expects no more of what it has asked for ("constant liar", Ginsbourger et al.,
"Kriging is well-suited to parallelize optimization", 2010).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from droidmace.tuning.search import History, Plan, RunRecord, RunStatus, Strategy

_PATIENCE_S = 5.0
"""How long a search that is broken off waits for a thought that nobody wants any more."""


def _keep_here(_: Sequence[Plan]) -> None:
    """Sends nothing."""


class Ahead:
    """A strategy that has its answer ready when it is asked; see :class:`Strategy`.

    ``send`` brings what may be measured next to where it is measured; it is called from a thread of
    its own. ``guess_ms``: about what the groups take with MACE's defaults, as long as those have
    not been measured. Use it as a context manager: at its end nothing thinks or sends any more.
    """

    def __init__(
        self,
        strategy: Strategy,
        send: Callable[[Sequence[Plan]], None] = _keep_here,
        guess_ms: Mapping[str, float] | None = None,
    ) -> None:
        self._strategy = strategy
        self._send = send
        self._guess_ms = guess_ms or {}
        self._proposed: list[Plan] | None = None
        self._under_way: list[Plan] = []
        self._step = 0
        self._thought: Future[list[Plan]] | None = None

    def propose(self, history: History, count: int) -> list[Plan]:
        """See :class:`Strategy`."""
        thought, self._thought = self._thought, None
        ready = thought.result()[:count] if thought is not None else []
        self._proposed = ready or self._strategy.propose(history, count)
        return self._proposed

    def started(self, history: History, plans: Sequence[Plan]) -> None:
        """The phone begins with these."""
        # What was not proposed here makes sure of the winners: no proposal follows it.
        own = self._proposed is None or list(plans) == self._proposed
        self._under_way = list(plans) if own else []
        self._step = len(plans)
        self._think(history)

    def ended(self, history: History) -> None:
        """One of them is in the history now."""
        self._under_way = self._under_way[1:]
        self._think(history)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thought is not None:
            concurrent.futures.wait([self._thought], None if kind is None else _PATIENCE_S)

    def _think(self, history: History) -> None:
        """In the shadow of the last process of a batch."""
        if len(self._under_way) != 1 or self._thought is not None:
            return
        told = with_a_guess(history, self._under_way[0], self._guess_ms)
        if told is None:
            return
        thought: Future[list[Plan]] = Future()

        def think() -> None:
            _step_back()
            try:
                # Batches grow by one at a time.
                plans = self._strategy.propose(told, self._step + 1)
                if plans:
                    self._send(plans)
                thought.set_result(plans)
            except BaseException as error:
                thought.set_exception(error)

        self._thought = thought
        threading.Thread(target=think, daemon=True).start()


def _step_back() -> None:
    """Let the process that is measured go first, where the phone is this machine's guest."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def with_a_guess(
    history: History, plan: Plan, guess_ms: Mapping[str, float] | None = None
) -> History | None:
    """A copy of the history as it will be if ``plan`` is as slow as the defaults are.

    ``guess_ms`` stands for defaults that were not measured; None as long as they are not known.
    """
    guess = {name: _default_ms(history, name, guess_ms or {}) for name in plan}
    if not all(map(math.isfinite, guess.values())):
        return None
    told = History([one.group for one in history.groups.values()])
    for run in history.runs:
        told.add(run)
    told.add(RunRecord(plan, RunStatus.OK, 1, guess))
    return told


def _default_ms(history: History, name: str, guess_ms: Mapping[str, float]) -> float:
    group = history.groups[name]
    found = group.estimate_ms(group.group.default)
    return found if math.isfinite(found) else guess_ms.get(name, math.inf)
