"""How tuned parameters are searched for: the section ``droidmace: search:``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from droidmace.errors import ConfigError
from droidmace.yamltree import YamlNode

MAX_BUDGET_S = 7 * 86_400
MAX_EVALUATIONS = 10_000_000
MAX_REPEATS = 50
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,3})?)s?)?", re.ASCII)


class SearchKind(StrEnum):
    """Who looks for work-group sizes, and how long.

    ``mace``: the phone's own tuner alone. ``fast``: the host, in no more time than that would
    take. ``deep``: the host, until its budget is spent or nothing is left to learn.
    ``exhaustive``: every legal size of every kernel.
    """

    MACE = "mace"
    FAST = "fast"
    DEEP = "deep"
    EXHAUSTIVE = "exhaustive"


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """What a search may cost. None: what its kind stands for.

    ``evaluations`` counts sizes that were measured, one of one kernel in one process. ``repeats``:
    independent searches that vote on every kernel.
    """

    kind: SearchKind = SearchKind.MACE
    budget_s: float | None = None
    evaluations: int | None = None
    repeats: int = 1

    @classmethod
    def read(cls, node: YamlNode) -> SearchConfig:
        """From the file's section. Raises ``ConfigError``."""
        entry = node.mapping()
        kind, budget = entry.get("kind"), entry.get("budget")
        evaluations, repeats = entry.get("evaluations"), entry.get("repeats")
        config = cls(
            kind=_kind(kind) if kind else SearchKind.MACE,
            budget_s=_budget_s(budget) if budget else None,
            evaluations=evaluations.integer(1, MAX_EVALUATIONS) if evaluations else None,
            repeats=repeats.integer(1, MAX_REPEATS) if repeats else 1,
        )
        entry.done()
        return config


def parse_duration_s(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m`` or ``1h30m``.

    Raises ``ConfigError`` for anything else and for what is not between a second and a week.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ConfigError(f"{text!r} is not a time", hint="write 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total_s = 3600 * hours + 60 * minutes + seconds
    if not 1 <= total_s <= MAX_BUDGET_S:
        raise ConfigError(f"{text!r} is not between 1s and 168h", hint="write 90s, 10m or 1h30m")
    return total_s


def _kind(node: YamlNode) -> SearchKind:
    text = node.text()
    try:
        return SearchKind(text)
    except ValueError:
        raise node.error(
            f"unknown search {text!r}", hint=f"one of {', '.join(SearchKind)}"
        ) from None


def _budget_s(node: YamlNode) -> float:
    text = node.text()
    try:
        return parse_duration_s(text)
    except ConfigError as error:
        raise node.error(error.message, hint=error.hint) from None
