"""The strategies by name."""

from __future__ import annotations

from droidmace.errors import InputError
from droidmace.tuning.search import Strategy
from droidmace.tuning.strategies.guided import Guided
from droidmace.tuning.strategies.plain import Exhaustive, MaceList, RandomSearch
from droidmace.tuning.strategies.tpe import TreeParzen

STRATEGIES = ("guided", "random", "exhaustive", "mace", "tpe")
"""``guided``: a cost model shared by all kernels; ``mace``: MACE's own candidates in order;
``tpe``: Optuna's, which needs the extra ``search``."""


def make_strategy(name: str, seed: int = 0) -> Strategy:
    """The strategy called ``name``.

    Raises ``InputError`` for a name that there is not, ``MissingExtraError`` where it needs a
    package that is not installed.
    """
    match name:
        case "guided":
            return Guided(seed)
        case "random":
            return RandomSearch(seed)
        case "exhaustive":
            return Exhaustive(seed)
        case "mace":
            return MaceList(seed)
        case "tpe":
            return TreeParzen(seed)
    raise InputError(
        f"there is no search strategy {name!r}", hint=f"give one of {', '.join(STRATEGIES)}"
    )
