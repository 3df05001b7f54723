"""The search's own strategy: a cost model says what to try, and when to look again.

Every process measures one choice of every group, so every group always gets the choice that is
worth most to it: the expected gain (in log time) of knowing one more sample of it. That is high for
an unknown choice that the model expects much of or knows little about, and for a contender that
noise may have misjudged; so what looks slow is seen once and what could win is seen again.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.tuning.kernel_shapes import kernel_shape
from droidmace.tuning.search import Choice, Group, GroupHistory, History, KeySpace, Params, Plan
from droidmace.tuning.selection import chosen, noise_of
from droidmace.tuning.space import Legal, SharedLimit, suspects_of
from droidmace.tuning.strategies.cost_model import (
    ModelSettings,
    Prior,
    SharedModel,
    local_fit,
    squash,
)
from droidmace.tuning.strategies.features import Floats, features, places
from droidmace.tuning.strategies.one_thread import on_one_thread
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

    @on_one_thread
    def propose(self, history: History, count: int) -> list[Plan]:
        """See :class:`droidmace.tuning.search.Strategy`."""
        best = chosen(history)
        noise = noise_of(history.groups.values())
        slices, model = self._learn(history, best, noise)
        limit = SharedLimit(history.groups.values())
        suspects = suspects_of(history)
        queues: dict[str, list[Choice]] = {}
        gain_ms = total_ms = 0.0
        for name, group in history.groups.items():
            views = [_View(one, model, self._settings, noise) for one in slices[name]]
            generator = seeded(self._seed, name, len(history.runs))
            legal = _Worth(Legal(group, suspects[name]), limit)
            picker = _Picker(group, best[name], views, legal, generator)
            queues[name] = picker.pick(count)
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

    @on_one_thread
    def expected_best(self, history: History) -> dict[str, Choice]:
        """See :class:`droidmace.tuning.loop.Chooser`: the model knows of neighbours, too."""
        plan = chosen(history)
        noise = noise_of(history.groups.values())
        slices, model = self._learn(history, plan, noise)
        for name, found in slices.items():
            best = plan[name]
            most = 0.0
            for one in found:
                view = _View(one, model, self._settings, noise)
                gain, params = view.better_than(best[one.axis.place])
                if gain > most:
                    most, plan[name] = gain, moved(best, (one.axis.place, params))
        return plan

    @on_one_thread
    def learnt(self, history: History) -> Prior:
        """What ``history`` teaches of all kernels: a prior for searches on such devices."""
        noise = noise_of(history.groups.values())
        return self._learn(history, chosen(history), noise)[1].shared

    def _learn(
        self, history: History, best: Plan, noise: float
    ) -> tuple[dict[str, list[_Slice]], SharedModel]:
        """The slices of every group around its best choice, and the model of them all."""
        slices: dict[str, list[_Slice]] = {}
        count = 0
        for name, group in history.groups.items():
            axes = self._group_axes(group.group)
            slices[name] = [
                _slice(group, axis, best[name], count + i) for i, axis in enumerate(axes)
            ]
            count += len(axes)
        found = [one for group_slices in slices.values() for one in group_slices]
        families = sorted({one.axis.family for one in found})
        model = SharedModel(families, count, self._settings, self._prior)
        for one in found:
            rows = [place for place in one.seen if place != _DEFAULT]
            if rows:
                targets = np.array([statistics.fmean(one.seen[place]) for place in rows])
                doubts = np.array([noise**2 / len(one.seen[place]) for place in rows])
                model.learn(one.axis.family, one.number, one.axis.features[rows], targets, doubts)
        return slices, model

    def _group_axes(self, group: Group) -> list[_Axis]:
        known = self._axes.get(group.name)
        if known is None or known[0] is not group:
            known = self._axes[group.name] = (group, list(_axes(group)))
        return known[1]


@dataclass(frozen=True, slots=True)
class _Worth:
    """Whether a choice is likely to run."""

    legal: Legal
    limit: SharedLimit

    def __call__(self, choice: Choice) -> bool:
        return self.legal(choice) and self.limit.expects(choice)


class _Picker:
    """Chooses for one group what to measure next.

    ``first_gain``: what its most valuable choice promises, in log time.
    """

    def __init__(
        self,
        history: GroupHistory,
        best: Choice,
        views: Sequence[_View],
        legal: Callable[[Choice], bool],
        generator: random.Random,
    ) -> None:
        self._best = best
        self._views = views
        self._generator = generator
        self._legal = legal
        self._untouched = not any(view.known for view in views)
        default = history.group.default
        known = default in history.samples or default in history.refused
        self._default = None if known else default
        self.first_gain = 0.0 if known else 1.0

    def pick(self, count: int) -> list[Choice]:
        """At most ``count`` choices, the most valuable first; no unknown choice twice."""
        queue: list[Choice] = [] if self._default is None else [self._default]
        allowed = [self._allowed(view.axis) for view in self._views]
        while len(queue) < count:
            gains = [
                np.where(mask, view.gains(), 0.0)
                for view, mask in zip(self._views, allowed, strict=True)
            ]
            top = [float(one.max()) for one in gains]
            if max(top, default=0.0) <= 0.0:
                break
            at = top.index(max(top))
            choice = int(gains[at].argmax())
            if self._untouched:
                # the model knows nothing of this group: groups that differ teach it most
                choice = self._generator.choice(np.flatnonzero(gains[at] > 0.0).tolist())
                self._untouched = False
            self.first_gain = max(self.first_gain, top[at])
            view = self._views[at]
            if not view.measured(choice):
                allowed[at][choice] = False
            params = view.axis.space.candidates[choice]
            queue.append(moved(self._best, (view.axis.place, params)))
            view.pretend(choice)
        return queue[:count]

    def _allowed(self, axis: _Axis) -> npt.NDArray[np.bool_]:
        choices = (moved(self._best, (axis.place, params)) for params in axis.space.candidates)
        return np.fromiter(map(self._legal, choices), dtype=bool)


class _View:
    """What the model says of one slice, with the pending choices pretended to be as expected."""

    def __init__(
        self, one: _Slice, model: SharedModel, settings: ModelSettings, noise: float
    ) -> None:
        self.axis = one.axis
        self._settings = settings
        self._noise = noise**2
        self._prior = model.predict(one.axis.family, one.number, one.axis.features)
        self._seen = [place for place in one.seen if place != _DEFAULT]
        self._targets = [statistics.fmean(one.seen[place]) for place in self._seen]
        self._noises = [self._noise / len(one.seen[place]) for place in self._seen]
        self._fit()

    @property
    def known(self) -> bool:
        """Whether anything of it was measured."""
        return bool(self._seen)

    def better_than(self, params: Params | None) -> tuple[float, Params | None]:
        """The value that is expected to be the fastest, and what it gains over ``params``."""
        options: dict[Params | None, float] = {None: 0.0}  # the default, by definition
        for place in self._seen:
            options[self.axis.space.candidates[place]] = float(self._mean[place])
        best = min(options, key=lambda one: options[one])
        return options.get(params, math.inf) - options[best], best

    def measured(self, choice: int) -> bool:
        """Whether that candidate was."""
        return choice in self._seen

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
            self.axis.where,
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


def _slice(history: GroupHistory, axis: _Axis, around: Choice, number: int) -> _Slice:
    """What was measured of one key with the others as they are in ``around``."""
    here = axis.place
    seen: dict[int, list[float]] = {}
    reference_ms = _reference_ms(history, (*around[:here], None, *around[here + 1 :]))
    rest = (around[:here], around[here + 1 :])
    for choice, samples in history.samples.items():
        if (choice[:here], choice[here + 1 :]) != rest:
            continue
        params = choice[here]
        place = _DEFAULT if params is None else axis.index.get(params)
        if place is not None:
            seen[place] = [squash(math.log(max(one, 1e-9) / reference_ms)) for one in samples]
    return _Slice(axis, number, seen)


def _reference_ms(history: GroupHistory, plain: Choice) -> float:
    """What times are compared with: the default's, as long as that was measured."""
    samples = history.samples.get(plain) or history.samples.get(history.group.default)
    samples = samples or [one for found in history.samples.values() for one in found]
    return max(statistics.median(samples or [1.0]), 1e-9)


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
