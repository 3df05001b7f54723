"""Which kernels a search is about: asked of the phone once, and then known from the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from droidmace.config import SearchKind
from droidmace.errors import MaceRunOutputError
from droidmace.formats.store_keys import QUEUE_WINDOW_SIZE_KEY
from droidmace.results import MaceRunResult
from droidmace.tuning.journal import GroupFacts, Journal
from droidmace.tuning.search import Params
from droidmace.workflows.measure import Progress
from droidmace.workflows.phone_tuner import CUT_SHORT, TUNED, run_phone_tuner
from droidmace.workflows.search_bench import SearchTarget
from droidmace.workflows.search_keys import (
    KeyMap,
    guess_entries,
    map_keys,
    op_times,
    prepare_storage,
    prove_guesses,
    survey,
)

KEYS_FOUND = "keys found"
"""Step of the journal: what it took to find the keys, beside the phone's own tuner."""
KEYS_FOUND_RUNNING = "keys found, mace_run"
_MIN_COVERED = 0.75
"""Share of all ops' time that guessed keys must stand for."""
_SPLIT_MS = 1.0
"""Where kernel time is limited, MACE splits kernels that take longer (``opencl_helper.h``)."""


@dataclass(slots=True)
class GroupFinder:
    """Has the groups of kernels in the journal, by the phone's own tuner or by guessing.

    ``mace_version`` is empty as long as no process told it; ``notes``: sentences for the user;
    ``guess_ms``: what the groups took, more or less, when they were looked for.
    """

    target: SearchTarget
    kind: SearchKind
    journal: Journal
    progress: Progress
    clock: Callable[[], float]
    mace_version: str = ""
    notes: list[str] = field(default_factory=list)
    guess_ms: Mapping[str, float] = field(default_factory=dict)

    def tune_on_phone(self) -> None:
        """Have the phone's own winners in the journal. Raises as ``run_phone_tuner`` does."""
        tuning = run_phone_tuner(self.target, self.journal, self.progress)
        self.mace_version = self.mace_version or tuning.mace_version
        if tuning.note:
            self.notes.append(tuning.note)

    def fixed(self) -> dict[str, Params]:
        """Entries that every process has: the phone's winners, and the queue's window."""
        entries = dict(self.journal.content.winners)
        if (window := self.target.base.opencl_queue_window_size) > 0:
            entries.setdefault(QUEUE_WINDOW_SIZE_KEY, (window,))
        return entries

    def find(self) -> MaceRunResult | None:
        """Have the groups in the journal; the result of a process that is typical, if one ran."""
        steps = self.journal.content.steps
        if self.journal.content.groups:
            prepare_storage(self.target, fresh=False)
            if self.kind is not SearchKind.FAST and not {TUNED, CUT_SHORT} & set(steps):
                self.notes.append(
                    "the search goes on with the kernels that an earlier run knew by their shapes; "
                    "--fresh asks the phone's own tuner for all of them"
                )
            return None
        began_s = self.clock()
        found: KeyMap | None = None
        untuned: MaceRunResult | None = None
        tuned = TUNED in steps or CUT_SHORT in steps
        begun = bool(self.journal.content.winners)
        if not tuned and (begun or self.kind is SearchKind.FAST):
            prepare_storage(self.target, fresh=True)
            self.progress("which kernels there are", 0, 0)
            untuned = survey(self.target)
            guesses = guess_entries(untuned.ops, self.journal.content.winners)
            found = prove_guesses(self.target, guesses)
            if found.covered < _MIN_COVERED:
                self.notes.append(
                    f"guessed keys stand for {found.covered:.0%} of the ops' time: "
                    "the phone's own tuner was asked"
                )
                found = None
            elif begun:
                self.notes.append(
                    f"the phone's own tuner was broken off: the {len(self.journal.content.winners)}"
                    " kernels it had finished count, others were known by their shapes, and what"
                    " neither tells stays as it is; --fresh lets it begin anew"
                )
        tuner_s = 0.0
        if found is None:
            tuner_began_s = self.clock()
            self.tune_on_phone()
            tuner_s = self.clock() - tuner_began_s
            prepare_storage(self.target, fresh=True)
            self.progress("which op runs which kernels", 0, 0)
            untuned = survey(self.target)
            found = map_keys(self.target, self.fixed())
        assert untuned is not None
        self.mace_version = self.mace_version or found.result.mace_version
        groups = self._measurable(found.groups, untuned)
        times = op_times(untuned.ops)
        self.guess_ms = {one.name: sum(times.get(op, 0.0) for op in one.ops) for one in groups}
        if not groups:
            raise MaceRunOutputError(
                "mace_run's log does not tell which op runs which kernel",
                where=self.target.device.serial,
                hint="use --search mace: the phone's own tuner needs no log",
            )
        self.journal.append_step(KEYS_FOUND, self.clock() - began_s - tuner_s)
        self.journal.append_step(KEYS_FOUND_RUNNING, untuned.wall_s + found.result.wall_s)
        self.journal.set_groups(groups)
        return found.result

    def _measurable(
        self, groups: Sequence[GroupFacts], untuned: MaceRunResult
    ) -> tuple[GroupFacts, ...]:
        """Without kernels that are run in slices: the op table shows their last slice only."""
        if not self.target.base.limit_opencl_kernel_time:
            return tuple(groups)
        times = op_times(untuned.ops)
        kept = tuple(
            one
            for one in groups
            if sum(times.get(op, 0.0) for op in one.ops) <= _SPLIT_MS * len(one.ops)
        )
        if len(kept) < len(groups):
            known = self.journal.content.winners
            left = {key.key in known for one in groups if one not in kept for key in one.keys}
            stay = {
                frozenset({True}): "they stay as the phone's tuner chose",
                frozenset({False}): "they keep MACE's own sizes",
            }.get(
                frozenset(left),
                "they stay as the phone's tuner chose, or keep MACE's own sizes where it did not",
            )
            self.notes.append(
                f"{len(groups) - len(kept)} kernels run in slices, of which mace_run's table shows "
                f"the last one only: {stay}"
            )
        return kept
