"""The options of ``droidmace tune`` that say how parameters are searched for."""

from __future__ import annotations

import dataclasses

from droidmace.config import SearchConfig, SearchKind, parse_duration_s
from droidmace.errors import InputError


def search_settings(
    config: SearchConfig,
    kind: SearchKind | None,
    budget: str | None,
    evaluations: int | None,
    repeats: int | None,
) -> SearchConfig:
    """The file's settings with the command line's in their place.

    Raises ``InputError`` for limits of a search that there is none of, ``ConfigError`` for a
    budget that is not a time.
    """
    given = {"--budget": budget, "--evaluations": evaluations, "--repeats": repeats}
    chosen = dataclasses.replace(
        config,
        kind=kind or config.kind,
        budget_s=config.budget_s if budget is None else parse_duration_s(budget),
        evaluations=config.evaluations if evaluations is None else evaluations,
        repeats=config.repeats if repeats is None else repeats,
    )
    named = [option for option, value in given.items() if value is not None]
    if chosen.kind is SearchKind.MACE and named:
        raise InputError(
            f"{' and '.join(named)} limit a search, and --search mace has none of its own",
            hint="add --search fast, deep or exhaustive",
        )
    return chosen
