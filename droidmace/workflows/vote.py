"""Phones of one model agree: what each of them measured is pooled, kernel by kernel.

One phone's winners are partly luck; those of several phones of one model, with one driver, are
what that model wants. Every phone then proves the common choice for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from droidmace.formats.obfuscation import readable_symbol
from droidmace.results import KernelWinner
from droidmace.tuning.consensus import Vote, consensus
from droidmace.tuning.journal import GroupFacts, JournalContent, read_journal
from droidmace.tuning.search import History, Params
from droidmace.tuning.space import build_groups
from droidmace.workflows.search import SearchOutcome
from droidmace.workflows.search_summary import other_ms

_OWN_FACTS = {"serial"}
"""Parts of a journal's identity that tell phones of one model apart."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A phone's search: where its journal lies, and which phones it may agree with."""

    journal: Path
    electorate: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, journal: Path, identity: dict[str, str]) -> Ballot:
        """The ballot of a search that is over."""
        facts = {name: value for name, value in identity.items() if name not in _OWN_FACTS}
        return cls(journal, tuple(sorted(facts.items())))


@dataclass(frozen=True, slots=True)
class Elected:
    """What several phones agreed on: a value, or None for MACE's default, for each raw key."""

    params: dict[str, Params | None]
    winners: tuple[KernelWinner, ...]
    phones: int

    def applied_to(self, found: SearchOutcome) -> SearchOutcome:
        """A phone's own outcome with the common choice in place of its own.

        Totals are this phone's: by its own measurements, and for a choice that it has never tried
        by what the others gained with it.
        """
        entries = {key: value for key, value in found.entries.items() if key not in self.params}
        entries |= {key: value for key, value in self.params.items() if value is not None}
        summary = found.summary
        if summary is not None:
            own = [one for one in summary.winners if one.key not in self.params]
            summary = replace(summary, winners=(*self.winners, *own))
            if found.measured is not None:
                best_ms = self._total_ms(found.measured, entries) + other_ms(found.measured.runs)
                summary = replace(summary, best_ms=best_ms)
        return replace(
            found,
            entries=entries,
            readable={readable_symbol(key): value for key, value in entries.items()},
            summary=summary,
        )

    def _total_ms(self, measured: History, entries: Mapping[str, Params]) -> float:
        rows = {row.key: row for row in self.winners}
        total_ms = 0.0
        for group in measured.groups.values():
            choice = tuple(entries.get(key.key) for key in group.group.keys)
            time_ms = group.estimate_ms(choice)
            if not math.isfinite(time_ms):
                # A group's keys have its times.
                row = next((rows[key.key] for key in group.group.keys if key.key in rows), None)
                known = (
                    row is not None and math.isfinite(row.best_ms) and 0 < row.default_ms < math.inf
                )
                change = row.best_ms / row.default_ms if row is not None and known else 1.0
                time_ms = group.estimate_ms(group.group.default) * change
            total_ms += time_ms
        return total_ms


Poll = Callable[[Ballot], Elected | None]
"""Hands in a ballot and waits for the others'; None where nobody else may vote with it."""


def count_votes(ballots: Sequence[Ballot]) -> Elected | None:
    """The common choice of phones of one electorate; None with a single one or nothing in common.

    Raises ``FormatError`` and ``InputError`` for journals that cannot be read.
    """
    if len(ballots) < 2:
        return None
    contents = [read_journal(ballot.journal) for ballot in ballots]
    groups = _common_groups(contents)
    votes = [vote for content in contents for vote in _votes(content, groups)]
    if not groups or not votes:
        return None
    phones: dict[str, Params] = {}
    for content in contents:
        phones |= content.winners
    agreed = consensus(votes, phones)
    params: dict[str, Params | None] = {}
    for name, choice in agreed.plan.items():
        for key, value in zip(groups[name].keys, choice, strict=True):
            params[key.key] = value
    return Elected(params, agreed.winners, len(ballots))


def _common_groups(contents: Sequence[JournalContent]) -> dict[str, GroupFacts]:
    """Groups of several phones, by name: those whose keys all of these know as the same.

    A phone whose tuner was cut short knows fewer keys of an op: its choices mean something else.
    """
    found: dict[str, list[GroupFacts]] = {}
    for content in contents:
        for group in content.groups:
            found.setdefault(group.name, []).append(group)
    return {
        name: groups[0]
        for name, groups in found.items()
        if len(groups) > 1
        and len({(tuple(key.key for key in one.keys), one.ops) for one in groups}) == 1
    }


def _votes(content: JournalContent, groups: Collection[str]) -> list[Vote]:
    """One per repeat, on the groups of these names."""
    repeats = sorted({run.repeat for run in content.runs})
    common = build_groups(one for one in content.groups if one.name in groups)
    votes = []
    for repeat in repeats:
        history = History(common)
        for record in content.known_to(repeat):
            history.add(record)
        votes.append(Vote.of(history))
    return votes
