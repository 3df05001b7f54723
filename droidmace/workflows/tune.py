"""The story of ``droidmace tune`` on one phone, from the first look to the bundle.

Each phase returns a value; nothing is written on the host before all of them are through. Whatever
ends the story early (an error, a lost phone, Ctrl-C) stops what runs on the phone and gives the
phone back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path

from droidmace.bundle.manifest import FileRecord
from droidmace.bundle.writer import check_place
from droidmace.config import SearchKind
from droidmace.devices.governors import pinned_governors, restore_governors
from droidmace.devices.lock import DeviceLock
from droidmace.devices.monitor import Monitor
from droidmace.errors import DroidmaceError, InputError
from droidmace.files import write_atomically
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.session import MaceRunSession
from droidmace.results import MaceRunResult, TuneResult
from droidmace.tuning.journal import Journal
from droidmace.tuning.salvage import salvage
from droidmace.tuning.statistics import PairedRatio
from droidmace.wording import counted
from droidmace.workflows.artefacts import Artefacts, pull_artefacts
from droidmace.workflows.build import build_program
from droidmace.workflows.measure import (
    Measurer,
    base_invocation,
    batch_invocation,
    programs_text,
)
from droidmace.workflows.models import ModelFiles
from droidmace.workflows.phase import NoteCallback, Phase
from droidmace.workflows.phone_tuner import TUNED
from droidmace.workflows.prove import Subject, prove
from droidmace.workflows.samples import Samples
from droidmace.workflows.search import SearchOutcome, SearchTarget, run_search_on_phone
from droidmace.workflows.search_cost import is_tuned_at_once
from droidmace.workflows.search_summary import change_text
from droidmace.workflows.staging import push
from droidmace.workflows.tune_request import Cargo, TuneRequest, check_request
from droidmace.workflows.tuned_bundle import bundle_extras, write_tuned_bundle
from droidmace.workflows.vote import Ballot, Poll
from droidmace.workflows.workplace import Workplace, find_workplace, taken


def tune(
    request: TuneRequest,
    on_note: NoteCallback,
    poll: Poll = lambda _: None,
    *,
    cargo: Cargo | None = None,
) -> TuneResult:
    """Tune one model on one phone and write its bundle.

    ``poll`` lets it agree with other phones of its model. ``cargo``: what ``check_request`` gave,
    if it was asked before. Raises ``DroidmaceError``s whose message says in which phase it
    happened.
    """
    return _Story(request, on_note, poll, cargo).tell()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What will be done on the phone, all of it checked."""

    place: Workplace
    model_files: ModelFiles
    samples: Samples
    base: Invocation
    bundle: Path

    @property
    def journal(self) -> Path:
        """Where the search's measurements are kept until they are part of the bundle."""
        return self.bundle.with_name(f"{self.bundle.name}.search.jsonl")


class _Story:
    """The state of one run; the methods are its phases, in order."""

    def __init__(
        self, request: TuneRequest, on_note: NoteCallback, poll: Poll, cargo: Cargo | None = None
    ) -> None:
        self._request = request
        self._on_note = on_note
        self._poll = poll
        self._cargo = cargo
        self._began_s = time.monotonic()
        self._warnings: list[str] = []
        self._journal: Journal | None = None
        """What the search has found, until the bundle holds it."""

    def _phase(self, name: str) -> Phase:
        return Phase(self._request.phone.serial, name, self._on_note)

    def tell(self) -> TuneResult:
        with self._phase("probe") as phase:
            plan = self._plan()
            phase.summary = plan.place.summary
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(taken(plan.place.device, self._phase, self._warnings))
            stack.enter_context(self._kept_told())
            return self._on_phone(plan, lock)

    @contextlib.contextmanager
    def _kept_told(self) -> Iterator[None]:
        """Whoever ends the story early hears what is kept of the search."""
        try:
            yield
        except (DroidmaceError, KeyboardInterrupt, SystemExit) as error:
            kept = _keep(self._journal) if self._journal is not None else ""
            if kept and isinstance(error, DroidmaceError):
                error.hint = f"{error.hint}; {kept}" if error.hint else kept
            elif kept:
                error.add_note(kept)
            raise

    def _plan(self) -> _Plan:
        """All that can be refused before anything is done to the phone."""
        request = self._request
        model_files, samples = self._cargo or check_request(request)
        # Inputs and outputs lie there as well; a compiled program is a few MiB at most.
        place = find_workplace(
            request.phone, needed_bytes=model_files.size_bytes + 2 * samples.size_bytes
        )
        layout = place.layout
        base = base_invocation(layout, request.model)
        # Only to see now whether the model's tensors can be told apart in batch mode.
        batch_invocation(base, layout.dataset(samples.digest), layout)
        bundle = request.out_dir / place.file_name
        check_place(bundle)
        return _Plan(place, model_files, samples, base, bundle)

    def _on_phone(self, plan: _Plan, lock: DeviceLock) -> TuneResult:
        request, place = self._request, plan.place
        device, layout = place.device, place.layout
        session = MaceRunSession(device, layout.root)
        measurer = Measurer(device, session, layout, plan.base, request.settings)
        with self._phase("push") as phase:
            pushed = push(
                device,
                layout,
                place.binary,
                plan.base,
                plan.model_files,
                plan.samples,
                phase.progress,
            )
            phase.summary = pushed.text
        with self._phase("baseline") as phase:
            baseline = measurer.baseline()
            phase.summary = programs_text(baseline)
        with contextlib.ExitStack() as stack:
            if request.pin_governors:
                stack.enter_context(pinned_governors(device))
            else:
                restore_governors(device)  # those of a run that was killed
            monitor = stack.enter_context(Monitor(device))
            found = self._search(plan, session, baseline)
            artefacts = self._artefacts(plan, session, found)
            lock.check()
            subject = Subject(
                device, layout, request.model, plan.samples, artefacts, found.readable
            )
            proof = prove(subject, measurer, monitor, request.deployment.gate, self._phase)
        lock.check()
        result = TuneResult(
            device=dataclasses.replace(
                place.device_info, gpu=artefacts.program.device_name or place.report.gpu
            ),
            model=request.model.name,
            verdict=proof.judgement.verdict,
            reasons=proof.judgement.reasons,
            cold=proof.cold,
            warm=proof.warm,
            untuned_run_ms=proof.latency.samples_ms(tuned=False),
            tuned_run_ms=proof.latency.samples_ms(tuned=True),
            latency_ratio=_as_tuple(proof.latency.ratio),
            latency_bootstrap=proof.latency.bootstrap,
            startup_ratio=_as_tuple(proof.evidence.startup),
            latency_blocks=proof.latency.blocks,
            accuracy=proof.answers.accuracy,
            programs=len(artefacts.program.programs),
            programs_from_cache=proof.evidence.programs_from_cache,
            tuned_entries=len(artefacts.parameters.entries),
            kernels_proved=proof.kernels_proved,
            tuning_s=found.tuning_s,
            wall_s=time.monotonic() - self._began_s,
            pushed_bytes=pushed.bytes,
            pushed_model_bytes=pushed.model_bytes,
            mace_version=found.mace_version or baseline.mace_version,
            platform_info=artefacts.program.platform_info,
            rounds=request.settings.rounds,
            warnings=(
                *self._warnings,
                *found.notes,
                *proof.latency.notes,
                *proof.answers.warnings,
            ),
            search=found.summary,
        )
        with self._phase("bundle") as phase:
            result = dataclasses.replace(result, bundle=str(plan.bundle))
            picture = None
            if result.search is not None and request.draw is not None:
                picture = request.draw(result.search, result.model)
            write_tuned_bundle(
                plan.bundle,
                result,
                artefacts,
                plan.model_files,
                place.binary_record(),
                bundle_extras(plan.journal, monitor.log, picture),
            )
            # A search that is over is not gone on with: its journal is the bundle's now.
            self._journal = None
            _forget(plan.journal)
            _forget(_salvaged(plan.journal))
            phase.summary = str(result.bundle)
        return result

    def _artefacts(self, plan: _Plan, session: MaceRunSession, found: SearchOutcome) -> Artefacts:
        """The program for what was found, and the parameters, as they come off the phone."""
        if found.summary is not None or not found.mace_version:
            # The phone's tuner leaves a program behind only where it ran to its end just now.
            with self._phase("build") as phase:
                build_program(
                    plan.place.device,
                    session,
                    plan.place.layout,
                    plan.base,
                    found.entries,
                    timeout_s=self._request.settings.timeout_s,
                )
                phase.summary = f"a program for {_tuned(found.entries)}"
        # A folder of its own for what comes in: nothing is kept of a run that fails.
        with (
            self._phase("pull") as phase,
            tempfile.TemporaryDirectory(prefix="droidmace-") as folder,
        ):
            artefacts = pull_artefacts(plan.place.device, plan.place.layout, Path(folder))
            phase.summary = (
                f"{counted(len(artefacts.program.programs), 'program')}, "
                f"{_tuned(artefacts.parameters.entries)}"
            )
        return artefacts

    def _search(
        self, plan: _Plan, session: MaceRunSession, baseline: MaceRunResult
    ) -> SearchOutcome:
        """Find parameters, from where an earlier run was broken off; the journal says where."""
        request, path = self._request, plan.journal
        settings = request.search_settings
        if settings.kind is SearchKind.FAST and is_tuned_at_once(baseline.times):
            settings = dataclasses.replace(settings, kind=SearchKind.MACE)
            self._warnings.append(
                "the model is so small that the phone's own tuner is quicker than any search"
            )
        if request.fresh:
            _forget(path)
        target = SearchTarget(
            plan.place.device, session, plan.place.layout, plan.base, request.settings.timeout_s
        )
        name = "tune" if settings.kind is SearchKind.MACE else "search"
        with self._phase(name) as phase, Journal.open(path, _identity(plan)) as journal:
            self._journal = journal
            found = run_search_on_phone(target, settings, journal, phase.progress)
            phase.summary = _search_text(found)
        if found.summary is None:
            return found
        with self._phase("vote") as phase:
            elected = self._poll(Ballot.of(path, _identity(plan)))
            if elected is None:
                phase.summary = "no other phone of this model takes part"
                return found
            phase.summary = (
                f"{elected.phones} phones agreed on {counted(len(elected.params), 'kernel')}"
            )
            return elected.applied_to(found)


def _identity(plan: _Plan) -> dict[str, str]:
    """What measurements belong to: another model, program, phone or driver makes them void."""
    report = plan.place.report
    properties = report.properties
    return {
        "model_graph": FileRecord.of(plan.model_files.graph).sha256,
        "model_data": FileRecord.of(plan.model_files.data).sha256,
        "mace_run": plan.place.binary_record().sha256,
        "serial": report.serial,
        "device_name": report.device_name,
        "soc": report.soc,
        "abi": plan.place.binary.abi,
        "gpu": report.gpu,
        "driver": report.gl_version,
        # An update of the phone brings another driver, whatever that calls itself.
        "build": properties.get("ro.build.fingerprint", ""),
        "limit_opencl_kernel_time": str(plan.base.limit_opencl_kernel_time),
        "opencl_queue_window_size": str(plan.base.opencl_queue_window_size),
    }


def _keep(journal: Journal) -> str:
    """Leave what a search has found where it can be used; say where, if anywhere.

    The phone's tuner writes its file only at its end: its winners so far become one here.
    """
    content = journal.content
    if content.winners and TUNED not in content.steps:
        path = _salvaged(journal.path)
        try:
            write_atomically(path, salvage(content))
        except OSError as error:
            return f"the tuned kernels so far could not be saved: {error}"
        kernels = counted(len(content.winners), "tuned kernel was", "tuned kernels were")
        return f"{kernels} saved in {path}"
    if content.runs:
        kept = counted(len(content.runs), "run of the search is", "runs of the search are")
    elif content.winners:
        kept = counted(len(content.winners), "tuned kernel is", "tuned kernels are")
    else:
        return ""
    where = f"{kept} kept in {journal.path}"
    return f"{where}: the same command goes on from there, unless told --fresh"


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise InputError(
            f"cannot be removed: {exc.strerror or exc}",
            where=str(path),
            hint="a later run would go on with it: remove it yourself",
        ) from exc


def _salvaged(journal: Path) -> Path:
    return journal.with_suffix(".salvaged.bin")


def _tuned(entries: Sized) -> str:
    return counted(len(entries), "tuned entry", "tuned entries")


def _search_text(found: SearchOutcome) -> str:
    summary = found.summary
    if summary is None:
        return f"{counted(len(found.readable), 'kernel')} in {found.tuning_s:.1f} s"
    percent = change_text(summary.best_ms, summary.untuned_ms) if summary.untuned_ms else "+0.0%"
    return (
        f"{summary.evaluations} evaluations, {summary.best_ms:.3g} ms of kernels "
        f"(untuned {summary.untuned_ms:.3g}, {percent}) in {summary.wall_s:.0f} s"
    )


def _as_tuple(ratio: PairedRatio) -> tuple[float, float, float, float]:
    return ratio.median, ratio.low, ratio.high, ratio.confidence
