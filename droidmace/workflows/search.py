"""The search for tuned parameters on one phone, whoever looks for them.

Called by ``tune`` once model, binary and inputs are on the phone::

    with Journal.open(journal_path, identity) as journal:
        outcome = run_search_on_phone(target, request.search, journal, phase.progress)

``outcome.entries`` is the parameter file to ship; the compiled program for it is built by a cold
process afterwards. The journal makes the same call go on where it was broken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from droidmace.config import SearchConfig
from droidmace.devices.base import Device
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.session import MaceRunSession
from droidmace.results import SearchSummary
from droidmace.tuning.journal import Journal
from droidmace.tuning.search import Params
from droidmace.workflows.measure import Layout, Progress


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """The model on the phone: everything that the processes need is there already.

    ``base`` is what all processes have in common; ``timeout_s`` the deadline of one of them.
    """

    device: Device
    session: MaceRunSession
    layout: Layout
    base: Invocation
    timeout_s: float


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What was chosen.

    ``entries``: key as it stands in a parameter file to its value. ``readable``: the same by the
    keys that a log shows. ``summary`` is None where the phone's own tuner alone chose.
    ``tuning_s``: what that tuner took, 0 where it was not needed. ``notes``: sentences for the user.
    """

    entries: Mapping[str, Params]
    readable: Mapping[str, Params]
    summary: SearchSummary | None
    tuning_s: float
    mace_version: str
    notes: tuple[str, ...] = ()


def run_search_on_phone(
    target: SearchTarget, search: SearchConfig, journal: Journal, progress: Progress
) -> SearchOutcome:
    """Find parameters; every measurement is in ``journal`` before the next one begins.

    ``search.budget_s`` and ``search.evaluations`` are for all repeats together, and count what the
    journal holds already; the phone's own tuner is not part of them.
    Raises ``MaceRunError``s where the phone cannot be measured at all, and ``DeviceError``s.
    """
    raise NotImplementedError
