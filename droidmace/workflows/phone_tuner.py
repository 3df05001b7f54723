"""The phone's own tuner, with a journal: what it has found is kept, whatever becomes of it."""

from __future__ import annotations

import posixpath
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from droidmace.errors import (
    DeviceTimeoutError,
    FormatError,
    MaceRunCrashError,
    MaceRunError,
    MaceRunOutputError,
    MaceRunRetryError,
)
from droidmace.formats.obfuscation import obfuscate_symbol, readable_program_key
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.events import KernelTuned, OutputLine, ProgramReady
from droidmace.tuning.journal import Journal
from droidmace.tuning.search import Params
from droidmace.wording import counted
from droidmace.workflows.artefacts import MAX_ARTEFACT_BYTES
from droidmace.workflows.measure import PROVE_SOURCES_VLOG, Progress, make_folders
from droidmace.workflows.search_bench import SearchTarget

TUNED = "phone's tuner"
"""Step of the journal: the tuner came to its end."""
CUT_SHORT = "phone's tuner, cut short"
"""Step of the journal: it failed by itself, and would again; what it had found counts."""


@dataclass(frozen=True, slots=True)
class PhoneTuning:
    """How the phone's tuner fared; its winners are the journal's.

    ``mace_version`` is empty where the journal had all of it already.
    """

    seconds: float
    mace_version: str = ""
    note: str = ""


class ObfuscationWatch:
    """Learns from a log whether the build writes obfuscated keys: its programs' names tell."""

    def __init__(self) -> None:
        self.obfuscated = False

    def line(self, line: OutputLine) -> None:
        """Take the next line."""
        if isinstance(line.event, ProgramReady):
            self.obfuscated |= readable_program_key(line.event.key) != line.event.key

    def raw(self, key: str) -> str:
        """A readable key as the build's files have it."""
        return obfuscate_symbol(key) if self.obfuscated else key


class _Found:
    """Winners on their way into the journal, but for those that it could not be read with."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.keys: set[str] = set()
        self._left_out: set[str] = set()

    def take(self, key: str, values: Params) -> None:
        self.keys.add(key)
        try:
            self.journal.append_winner(key, values)
        except FormatError:
            # A phone may log whatever it likes, and no kernel of MACE's has such a name.
            self._left_out.add(key)

    @property
    def note(self) -> str:
        if not self._left_out:
            return ""
        return f"left out, as no kernel of MACE's has such a name or size: {len(self._left_out)}"


def run_phone_tuner(target: SearchTarget, journal: Journal, progress: Progress) -> PhoneTuning:
    """Let the phone's tuner try its candidates, unless the journal says that it did.

    Leaves program and parameters in the storage folder ``tuned``. Every winner is in the journal
    as soon as it is logged. If the tuner itself fails (a driver that crashes on a candidate), its
    winners until then count; without any, this raises its ``MaceRunError``.
    """
    steps = journal.content.steps
    if TUNED in steps:
        return PhoneTuning(steps[TUNED])
    if CUT_SHORT in steps:
        return PhoneTuning(steps[CUT_SHORT], note=_note("an earlier run says so", journal))
    began_s = time.monotonic()
    found = _Found(journal)
    try:
        mace_version = _tune(target, found, progress)
        _take_file(target, found)
    except (
        MaceRunCrashError,
        MaceRunRetryError,
        MaceRunOutputError,
        DeviceTimeoutError,
    ) as error:
        if not journal.content.winners:
            raise
        seconds = time.monotonic() - began_s
        journal.append_step(CUT_SHORT, seconds)
        return PhoneTuning(
            seconds, note="; ".join(filter(None, (_note(error.message, journal), found.note)))
        )
    seconds = time.monotonic() - began_s
    journal.append_step(TUNED, seconds)
    return PhoneTuning(seconds, mace_version, found.note)


def _note(reason: str, journal: Journal) -> str:
    return (
        f"the phone's own tuner did not come to its end ({reason}); "
        f"the {len(journal.content.winners)} kernels it had finished are used"
    )


def _tune(target: SearchTarget, found: _Found, progress: Progress) -> str:
    storage = target.layout.storage("tuned")
    target.device.remove(storage)
    make_folders(target.device, storage)
    watch = ObfuscationWatch()

    def on_line(line: OutputLine) -> None:
        watch.line(line)
        if isinstance(line.event, KernelTuned):
            found.take(watch.raw(line.event.key), line.event.values)
            count = len(found.keys)
            progress(f"{counted(count, 'kernel')} tuned", count, 0)

    result = target.session.run(
        replace(
            target.base,
            storage_dir=storage,
            rounds=0,
            tuning=True,
            parameter_path=target.layout.tuned_parameters,
            vlog_level=PROVE_SOURCES_VLOG,
        ),
        timeout_s=target.timeout_s,
        on_line=on_line,
        # Through a terminal the winners come as they are found, and are not lost in a crash.
        pty=True,
    )
    return result.mace_version


def _take_file(target: SearchTarget, found: _Found) -> None:
    """The file has what the log does not: the size of the queue's window."""
    with tempfile.TemporaryDirectory(prefix="droidmace-") as folder:
        local = Path(folder) / posixpath.basename(target.layout.tuned_parameters)
        target.device.pull(target.layout.tuned_parameters, local, max_bytes=MAX_ARTEFACT_BYTES)
        entries = TunedParameters.parse(local.read_bytes()).entries
    if not entries:
        raise MaceRunError(
            "no kernel was tuned",
            where=target.device.serial,
            hint="does the model run on the GPU? 'droidmace inspect MODEL.pb' shows its runtime",
        )
    for key, values in entries.items():
        if found.journal.content.winners.get(key) != values:
            found.take(key, values)
