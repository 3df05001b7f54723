"""The search's own strategy: a cost model says what to try, and when to look again.

Every process measures one choice of every group, so every group always gets the choice that is
worth most to it: the expected gain (in log time) of knowing one more sample of it. That is high for
an unknown choice that the model expects much of or knows little about, and for a contender that
noise may have misjudged; so what looks slow is seen once and what could win is seen again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from droidmace.tuning.kernel_shapes import kernel_shape
from droidmace.tuning.search import Choice, Group, GroupHistory, History, KeySpace, Params, Plan
from droidmace.tuning.selection import chosen, noise_of
from droidmace.tuning.space import Legal
from droidmace.tuning.strategies.cost_model import (
    ModelSettings,
    Prior,
    SharedModel,
    local_fit,
    squash,
)
from droidmace.tuning.strategies.features import Floats, features, places
from droidmace.tuning.strategies.turns import moved, seeded

WORTH = 0.0005
"""The search is over when no process promises more than this share of the total time."""
_DEFAULT = -1


@dataclass(frozen=True, slots=True)
class _Axis:
    """One key of a group: its candidates, and what the model sees of them."""

    group: Group
    place: int
    space: KeySpace
    family: str
    index: dict[Params, int]
    features: Floats
    where: Floats


@dataclass(frozen=True, slots=True)
class _Slice:
    """A key's measured choices, all other keys of its group as they are in ``around``."""

    axis: _Axis
    number: int
    around: Choice
    reference_ms: float
    seen: dict[int, list[float]]
    """Candidate to its samples' targets."""


class Guided:
    """See the module. ``prior``: what other searches on such devices taught."""

    def __init__(
        self, seed: int = 0, *, prior: Prior | None = None, settings: ModelSettings | None = None
    ) -> None:
        self._seed = seed
        self._prior = prior
        self._settings = settings or ModelSettings()
        self._axes: dict[str, tuple[Group, list[_Axis]]] = {}

    def propose(self, history: History, count: int) -> list[Plan]:
        """See :class:`droidmace.tuning.search.Strategy`."""
        best = chosen(history)
        noise = noise_of(history.groups.values())
        slices = {
            name: list(self._slices(group, best[name])) for name, group in history.groups.items()
        }
        model = self._model([one for found in slices.values() for one in found])
        queues: dict[str, list[Choice]] = {}
        gain_ms = total_ms = 0.0
        for name, group in history.groups.items():
            picker = _Picker(self, group, best[name], slices[name], model, noise)
            queues[name] = picker.pick(count, len(history.runs))
            time_ms = group.estimate_ms(best[name])
            if math.isfinite(time_ms):
                total_ms += time_ms
                gain_ms += time_ms * picker.first_gain
            elif queues[name]:
                gain_ms = math.inf
        if gain_ms <= WORTH * total_ms:
            return []
        longest = max(map(len, queues.values()), default=0)
        return [
            {
                name: queue[turn] if turn < len(queue) else best[name]
                for name, queue in queues.items()
            }
            for turn in range(longest)
        ]

    @property
    def seed(self) -> int:
        """What its random draws depend on, beside the history."""
        return self._seed

    @property
    def settings(self) -> ModelSettings:
        """Of its model."""
        return self._settings

    def _slices(self, history: GroupHistory, best: Choice) -> Iterator[_Slice]:
        """The slices of a group that are searched now: one for each key with candidates."""
        group = history.group
        for axis in self._group_axes(group):
            around = best
            without = moved(around, (axis.place, ()))
            seen: dict[int, list[float]] = {}
            plain = (*around[: axis.place], None, *around[axis.place + 1 :])
            reference = history.samples.get(plain) or history.samples.get(group.default)
            reference_ms = statistics.median(reference) if reference else 0.0
            if reference_ms <= 0.0:
                reference_ms = statistics.median(
                    [value for values in history.samples.values() for value in values] or [1.0]
                )
            for choice, samples in history.samples.items():
                if moved(choice, (axis.place, ())) != without:
                    continue
                params = choice[axis.place]
                place = _DEFAULT if params is None else axis.index.get(params)
                if place is not None:
                    seen[place] = [
                        squash(math.log(max(value, 1e-9) / reference_ms)) for value in samples
                    ]
            yield _Slice(axis, 0, around, reference_ms, seen)

    def _group_axes(self, group: Group) -> list[_Axis]:
        known = self._axes.get(group.name)
        if known is None or known[0] is not group:
            known = self._axes[group.name] = (group, list(_axes(group)))
        return known[1]

    def _model(self, slices: Sequence[_Slice]) -> SharedModel:
        families = sorted({one.axis.family for one in slices})
        model = SharedModel(families, len(slices), self._settings, self._prior)
        for number, one in enumerate(slices):
            object.__setattr__(one, "number", number)
            rows = [place for place in one.seen if place != _DEFAULT]
            if rows:
                targets = np.array([statistics.fmean(one.seen[place]) for place in rows])
                model.learn(one.axis.family, number, one.axis.features[rows], targets)
        return model


class _Picker:
    """Chooses for one group what to measure next."""

    def __init__(
        self,
        strategy: Guided,
        history: GroupHistory,
        best: Choice,
        slices: Sequence[_Slice],
        model: SharedModel,
        noise: float,
    ) -> None:
        self._strategy = strategy
        self._history = history
        self._best = best
        self._slices = slices
        self._model = model
        self._noise = noise
        self._legal = Legal(history)
        self.first_gain = 0.0

    def pick(self, count: int, runs: int) -> list[Choice]:
        """At most ``count`` choices, the most valuable first."""
        default = self._history.group.default
        queue: list[Choice] = []
        if default not in self._history.samples and default not in self._history.refused:
            queue.append(default)
            self.first_gain = 1.0
        generator = seeded(self._strategy.seed, self._history.group.name, runs)
        views = [_View(one, self._model, self._strategy, self._noise) for one in self._slices]
        allowed = [
            np.array(
                [
                    self._legal(moved(self._best, (one.axis.place, v)))
                    for v in one.axis.space.candidates
                ],
                dtype=bool,
            )
            for one in self._slices
        ]
        while len(queue) < count:
            gains = [
                np.where(mask, view.gains(), 0.0) for view, mask in zip(views, allowed, strict=True)
            ]
            top = [float(one.max()) for one in gains]
            if not top or max(top) <= 0.0:
                break
            at = top.index(max(top))
            first = not any(one.seen.keys() - {_DEFAULT} for one in self._slices)
            if first and not queue[1:] and self._strategy._prior is None:
                at = generator.randrange(len(views))
                options = np.flatnonzero(allowed[at])
                if not len(options):
                    break
                choice = int(generator.choice(list(options)))
            else:
                choice = int(gains[at].argmax())
            self.first_gain = max(self.first_gain, top[at])
            axis = self._slices[at].axis
            queue.append(moved(self._best, (axis.place, axis.space.candidates[choice])))
            views[at].pretend(choice)
        return queue


class _View:
    """What the model says of one slice, with the pending choices pretended to be as expected."""

    def __init__(self, one: _Slice, model: SharedModel, strategy: Guided, noise: float) -> None:
        self._slice = one
        self._settings = strategy.settings
        self._noise = noise**2
        self._prior = model.predict(one.axis.family, one.number, one.axis.features)
        self._seen = [place for place in one.seen if place != _DEFAULT]
        self._targets = [statistics.fmean(one.seen[place]) for place in self._seen]
        self._noises = [self._noise / len(one.seen[place]) for place in self._seen]
        self._fit()

    def gains(self) -> Floats:
        """For each candidate: how much better the best known choice gets by one more sample."""
        sampled = np.zeros(len(self._mean), dtype=bool)
        sampled[self._seen] = True
        # what the default takes is 0 by definition
        known = np.where(sampled, self._mean, np.inf)
        order = np.argsort(known)
        first = min(float(known[order[0]]) if len(order) else math.inf, 0.0)
        second = min(float(known[order[1]]) if len(order) > 1 else math.inf, 0.0)
        reference = np.full(len(self._mean), first)
        if len(order) and known[order[0]] <= 0.0:
            reference[order[0]] = second
        change = self._variance / np.sqrt(self._variance + self._noise)
        gap = (self._mean - reference) / change
        gap = np.where(sampled, np.abs(gap), gap)
        density = np.exp(-0.5 * gap**2) / math.sqrt(2.0 * math.pi)
        gains: Floats = change * (density - gap * _above(gap))
        return gains

    def pretend(self, choice: int) -> None:
        """Count ``choice`` as measured with the expected result."""
        if choice in self._seen:
            at = self._seen.index(choice)
            self._noises[at] = 1.0 / (1.0 / self._noises[at] + 1.0 / self._noise)
        else:
            self._targets.append(float(self._mean[choice]))
            self._seen.append(choice)
            self._noises.append(self._noise)
        self._fit()

    def _fit(self) -> None:
        self._mean, self._variance = local_fit(
            *self._prior,
            self._slice.axis.where,
            self._seen,
            np.array(self._targets),
            np.array(self._noises),
            self._settings,
        )


def _above(values: Floats) -> Floats:
    """Share of the normal distribution above ``values`` (within 1e-7: Abramowitz 26.2.17)."""
    size = np.abs(values)
    t = 1.0 / (1.0 + 0.2316419 * size)
    series = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    upper = np.exp(-0.5 * size**2) / math.sqrt(2.0 * math.pi) * series
    return np.where(values >= 0.0, upper, 1.0 - upper)


def _axes(group: Group) -> Iterator[_Axis]:
    for place, space in enumerate(group.keys):
        if space.candidates:
            yield _Axis(
                group=group,
                place=place,
                space=space,
                family=kernel_shape(space.key).family,
                index={params: index for index, params in enumerate(space.candidates)},
                features=features(space, space.candidates),
                where=places(space, space.candidates),
            )
