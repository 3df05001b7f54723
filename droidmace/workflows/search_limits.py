"""How large a work-group the phone's kernels take, where only trying tells.

A driver's limit for a kernel is asked for on the device alone (``CL_KERNEL_WORK_GROUP_SIZE``), and
``mace_run`` does not print it. But all kernels of one family are compiled from one source, so one
large work-group of each family, all in one process, tells most of it: what is refused is halved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from droidmace.tuning.journal import GroupFacts, KeyFacts
from droidmace.tuning.kernel_shapes import kernel_shape
from droidmace.tuning.search import Choice, Params, Plan, RunRecord, RunStatus
from droidmace.tuning.space import Limits, every_lws

LADDER = (1024, 512, 256, 128, 64)
_MAX_PROBES = 16
_MAX_FAILED = 3


@dataclass(slots=True)
class _Family:
    """What is known of a family's kernels: work-items that ran, and that were refused."""

    proven: int = 1
    refused: int | None = None

    @property
    def level(self) -> int | None:
        """The next step of the ladder to try; None when it is settled."""
        for level in LADDER:
            if self.refused is None or level < self.refused:
                return level if level > self.proven else None
        return None


def with_limits(
    groups: Sequence[GroupFacts], winners: Mapping[str, Params], records: Iterable[RunRecord]
) -> tuple[GroupFacts, ...]:
    """The groups with each key's ``kwg_size``, as far as the records tell it.

    Left open where nothing was refused.
    """
    families = _families(groups, winners, list(records))

    def limited(key: KeyFacts) -> KeyFacts:
        family = families[key.kernel]
        return key if family.refused is None else replace(key, kwg_size=family.proven)

    return tuple(replace(group, keys=tuple(map(limited, group.keys))) for group in groups)


def next_probe(
    groups: Sequence[GroupFacts], winners: Mapping[str, Params], records: Sequence[RunRecord]
) -> Plan | None:
    """A process that tells more of the limits; None when enough is known."""
    tried = [record for record in records if record.status is not RunStatus.OK]
    if (
        len(tried) >= _MAX_PROBES
        or sum(one.status is RunStatus.FAILED for one in tried) >= _MAX_FAILED
    ):
        return None
    families = _families(groups, winners, records)
    plan: dict[str, Choice] = {group.name: (None,) * len(group.keys) for group in groups}
    asked: set[str] = set()
    for name, family in families.items():
        level = family.level
        if level is None:
            continue
        found = _largest(groups, winners, name, level, asked)
        # Kernels whose whole work is smaller never meet the limit.
        if found is not None and math.prod(found[2]) > family.proven:
            group, place, lws = found
            plan[group.name] = (
                *(None,) * place,
                (*lws, 0),
                *(None,) * (len(group.keys) - place - 1),
            )
            asked.add(group.name)
    return plan if asked else None


def _families(
    groups: Sequence[GroupFacts], winners: Mapping[str, Params], records: Sequence[RunRecord]
) -> dict[str, _Family]:
    by_name = {group.name: group for group in groups}
    families = {key.kernel: _Family() for group in groups for key in group.keys}
    for group in groups:
        for key in group.keys:
            if key.key in winners:
                _proven(families[key.kernel], winners[key.key])
    for record in records:
        if record.status is RunStatus.OK:
            for name, choice in record.plan.items():
                if name in by_name:
                    for key, params in _set_values(by_name[name], choice):
                        _proven(families[key.kernel], params)
        elif record.guilty in by_name:
            assert record.guilty is not None
            values = _set_values(by_name[record.guilty], record.plan.get(record.guilty, ()))
            if len(values) == 1:
                key, params = values[0]
                family = families[key.kernel]
                items = math.prod(params[:-1])
                family.refused = min(items, family.refused or items)
    for family in families.values():
        if family.refused is not None and family.proven >= family.refused:
            family.refused = None  # it was not the number of work-items
    return families


def _set_values(group: GroupFacts, choice: Choice) -> list[tuple[KeyFacts, Params]]:
    """The keys that a choice gives a value of its own."""
    return [
        (key, params) for key, params in zip(group.keys, choice, strict=False) if params is not None
    ]


def _proven(family: _Family, params: Params) -> None:
    family.proven = max(family.proven, math.prod(params[:-1]))


def _largest(
    groups: Sequence[GroupFacts],
    winners: Mapping[str, Params],
    kernel: str,
    level: int,
    taken: set[str],
) -> tuple[GroupFacts, int, tuple[int, ...]] | None:
    """The largest work-group of at most ``level`` items that a kernel of the family can have."""
    best: tuple[GroupFacts, int, tuple[int, ...]] | None = None
    for group in groups:
        if group.name in taken:
            continue
        for place, key in enumerate(group.keys):
            if key.kernel != kernel:
                continue
            known = winners.get(key.key)
            axes = len(key.gws) or kernel_shape(key.key, len(known) - 1 if known else None).axes
            sizes = every_lws(key.gws, Limits(level, key.max_lws or ()), axes)
            # Of equals the most even one: an axis may have a limit of its own.
            lws = max(sizes, key=lambda one: (math.prod(one), -max(one)), default=None)
            if lws is not None and (best is None or math.prod(lws) > math.prod(best[2])):
                best = (group, place, lws)
    return best
