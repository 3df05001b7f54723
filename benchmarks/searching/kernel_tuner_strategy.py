"""kernel_tuner's optimisers as strategies of a search: one of them for each tuning key.

They ask for one measurement after another and wait for it, so each runs in a thread of its own that
sleeps but for its turn. Never two at a time: they draw from Python's and numpy's global generators,
which are seeded, so a seed says all.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import queue
import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from kernel_tuner import util
from kernel_tuner.interface import Options
from kernel_tuner.searchspace import Searchspace

from droidmace.tuning.search import Choice, Group, GroupHistory, History, Plan
from droidmace.tuning.selection import chosen

_NO_LIMIT = 1 << 40
_PATIENCE_S = 20.0
"""genetic_algorithm may look for ever for a child that its last generation did not have."""
_spaces: dict[tuple[str, Any], Searchspace] = {}


class KernelTunerStrategy:
    """Every group's default first, then whatever ``name`` of kernel_tuner asks for, group by
    group. Call :meth:`close` at the end.
    """

    def __init__(self, name: str, seed: int, evaluations: int) -> None:
        self._name = name
        self._evaluations = evaluations
        self._searches: dict[str, _KeySearch] = {}
        random.seed(seed)
        np.random.seed(seed)

    def propose(self, history: History, count: int) -> list[Plan]:
        """See :class:`droidmace.tuning.search.Strategy`: one plan at a time."""
        del count
        best = chosen(history)
        if not history.runs:
            return [best]
        plan: dict[str, Choice] = {}
        for name, group in history.groups.items():
            if name not in self._searches:
                budget = max(self._evaluations // len(history.groups), 2)
                self._searches[name] = _KeySearch(self._name, group.group, budget)
            asked = self._searches[name].next(group)
            if asked is not None:
                plan[name] = asked
        return [{**best, **plan}] if plan else []

    def close(self) -> None:
        """End the threads."""
        for search in self._searches.values():
            search.close()


class _KeySearch:
    """One optimiser on one key. Of several keys of a group the first is searched."""

    def __init__(self, strategy: str, group: Group, evaluations: int) -> None:
        self._space = _space_of(group)
        self._rest = group.default[1:]
        self._strategy = strategy
        self._evaluations = evaluations
        self._asked: queue.Queue[tuple[int, ...] | None] = queue.Queue()
        self._told: queue.Queue[float | None] = queue.Queue()
        self._waiting: Choice | None = None
        self._done = False
        self._thread = threading.Thread(target=self._tune, daemon=True)
        self._started = False

    def next(self, history: GroupHistory) -> Choice | None:
        """What it wants measured, having been told of what it asked for before; None: no more."""
        if self._done:
            return None
        if not self._started:
            self._started = True
            self._thread.start()
        elif self._waiting is not None:
            samples = history.samples.get(self._waiting)
            self._told.put(samples[0] if samples else float("inf"))
        lws = self._next_asked()
        if lws is None:
            self._done = True
            return None
        self._waiting = ((*lws, 0), *self._rest)
        return self._waiting

    def close(self) -> None:
        """End the thread."""
        if self._started and not self._done:
            self._told.put(None)
            while self._next_asked() is not None:
                self._told.put(None)
        if self._started:
            self._thread.join()

    def _next_asked(self) -> tuple[int, ...] | None:
        """What it asks for; one that looks in vain for what it has not had yet is ended."""
        while True:
            try:
                return self._asked.get(timeout=_PATIENCE_S)
            except queue.Empty:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident or 0),
                    ctypes.py_object(util.StopCriterionReached),
                )

    def measure(self, lws: tuple[int, ...]) -> float:
        """For the optimiser: ask, and wait. Raises ``StopCriterionReached`` when told to end."""
        self._asked.put(lws)
        time_ms = self._told.get()
        if time_ms is None:
            raise util.StopCriterionReached("closed")
        return time_ms

    def _tune(self) -> None:
        module = importlib.import_module(f"kernel_tuner.strategies.{self._strategy}")
        options = Options(
            strategy_options=Options(max_fevals=min(self._evaluations, self._space.size)),
            objective=["time"],
            objective_higher_is_better=[False],
            budget=util.TuningBudget(),
            verbose=False,
            tune_params=self._space.tune_params,
        )
        try:
            # greedy_ils fails with a TypeError where a size has no neighbour left
            with contextlib.suppress(util.StopCriterionReached, TypeError):
                module.tune(self._space, _Runner(self), options)
        finally:
            self._asked.put(None)


class _Runner:
    """What kernel_tuner measures with; what was measured once costs nothing again."""

    def __init__(self, search: _KeySearch) -> None:
        self._search = search
        self._known: dict[tuple[int, ...], float] = {}

    def run(self, configs: Sequence[Sequence[int]], options: Options) -> list[dict[str, Any]]:
        """kernel_tuner's interface of a runner."""
        return [{"time": self._time_ms(tuple(map(int, config)), options)} for config in configs]

    def add_strategy_time(self, seconds: float) -> None:
        """kernel_tuner's own account of its time."""

    def _time_ms(self, lws: tuple[int, ...], options: Options) -> float:
        if lws not in self._known:
            self._known[lws] = self._search.measure(lws)
            options.budget.add_evaluations(1)
        return self._known[lws]


def _space_of(group: Group) -> Searchspace:
    """The recorded candidates of a group's first key, as kernel_tuner knows a space."""
    lws = tuple(params[:-1] for params in group.keys[0].candidates)
    place = (group.name, lws)
    if place not in _spaces:
        allowed = set(lws)
        names = [f"lws{axis}" for axis in range(len(lws[0]))]
        sizes = {name: sorted({one[axis] for one in lws}) for axis, name in enumerate(names)}

        def legal(config: dict[str, int]) -> bool:
            return tuple(config[name] for name in names) in allowed

        _spaces[place] = Searchspace(sizes, [legal], _NO_LIMIT)
    return _spaces[place]
