"""The story of ``droidmace validate`` on one phone: many samples through it, and what came out.

Samples are prepared and pushed while the phone computes, and the reference runs on the host at the
same time. Outputs are kept in a store on the host until all are there, so that a run that was
broken off goes on where it was. Nothing in memory grows with the number of samples.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from droidmace.bundle.writer import name_part
from droidmace.devices.base import Device
from droidmace.errors import DeviceError, DroidmaceError, InputError
from droidmace.files import write_atomically
from droidmace.formats.netdef import DeviceType, parse_model, serialize_model
from droidmace.graphs.runtime import on_runtime
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.session import MaceRunSession
from droidmace.results.validation import ValidationResult, ValidationTimings
from droidmace.validation.classification import ClassTally
from droidmace.validation.layouts import order_of_platform
from droidmace.validation.saved_outputs import save_outputs
from droidmace.validation.similarity import SimilarityTally
from droidmace.validation.sources.plugin import AccuracyPlugin
from droidmace.validation.store import OutputStore
from droidmace.wording import counted
from droidmace.workflows.batch import BatchRunner
from droidmace.workflows.measure import (
    PROVE_SOURCES_VLOG,
    base_invocation,
    batch_invocation,
    make_folders,
    programs_text,
)
from droidmace.workflows.phase import NoteCallback, Phase
from droidmace.workflows.references import CPU, ONNXRUNTIME, OwnOutputs
from droidmace.workflows.shipped_files import ShippedFiles, check_taken, refuse_other_gpu
from droidmace.workflows.staging import push_files
from droidmace.workflows.validate_feed import Feed
from droidmace.workflows.validate_plan import Plan
from droidmace.workflows.validate_request import ValidateRequest
from droidmace.workflows.validate_run import run_samples
from droidmace.workflows.workplace import Workplace, find_workplace, taken

_STORAGE = "validate"
"""The folder on the phone for the compiled program: from the second process on it is there."""
_SHIPPED = "validate_bundle"
"""The same for a bundle's."""
_OUTPUTS = "outputs"
"""Of the model as it is, in the folder for work under way."""
_WORK_ENDING = ".validation.work"
_PLUGIN_PIECE = 256
"""Samples whose outputs are read back from the store at a time."""


def validate(request: ValidateRequest, on_note: NoteCallback) -> ValidationResult:
    """Run all samples on one phone, and say what their outputs are worth.

    Raises ``DroidmaceError`` s whose message says in which phase it happened. What came back until
    then is kept, and the same call goes on from there.
    """
    return _Story(request, on_note).tell()


@dataclass(frozen=True, slots=True)
class _Setup:
    """What runs where, all of it checked."""

    plan: Plan
    place: Workplace
    base: Invocation


class _Story:
    """The state of one run; the methods are its phases, in order."""

    def __init__(self, request: ValidateRequest, on_note: NoteCallback) -> None:
        self._request = request
        self._on_note = on_note
        self._warnings: list[str] = []

    def _phase(self, name: str) -> Phase:
        return Phase(self._request.phone.serial, name, self._on_note)

    def tell(self) -> ValidationResult:
        with contextlib.ExitStack() as stack:
            with self._phase("probe") as phase:
                _check_places(self._request)
                plan = stack.enter_context(Plan(self._request))
                self._warnings += plan.warnings
                needed_bytes = plan.model_files.size_bytes + plan.input_bytes
                place = find_workplace(self._request.phone, needed_bytes=needed_bytes)
                if plan.shipped is not None:
                    refuse_other_gpu(plan.shipped.bundle, place.device_info)
                setup = self._setup(plan, place)
                phase.summary = f"{place.summary}; {plan.count:,} samples"
            lock = stack.enter_context(taken(place.device, self._phase, self._warnings))
            if plan.against == CPU:
                stack.callback(_take_away, place.device, _cpu_graph(place))
            with self._phase("push") as phase:
                self._push(setup, phase)
            identity = self._identity(setup)
            work = self._work_folder(setup, identity)
            if self._request.fresh:
                _remove(work)
            self._warnings += _other_work(work)
            if plan.shipped is not None:
                with self._phase("prepare") as phase:
                    self._prove_program(setup, plan.shipped, phase)
            with _kept_told(work, identity, plan.count):
                result = self._run(setup, identity, work)
            lock.check()
        with self._phase("result") as phase:
            path = self._request.out_dir / _result_name(self._request, setup.place)
            write_atomically(path, (json.dumps(result.as_document(), indent=2) + "\n").encode())
            # Only now: what was computed is not computed again if something fails until here.
            _remove(work)
            phase.summary = str(path)
        return result

    def _setup(self, plan: Plan, place: Workplace) -> _Setup:
        model = self._request.model
        layout, shipped = place.layout, plan.shipped
        base = replace(base_invocation(layout, model), storage_dir=layout.storage(_STORAGE))
        if shipped is not None:
            base = replace(base, storage_dir=layout.storage(_SHIPPED))
            if shipped.parameters is not None:
                base = replace(base, opencl_parameter_file=_parameters_path(place))
        # Only to see now whether the model's tensors can be told apart in batch mode.
        batch_invocation(base, layout.dataset("any"), layout)
        return _Setup(plan, place, base)

    def _push(self, setup: _Setup, phase: Phase) -> None:
        plan, place = setup.plan, setup.place
        others: dict[str, Path | bytes] = dict(plan.first_inputs(setup.base))
        if plan.against == CPU:
            model = parse_model(plan.model_files.graph.read_bytes())
            others[_cpu_graph(place)] = serialize_model(on_runtime(model, DeviceType.CPU))
        pushed = push_files(
            place.device, place.layout, place.binary, plan.model_files, others, phase.progress
        )
        self._give_program(setup)
        phase.summary = pushed.text

    def _give_program(self, setup: _Setup) -> None:
        """What a bundle ships; else the phone goes on with what it has stored itself."""
        device, layout, shipped = setup.place.device, setup.place.layout, setup.plan.shipped
        if shipped is None:
            make_folders(device, layout.storage(_STORAGE))
            return
        device.remove(layout.storage(_SHIPPED))
        make_folders(device, layout.storage(_SHIPPED))
        if shipped.program is not None:
            device.push(shipped.program, layout.compiled_program(_SHIPPED))
        if shipped.parameters is not None:
            device.push(shipped.parameters, _parameters_path(setup.place))

    def _prove_program(self, setup: _Setup, shipped: ShippedFiles, phase: Phase) -> None:
        """One start that is not counted shows what the phone takes of a bundle."""
        place = setup.place
        session = MaceRunSession(place.device, place.layout.root)
        proof = replace(setup.base, rounds=1, vlog_level=PROVE_SOURCES_VLOG)
        result = session.run(proof, timeout_s=self._request.settings.timeout_s)
        warning = check_taken(
            program=shipped.program is not None,
            parameters=shipped.parameters is not None,
            first=result,
            serial=place.device.serial,
        )
        if warning:
            self._warnings.append(warning)
        phase.summary = programs_text(result)

    def _identity(self, setup: _Setup) -> dict[str, str]:
        """What the outputs depend on."""
        place = setup.place
        return {
            **setup.plan.identity,
            "binary": place.binary_record().sha256,
            "serial": place.report.serial,
            # An update may bring another OpenCL driver.
            "build": place.report.properties.get("ro.build.fingerprint", ""),
        }

    def _work_folder(self, setup: _Setup, identity: Mapping[str, str]) -> Path:
        """Where outputs are kept until all are there; another model or data set has another."""
        name = f"{setup.place.file_name}.{_digest(identity)[:12]}{_WORK_ENDING}"
        return self._request.out_dir / name

    def _run(self, setup: _Setup, identity: dict[str, str], work: Path) -> ValidationResult:
        request, plan = self._request, setup.plan
        with contextlib.ExitStack() as stack:
            reference = plan.reference
            if plan.against == CPU:
                reference = self._on_cpu(setup, identity, work, stack)
            classes = (
                ClassTally(plan.source.classes or None, confidence=request.settings.confidence)
                if plan.has_classes
                else None
            )
            similarity: dict[str, SimilarityTally] = {}
            tolerance = request.settings.tolerance
            if reference is not None:
                similarity = {
                    tensor.name: SimilarityTally(tensor.name, tolerance=(tolerance, tolerance))
                    for tensor in request.model.outputs
                }
            with self._phase("run") as phase:
                store = stack.enter_context(OutputStore(work / _OUTPUTS, identity))
                feed = stack.enter_context(Feed(plan.read, reference, classes, similarity, work))
                timings = self._samples(setup, setup.base, store, feed, phase)
            if request.save_outputs is not None:
                with self._phase("save") as phase:
                    save_outputs(
                        store,
                        request.model.outputs,
                        plan.count,
                        request.save_outputs,
                        order=order_of_platform(request.model.platform),
                    )
                    phase.summary = str(request.save_outputs)
            said = ""
            if plan.plugin is not None:
                with self._phase("plugin") as phase:
                    said = _judged_by(plan.plugin, store, plan.count)
                    phase.summary = said.splitlines()[-1] if said else "it said nothing"
            if feed.not_finite:
                self._warnings.append(
                    f"samples with NaN or infinity in their inputs: {feed.not_finite:,}, the first "
                    f"is {feed.first_not_finite}: what comes out says nothing"
                )
            if plan.trouble:
                self._warnings.append(f"reference outputs are not kept: {plan.trouble}")
            result = ValidationResult(
                device=setup.place.device_info,
                model=request.model.name,
                runtime=request.model.runtime,
                dataset=plan.name,
                asked=plan.count,
                took_part=plan.count,
                timings=timings,
                against=reference.description if reference is not None else "",
                bundle=str(request.bundle) if request.bundle is not None else "",
                classification=classes.result() if classes is not None else None,
                outputs=tuple(
                    replace(tally.result(), worst_sample_name=feed.worst_names[name])
                    for name, tally in similarity.items()
                ),
                identity=identity,
                warnings=tuple(self._warnings),
                plugin=said,
            )
            threshold = request.model.similarity_threshold if reference is not None else None
            return result.judged(request.settings.gates.wanted, threshold)

    def _on_cpu(
        self,
        setup: _Setup,
        identity: dict[str, str],
        work: Path,
        stack: contextlib.ExitStack,
    ) -> OwnOutputs:
        """Every sample on the phone's processor first."""
        own = {**identity, "runtime": CPU}
        store = stack.enter_context(OutputStore(work / CPU, own))
        with self._phase(CPU) as phase, Feed(setup.plan.read, None, None, {}, work) as feed:
            invocation = replace(setup.base, model_file=_cpu_graph(setup.place))
            self._samples(setup, invocation, store, feed, phase)
        return OwnOutputs(store, "the phone's processor", _digest(own))

    def _samples(
        self,
        setup: _Setup,
        invocation: Invocation,
        store: OutputStore,
        feed: Feed,
        phase: Phase,
    ) -> ValidationTimings:
        request, place, plan = self._request, setup.place, setup.plan
        runner = BatchRunner(
            place.device,
            MaceRunSession(place.device, place.layout.root),
            place.layout.root,
            invocation,
            storage_share=request.settings.storage_share,
            timeout_s=request.settings.timeout_s,
        )
        timings = run_samples(
            runner,
            store,
            feed,
            plan,
            phase.progress,
            chunk_samples=request.settings.chunk_samples,
        )
        rate = timings.images_per_s
        phase.summary = f"{plan.count:,} samples in {counted(timings.chunks, 'chunk')}" + (
            f", {rate:,.0f} a second" if rate is not None else ""
        )
        if timings.resumed:
            phase.summary += f"; {timings.resumed:,} were there already"
        return timings


def _digest(identity: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _judged_by(plugin: AccuracyPlugin, store: OutputStore, count: int) -> str:
    """What the plugin says of all outputs, which it gets in order."""
    for first in range(0, count, _PLUGIN_PIECE):
        last = min(count, first + _PLUGIN_PIECE)
        plugin.postprocess(first, last, store.read(first, last - first))
    return plugin.result()


def _parameters_path(place: Workplace) -> str:
    return posixpath.join(place.layout.storage(_SHIPPED), "tuned_parameters")


def _cpu_graph(place: Workplace) -> str:
    return f"{place.layout.graph}.cpu"


def _take_away(device: Device, path: str) -> None:
    """Remove a file from a phone as far as that can be reached."""
    with contextlib.suppress(DeviceError):
        device.remove(path)


@contextlib.contextmanager
def _kept_told(work: Path, identity: Mapping[str, str], count: int) -> Iterator[None]:
    """Whoever is interrupted hears how many samples took part, and that they are not lost."""
    try:
        yield
    except (DroidmaceError, KeyboardInterrupt, SystemExit) as error:
        kept = _kept(work, identity, count)
        if isinstance(error, DroidmaceError):
            error.hint = f"{error.hint}; {kept}" if error.hint else kept
        else:
            # Ctrl-C, or SIGTERM and SIGHUP, whose argument is the exit code.
            error.add_note(kept)
        raise


def _kept(work: Path, identity: Mapping[str, str], count: int) -> str:
    """What there is in a folder for work under way; without any the folder goes. Raises nothing."""
    try:
        done = _samples_in(work / _OUTPUTS, identity, count)
        on_cpu = _samples_in(work / CPU, {**identity, "runtime": CPU}, count)
        if not done and not on_cpu:
            _remove(work)
    except (DroidmaceError, OSError) as error:
        # Something has gone wrong already, and that is what is to be told.
        return f"what is in {work} cannot be read: {error}"
    kept = f"{done:,} of {count:,} samples are done"
    if on_cpu:
        kept += f", {on_cpu:,} on the phone's processor"
    if done or on_cpu:
        kept += " and kept: the same command goes on there, unless told --fresh"
    return kept


def _check_places(request: ValidateRequest) -> None:
    """Refuse what cannot be written before a phone works for it. Raises ``InputError``."""
    places = [request.out_dir]
    if request.save_outputs is not None:
        if request.save_outputs.suffix != ".npz":
            raise InputError(
                "outputs are kept as .npz, and read by that name",
                where=f"--save-outputs {request.save_outputs}",
                hint="give a file that ends in .npz",
            )
        places.append(request.save_outputs.parent)
    for folder in places:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(
                f"cannot be written to: {error.strerror or error}",
                where=str(folder),
                hint="give another folder",
            ) from error


def _result_name(request: ValidateRequest, place: Workplace) -> str:
    """Of the result: what was run and held against what, so that no other kind is overwritten."""
    parts = [place.file_name]
    if request.dataset is not None:
        named = request.dataset.images or request.dataset.arrays
        parts += [name_part(named.stem)] if named is not None else []
    if request.bundle is not None:
        parts.append("bundle")
    if request.chosen_against != ONNXRUNTIME:
        parts.append(f"against_{name_part(Path(request.chosen_against).name)}")
    return ".".join([*parts, "validation.json"])


def _other_work(work: Path) -> tuple[str, ...]:
    """What is told of broken-off runs beside this one, which nothing removes but their own end."""
    others = sorted(path.name for path in work.parent.glob(f"*{_WORK_ENDING}") if path != work)
    if not others:
        return ()
    return (
        f"{work.parent} holds {counted(len(others), 'broken-off run')} of other samples, models, "
        f"programs or phones ({', '.join(others)}): remove what nobody will go on with",
    )


def _remove(work: Path) -> None:
    """Remove a folder of work; of a link, the link alone."""
    if work.is_symlink():
        work.unlink()
    elif work.exists():
        shutil.rmtree(work)


def _samples_in(folder: Path, identity: Mapping[str, str], count: int) -> int:
    """How many of the first ``count`` samples are in a store."""
    if not folder.exists():
        return 0
    with OutputStore(folder, identity) as store:
        return count - sum(len(gap) for gap in store.missing(count))
