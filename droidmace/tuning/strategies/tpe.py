"""Optuna's tree-structured Parzen estimator, one study for each tuning key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from droidmace.errors import MissingExtraError
from droidmace.tuning.search import Choice, GroupHistory, KeySpace, Params
from droidmace.tuning.space import Legal
from droidmace.tuning.strategies.turns import InTurns, Move, all_moves, moved, seeded, tried_moves

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_REFUSED_MS = 1e6
_TRIES = 20
"""How often the sampler may ask for what is not there before any choice is taken."""


class TreeParzen(InTurns):
    """Asks Optuna about each key by itself; its parameters are places in each axis's sizes.

    The studies are made from the history at every call and the samplers seeded anew, so that the
    same history gets the same answers. Raises ``MissingExtraError``.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        try:
            import optuna
        except ImportError as exc:
            raise MissingExtraError("optuna", "search", "the search strategy tpe") from exc
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def _queue(self, history: GroupHistory, best: Choice, legal: Legal, count: int) -> list[Choice]:
        default = history.group.default
        if default not in history.samples and default not in history.refused:
            return [default][:count]
        tried = tried_moves(history)
        fresh = {
            move: choice
            for move in all_moves(history)
            if move not in tried and legal(choice := moved(best, move))
        }
        queue: list[Choice] = []
        studies: dict[int, _Study] = {}
        generator = seeded(self.seed, history.group.name, sum(map(len, history.samples.values())))
        while fresh and len(queue) < count:
            places = sorted({place for place, _ in fresh})
            place = places[generator.randrange(len(places))]
            if place not in studies:
                studies[place] = _Study(history, place, generator.getrandbits(31))
            by_lws = {params[:-1]: params for where, params in fresh if where == place}
            lws = studies[place].ask(by_lws) or generator.choice(sorted(by_lws))
            queue.append(fresh.pop((place, by_lws[lws])))
        return queue

    def moves(self, history: GroupHistory) -> list[Move]:
        """See :class:`InTurns`."""
        return list(all_moves(history))


class _Study:
    """Optuna's view of one key of a group."""

    def __init__(self, history: GroupHistory, place: int, seed: int) -> None:
        import optuna

        space = history.group.keys[place]
        self._sizes = _sizes_along(space)
        self._distributions: dict[str, BaseDistribution] = {
            name: optuna.distributions.IntDistribution(0, len(sizes) - 1)
            for name, sizes in self._sizes.items()
        }
        # what was proposed and has no answer yet counts as bad, so that a batch differs
        self._study = optuna.create_study(
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
        )
        trials = [
            self._trial(params, sample)
            for choice, samples in history.samples.items()
            if (params := choice[place]) is not None
            for sample in samples
        ]
        refused = sorted(params for choice in history.refused if (params := choice[place]))
        trials += [self._trial(params, _REFUSED_MS) for params in refused]
        self._study.add_trials([trial for trial in trials if trial is not None])

    def ask(self, wanted: dict[tuple[int, ...], Params]) -> tuple[int, ...] | None:
        """One of the local sizes in ``wanted``; None if the sampler does not come to one."""
        for _ in range(_TRIES):
            trial = self._study.ask(self._distributions)
            lws = tuple(sizes[trial.params[name]] for name, sizes in self._sizes.items())
            if lws in wanted:
                return lws
        return None

    def _trial(self, params: Params, value_ms: float) -> FrozenTrial | None:
        import optuna

        try:
            places = {
                name: sizes.index(size)
                for (name, sizes), size in zip(self._sizes.items(), params[:-1], strict=True)
            }
        except ValueError:
            return None  # the phone's own value, which is no candidate here
        return optuna.trial.create_trial(
            params=places, distributions=self._distributions, value=value_ms
        )


def _sizes_along(space: KeySpace) -> dict[str, list[int]]:
    axes = len(space.candidates[0]) - 1
    return {
        f"lws{axis}": sorted({params[axis] for params in space.candidates}) for axis in range(axes)
    }
