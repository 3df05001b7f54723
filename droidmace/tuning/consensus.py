"""One winner for each kernel out of several searches: repeats, and phones of one model.

Single searches under noise disagree, most of them over choices that are equally fast. So it is not
counted alone who chose what: the evidence of all is pooled, and a vote also stands for the winner
if its own measurements cannot tell the two apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from droidmace.results import KernelWinner
from droidmace.tuning.search import Choice, Group, GroupHistory, History, Params, Plan
from droidmace.tuning.selection import chosen, noise_of

SPREAD = 0.02
"""How much a choice's gain differs from search to search beyond noise (standard deviation of its
logarithm): what one search alone has seen is believed less than what many have."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One search: all it measured, and what it chose. Groups are matched by their names."""

    history: History
    plan: Plan

    @classmethod
    def of(cls, history: History) -> Vote:
        """A search that chose what its measurements say."""
        return cls(history, chosen(history))


@dataclass(frozen=True, slots=True)
class Consensus:
    """What all votes together choose, and for every key how sure that is."""

    plan: dict[str, Choice]
    winners: tuple[KernelWinner, ...]


@dataclass(frozen=True, slots=True)
class _Ballot:
    """What one vote says of one group."""

    history: GroupHistory
    choice: Choice
    noise: float

    def ratio(self, choice: Choice) -> float | None:
        """Time against the default's; None where it was not measured."""
        default_ms = self.history.estimate_ms(self.history.group.default)
        time_ms = self.history.estimate_ms(choice)
        known = math.isfinite(default_ms) and default_ms > 0.0 and math.isfinite(time_ms)
        return time_ms / default_ms if known else None

    def stands_for(self, choice: Choice) -> bool:
        """Whether it chose ``choice``, or measured it as no slower than noise explains."""
        if choice == self.choice:
            return True
        counts = [len(self.history.samples.get(one, ())) for one in (choice, self.choice)]
        if not all(counts):
            return False
        blur = self.noise * math.sqrt(sum(1.0 / count for count in counts))
        own_ms = self.history.estimate_ms(self.choice)
        return self.history.estimate_ms(choice) <= own_ms * math.exp(blur)


def consensus(votes: Sequence[Vote], phone: Mapping[str, Params] | None = None) -> Consensus:
    """Pool at least one vote; ``phone``: what the phone's own tuner chose, by key.

    For each group the choice with the smallest median ratio to the default wins, among all that
    any vote is for; where the best cannot be told apart, the one that most votes are for.
    """
    if not votes:
        raise ValueError("a consensus needs at least one vote")
    groups: dict[str, Group] = {}
    for vote in votes:
        for name, history in vote.history.groups.items():
            groups.setdefault(name, history.group)
    noises = [noise_of(vote.history.groups.values()) for vote in votes]
    plan: dict[str, Choice] = {}
    rows: list[KernelWinner] = []
    for name, group in groups.items():
        ballots = [
            _Ballot(found, vote.plan.get(name, group.default), noise)
            for vote, noise in zip(votes, noises, strict=True)
            if (found := vote.history.groups.get(name)) is not None
        ]
        plan[name] = winner = _winner(group, ballots)
        rows += _rows(group, ballots, winner, phone or {})
    return Consensus(plan, tuple(rows))


def _winner(group: Group, ballots: Sequence[_Ballot]) -> Choice:
    counts: dict[Choice, int] = {group.default: 0}
    for ballot in ballots:
        counts[ballot.choice] = counts.get(ballot.choice, 0) + 1
    scores: dict[Choice, tuple[float, float]] = {}
    for choice in counts:
        ratios = [ratio for ballot in ballots if (ratio := ballot.ratio(choice)) is not None]
        if any(choice in ballot.history.refused for ballot in ballots) or not ratios:
            continue  # what one of the phones refuses is not for their model
        samples = sum(len(ballot.history.samples.get(choice, ())) for ballot in ballots)
        noise = statistics.fmean(ballot.noise for ballot in ballots)
        blur = math.sqrt(noise**2 / samples + SPREAD**2 / len(ratios))
        scores[choice] = (statistics.median(ratios), blur)
    if not scores:
        safe = {
            choice: count
            for choice, count in counts.items()
            if not any(choice in ballot.history.refused for ballot in ballots)
        }
        return max(safe, key=lambda choice: safe[choice], default=group.default)

    def cautious(choice: Choice) -> float:
        ratio, blur = scores[choice]
        return ratio * math.exp(blur)

    best = min(scores, key=cautious)
    limit = cautious(best)
    level = [choice for choice, (ratio, blur) in scores.items() if ratio * math.exp(-blur) <= limit]
    return min(level, key=lambda choice: (-counts[choice], cautious(choice)))


def _rows(
    group: Group, ballots: Sequence[_Ballot], winner: Choice, phone: Mapping[str, Params]
) -> list[KernelWinner]:
    agree = sum(ballot.stands_for(winner) for ballot in ballots)
    times = [
        (ballot.history.estimate_ms(group.default), ballot.history.estimate_ms(winner))
        for ballot in ballots
    ]
    return [
        KernelWinner(
            key=space.key,
            params=params,
            origin=origin(params, phone.get(space.key)),
            default_ms=_median([one for one, _ in times]),
            best_ms=_median([one for _, one in times]),
            stability=agree / len(ballots) if len(ballots) > 1 else None,
            votes=len(ballots),
        )
        for space, params in zip(group.keys, winner, strict=True)
    ]


def origin(params: Params | None, phones: Params | None) -> str:
    """Who proposed a winner: see :class:`droidmace.results.KernelWinner`."""
    if params is None:
        return "default"
    return "phone" if params == phones else "search"


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return statistics.median(known) if known else math.inf
