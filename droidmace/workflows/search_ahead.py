"""Thinking while the phone works: the next batch is proposed during the last process of this one.

A strategy may take as long to think as a process takes to run. What that last process will tell is
not known then, so the strategy is told that it will be as slow as MACE's defaults: it asks for
nothing twice, and expects no more of what it has asked for ("constant liar", Ginsbourger et al.,
"Kriging is well-suited to parallelize optimization", 2010).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from droidmace.tuning.search import History, Plan, RunRecord, RunStatus, Strategy


class Ahead:
    """A strategy that has its answer ready when it is asked; see :class:`Strategy`."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._under_way: list[Plan] = []
        self._step = 0
        self._thought: Future[list[Plan]] | None = None

    def propose(self, history: History, count: int) -> list[Plan]:
        """See :class:`Strategy`."""
        thought, self._thought = self._thought, None
        ready = thought.result()[:count] if thought is not None else []
        return ready or self._strategy.propose(history, count)

    def started(self, history: History, plans: Sequence[Plan]) -> None:
        """The phone begins with these."""
        self._under_way = list(plans)
        self._step = len(plans)
        self._think(history)

    def ended(self, history: History) -> None:
        """One of them is in the history now."""
        self._under_way = self._under_way[1:]
        self._think(history)

    def _think(self, history: History) -> None:
        """In the shadow of the last process of a batch."""
        if len(self._under_way) != 1 or self._thought is not None:
            return
        told = with_a_guess(history, self._under_way[0])
        if told is None:
            return
        thought: Future[list[Plan]] = Future()

        def think() -> None:
            _step_back()
            try:
                # Batches grow by one at a time.
                thought.set_result(self._strategy.propose(told, self._step + 1))
            except BaseException as error:
                thought.set_exception(error)

        self._thought = thought
        threading.Thread(target=think, daemon=True).start()


def _step_back() -> None:
    """Let the process that is measured go first, where the phone is this machine's guest."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def with_a_guess(history: History, plan: Plan) -> History | None:
    """A copy of the history as it will be if ``plan`` is as slow as the defaults are.

    None as long as they are not known.
    """
    guess = {name: _default_ms(history, name) for name in plan}
    if not all(map(math.isfinite, guess.values())):
        return None
    told = History([one.group for one in history.groups.values()])
    for run in history.runs:
        told.add(run)
    told.add(RunRecord(plan, RunStatus.OK, 1, guess))
    return told


def _default_ms(history: History, name: str) -> float:
    group = history.groups[name]
    return group.estimate_ms(group.group.default)
