"""Measuring plans on a phone: from choices to parameter files, from op tables to records."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from droidmace.devices.base import Device
from droidmace.errors import MaceRunError
from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.series import ProcessFailure, ProcessOutcome, Series
from droidmace.macerun.session import MaceRunSession
from droidmace.tuning.search import Group, Params, Plan, RunRecord, RunStatus
from droidmace.workflows.measure import Layout, refuse_other_run

_MAX_FAILURES_IN_A_ROW = 6
"""So many processes without a table, none of them the driver's refusal: the phone is broken."""


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

    @property
    def storage(self) -> str:
        """The storage folder of the search's own processes."""
        return self.layout.storage("search")

    @property
    def benchmark(self) -> Invocation:
        """A process that says what each op cost."""
        return replace(self.base, storage_dir=self.storage, benchmark=True)


class PhoneBench:
    """Tells what plans cost on one phone.

    ``fixed`` are the entries (keys as in a file) that every process runs with, besides those of
    ``groups``; ``rounds`` inferences make one figure.
    """

    def __init__(
        self,
        target: SearchTarget,
        groups: Sequence[Group],
        fixed: Mapping[str, Params],
        *,
        rounds: int,
        timeout_s: float,
    ) -> None:
        self._serial = target.device.serial
        self._groups = {group.name: group for group in groups}
        self._group_of_op = {op: group.name for group in groups for op in group.ops}
        self._group_of_key = {key.key: group.name for group in groups for key in group.keys}
        self._fixed = {
            key: params for key, params in fixed.items() if key not in self._group_of_key
        }
        self._rounds = rounds
        self._timeout_s = timeout_s
        self._failed_in_a_row = 0
        self._series = Series(
            target.device,
            target.session,
            target.benchmark,
            f"{target.storage}/parameters",
            root=target.layout.root,
        )

    def entries(self, plan: Plan) -> dict[str, Params]:
        """The parameter file of a plan: default choices have no entry."""
        entries = dict(self._fixed)
        for name, choice in plan.items():
            for key, params in zip(self._groups[name].keys, choice, strict=True):
                if params is not None:
                    entries[key.key] = params
        return entries

    def measure(self, plans: Sequence[Plan]) -> Generator[RunRecord, None, None]:
        """One process per plan, each record as soon as it is there. Close it to stop them.

        The plans are on the phone when this returns. Raises ``MaceRunError`` where process after
        process tells nothing.
        """
        files = self._files(plans)
        outcomes = self._series.run(files, timeout_s=self._timeout_s, rounds=self._rounds)
        return self._records(plans, outcomes)

    def send_ahead(self, plans: Sequence[Plan]) -> None:
        """Bring what may be measured next to the phone; for another thread."""
        self._series.send_ahead(self._files(plans))

    def _files(self, plans: Sequence[Plan]) -> list[bytes]:
        return [TunedParameters.build(self.entries(plan)).serialize() for plan in plans]

    def _records(
        self, plans: Sequence[Plan], outcomes: Generator[ProcessOutcome, None, None]
    ) -> Generator[RunRecord, None, None]:
        with contextlib.closing(outcomes):
            for plan, outcome in zip(plans, outcomes, strict=False):
                record = self._record(plan, outcome)
                self._give_up_if_broken(record)
                yield record

    def _give_up_if_broken(self, record: RunRecord) -> None:
        self._failed_in_a_row = (
            self._failed_in_a_row + 1 if record.status is RunStatus.FAILED else 0
        )
        if self._failed_in_a_row >= _MAX_FAILURES_IN_A_ROW:
            raise MaceRunError(
                f"{self._failed_in_a_row} processes in a row told nothing: {record.reason}",
                where=self._serial,
                hint="what was measured before is kept: run the command again",
            )

    def _record(self, plan: Plan, outcome: ProcessOutcome) -> RunRecord:
        if isinstance(outcome, ProcessFailure):
            return self._failed(plan, outcome)
        refuse_other_run(outcome, self._serial, parameters=True, program=False)
        calls = Counter(op.name for op in outcome.ops)
        missing = [op for op in self._group_of_op if not calls[op]]
        if missing:
            reason = f"its table does not show {missing[0]}"
            return RunRecord(
                plan, RunStatus.FAILED, self._rounds, wall_s=outcome.wall_s, reason=reason
            )
        group_ms = dict.fromkeys(self._groups, 0.0)
        other_ms = 0.0
        for op in outcome.ops:
            if (name := self._group_of_op.get(op.name)) is not None:
                group_ms[name] += op.avg_ms
            else:
                other_ms += op.avg_ms
        return RunRecord(
            plan,
            RunStatus.OK,
            self._rounds,
            {name: round(time_ms, 6) for name, time_ms in group_ms.items()},
            other_ms=round(other_ms, 6),
            wall_s=outcome.wall_s,
        )

    def _failed(self, plan: Plan, failure: ProcessFailure) -> RunRecord:
        key = failure.guilty_key
        guilty = None
        if key is not None:
            group = self._group_of_key.get(key) or self._group_of_key.get(obfuscate_symbol(key))
            # A kernel with MACE's own sizes never shows as one with parameters from the file.
            guilty = group if group in plan else None
        return RunRecord(
            plan,
            RunStatus.FAILED if guilty is None else RunStatus.REFUSED,
            self._rounds,
            wall_s=failure.wall_s,
            guilty=guilty,
            reason=failure.reason,
        )
