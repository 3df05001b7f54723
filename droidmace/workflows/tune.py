"""The story of ``droidmace tune`` on one phone, from the first look to the bundle.

Each phase returns a value; nothing is written on the host before all of them are through. Whatever
ends the story early (an error, a lost phone, Ctrl-C) stops what runs on the phone and gives the
phone back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from droidmace.bundle.manifest import DeviceRecord, FileRecord
from droidmace.bundle.writer import Provenance, check_place, name_part, write_bundle
from droidmace.config import Deployment, ModelConfig, TuneConfig
from droidmace.devices import preflight
from droidmace.devices.adb import AdbDevice
from droidmace.devices.base import Device
from droidmace.devices.filesync import remote_hashes
from droidmace.devices.lock import DeviceLock
from droidmace.devices.probe import ProbeReport, probe
from droidmace.devices.select import find_device
from droidmace.errors import ConfigError, DroidmaceError, PreflightError
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.session import DEFAULT_ROOT, MaceRunSession
from droidmace.results import MaceRunResult, PhaseNote, TuneResult
from droidmace.tuning.statistics import PairedRatio, paired_ratio
from droidmace.tuning.verdict import Evidence, judge
from droidmace.workflows.answers import Answers, compare_answers
from droidmace.workflows.artefacts import Artefacts, pull_artefacts
from droidmace.workflows.binaries import Binary, choose_binary
from droidmace.workflows.measure import (
    Layout,
    Load,
    Measurer,
    base_invocation,
    batch_invocation,
)
from droidmace.workflows.models import ModelFiles, find_model_files
from droidmace.workflows.samples import Samples, load_samples
from droidmace.workflows.staging import push

NoteCallback = Callable[[PhaseNote], None]


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to do: which model, on which phone, and where the bundle goes.

    Holds plain values only: it travels to a process of its own when several phones are tuned.
    ``overrides`` are ``TuneConfig`` fields given on the command line.
    """

    serial: str
    deployment: Deployment
    model_name: str
    out_dir: Path
    adb_port: int | None = None
    mace_run: Path | None = None
    mace_root: Path | None = None
    overrides: Mapping[str, int] = field(default_factory=dict)
    image_limit: int | None = None

    @property
    def model(self) -> ModelConfig:
        """The model to tune."""
        return self.deployment.models[self.model_name]

    @property
    def settings(self) -> TuneConfig:
        """How much to measure: the file's figures, then the command line's."""
        return dataclasses.replace(self.deployment.tune, **self.overrides)


def tune(request: TuneRequest, on_note: NoteCallback) -> TuneResult:
    """Tune one model on one phone and write its bundle.

    Raises ``DroidmaceError``s whose message says in which phase it happened.
    """
    return _Story(request, on_note).tell()


def check_request(request: TuneRequest) -> tuple[ModelFiles, Samples]:
    """Refuse what no phone is needed to refuse; return what will travel.

    Raises ``ConfigError`` and ``FormatError``.
    """
    if "gpu" not in request.model.runtime:
        raise ConfigError(
            f"models.{request.model_name}.runtime is {request.model.runtime}: there are no "
            "OpenCL kernels to tune",
            where=str(request.deployment.path),
            hint="set runtime to gpu, or cpu+gpu, and convert the model again",
        )
    return (
        find_model_files(request.deployment, request.model),
        load_samples(request.deployment, request.model, request.image_limit),
    )


class _Phase:
    """One phase: says that it began, moves on, and ended; names itself in what goes wrong."""

    def __init__(self, serial: str, name: str, on_note: NoteCallback) -> None:
        self._serial = serial
        self._name = name
        self._on_note = on_note
        self.summary = ""

    def __enter__(self) -> _Phase:
        self._on_note(PhaseNote(self._serial, self._name))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._on_note(PhaseNote(self._serial, self._name, self.summary, finished=True))
        elif isinstance(error, DroidmaceError):
            error.phase = self._name

    def progress(self, text: str, done: int, total: int) -> None:
        """Move on."""
        self._on_note(PhaseNote(self._serial, self._name, text, done, total))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What will be done on the phone, all of it checked."""

    device: AdbDevice
    report: ProbeReport
    binary: Binary
    model_files: ModelFiles
    samples: Samples
    layout: Layout
    base: Invocation
    bundle: Path


class _Story:
    """The state of one run; the methods are its phases, in order."""

    def __init__(self, request: TuneRequest, on_note: NoteCallback) -> None:
        self._request = request
        self._on_note = on_note
        self._began_s = time.monotonic()
        self._warnings: list[str] = []

    def _phase(self, name: str) -> _Phase:
        return _Phase(self._request.serial, name, self._on_note)

    def tell(self) -> TuneResult:
        with self._phase("probe") as phase:
            plan = self._plan()
            phase.summary = (
                f"{plan.report.model}, {plan.report.soc}, {plan.binary.abi}, {plan.report.gpu}"
            )
        with contextlib.ExitStack() as stack:
            with self._phase("lock") as phase:
                lock = stack.enter_context(DeviceLock(plan.device))
                phase.summary = "the phone is ours"
                if lock.note:
                    self._warnings.append(lock.note)
            return self._on_phone(plan, lock)

    def _plan(self) -> _Plan:
        """All that can be refused before anything is done to the phone."""
        request = self._request
        model_files, samples = check_request(request)
        device = find_device(request.serial, request.adb_port)
        report = probe(device)
        binary = choose_binary(
            request.serial,
            report.abis,
            report.emulated_engine or None,
            request.deployment,
            mace_run=request.mace_run,
            mace_root=request.mace_root,
        )
        self._preflight(report, binary, model_files, samples)
        layout = Layout(
            root=DEFAULT_ROOT,
            binary=binary.on_device or f"{DEFAULT_ROOT}/mace_run",
            model_name=request.model_name,
        )
        base = base_invocation(layout, request.model)
        # Only to see now whether the model's tensors can be told apart in batch mode.
        batch_invocation(base, layout.dataset(samples.digest), layout)
        # The serial is part of the name, so that two equal phones do not collide.
        parts = (request.model_name, report.device_name, report.soc, report.serial)
        bundle = request.out_dir / ".".join(name_part(part) for part in parts)
        check_place(bundle)
        return _Plan(device, report, binary, model_files, samples, layout, base, bundle)

    def _preflight(
        self, report: ProbeReport, binary: Binary, model_files: ModelFiles, samples: Samples
    ) -> None:
        deployment = self._request.deployment
        # Inputs and outputs lie there as well; a compiled program is a few MiB at most.
        needed_bytes = model_files.size_bytes + 2 * samples.size_bytes
        if binary.local is not None:
            needed_bytes += sum(file.stat().st_size for file in (binary.local, *binary.libraries))
        checks = preflight.check(
            report,
            abi=binary.abi,
            needed_bytes=needed_bytes,
        )
        for one in preflight.failed(checks):
            raise PreflightError(f"{one.name}: {one.text}", serial=report.serial, hint=one.fix)
        targets = deployment.target_socs
        if "all" not in targets and report.soc not in targets:
            raise PreflightError(
                f"its soc {report.soc!r} is not among target_socs ({', '.join(targets)})",
                serial=report.serial,
                hint=f"add it to target_socs in {deployment.path.name}, or use another phone",
            )
        if "host" not in deployment.target_abis and binary.abi not in deployment.target_abis:
            raise PreflightError(
                f"its abi {binary.abi} is not among target_abis "
                f"({', '.join(deployment.target_abis)})",
                serial=report.serial,
                hint=f"add it to target_abis in {deployment.path.name}, or use another phone",
            )

    def _on_phone(self, plan: _Plan, lock: DeviceLock) -> TuneResult:
        request, device, layout = self._request, plan.device, plan.layout
        session = MaceRunSession(device, layout.root)
        measurer = Measurer(device, session, layout, plan.base, request.settings)
        with self._phase("push") as phase:
            pushed = push(
                device,
                layout,
                plan.binary,
                plan.base,
                plan.model_files,
                plan.samples,
                phase.progress,
            )
            phase.summary = (
                f"{pushed.bytes:,} bytes (model: {pushed.model_bytes:,}), "
                f"{pushed.kept_files} files were there already"
            )
        with self._phase("baseline") as phase:
            baseline = measurer.baseline()
            phase.summary = _programs(baseline)
        with self._phase("tune") as phase:
            tuning = measurer.tune(phase.progress)
            phase.summary = f"{len(tuning.tuned)} kernels in {tuning.wall_s:.1f} s"
        # A folder of its own for what comes in: nothing is kept of a run that fails.
        with (
            self._phase("pull") as phase,
            tempfile.TemporaryDirectory(prefix="droidmace-") as folder,
        ):
            artefacts = pull_artefacts(device, layout, Path(folder))
            phase.summary = (
                f"{len(artefacts.program.programs)} programs, "
                f"{len(artefacts.parameters.entries)} tuned entries"
            )
        lock.check()
        with self._phase("proof") as phase:
            artefacts.put_back(device, layout)
            load = measurer.load_fresh()
            measurer.program_usable = load.survives
            proved = measurer.prove_parameters(load, tuning.tuned)
            phase.summary = f"{load.why_not or _programs(load.result)}, {proved} kernels tuned"
        with self._phase("startup") as phase:
            cold, warm = measurer.startup_pairs(phase.progress)
            startup = paired_ratio(
                [run.first_result_ms for run in cold], [run.first_result_ms for run in warm]
            )
            phase.summary = f"warm/cold x {startup.median:.3f}"
        with self._phase("latency") as phase:
            untuned_ms, tuned_ms = measurer.latency_pairs(phase.progress)
            latency = paired_ratio(untuned_ms, tuned_ms)
            phase.summary = f"tuned/untuned x {latency.median:.3f}"
        with self._phase("accuracy") as phase:
            answers = compare_answers(
                device, measurer, layout, request.model, plan.samples, phase.progress
            )
            phase.summary = answers.summary
            if measurer.program_usable:
                artefacts.check_unchanged(device, layout)
        lock.check()
        judgement = judge(_evidence(load, startup, latency, answers))
        result = TuneResult(
            device=dataclasses.replace(
                plan.report.info(),
                abi=plan.binary.abi,
                gpu=artefacts.program.device_name or plan.report.gpu,
            ),
            model=request.model_name,
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            cold=tuple(cold),
            warm=tuple(warm),
            untuned_run_ms=tuple(untuned_ms),
            tuned_run_ms=tuple(tuned_ms),
            latency_ratio=_as_tuple(latency),
            startup_ratio=_as_tuple(startup),
            accuracy=answers.accuracy,
            programs=len(artefacts.program.programs),
            programs_from_cache=len(load.result.programs.cache) if load.result else 0,
            tuned_entries=len(artefacts.parameters.entries),
            kernels_proved=proved,
            tuning_s=tuning.wall_s,
            wall_s=time.monotonic() - self._began_s,
            pushed_bytes=pushed.bytes,
            pushed_model_bytes=pushed.model_bytes,
            mace_version=tuning.mace_version,
            platform_info=artefacts.program.platform_info,
            rounds=request.settings.rounds,
            warnings=(*self._warnings, *answers.warnings),
        )
        with self._phase("bundle") as phase:
            result = self._write(result, plan, artefacts)
            phase.summary = str(result.bundle)
        return result

    def _write(self, result: TuneResult, plan: _Plan, artefacts: Artefacts) -> TuneResult:
        """Write the bundle.

        Both artefacts are always kept; the verdict says which of them are worth shipping.
        """
        result = dataclasses.replace(result, bundle=str(plan.bundle))
        write_bundle(
            plan.bundle,
            provenance=Provenance(
                model_name=result.model,
                model_graph=FileRecord.of(plan.model_files.graph),
                model_data=FileRecord.of(plan.model_files.data),
                binary=_binary_record(plan.device, plan.binary, plan.layout.binary),
                mace_version=result.mace_version,
                device=DeviceRecord.of(result.device, platform_info=result.platform_info),
            ),
            compiled_program=artefacts.program_bytes,
            tuned_parameters=artefacts.parameters_bytes,
            results=result.as_document(),
        )
        return result


def _binary_record(device: Device, binary: Binary, path: str) -> FileRecord:
    """Identify the program that ran, wherever it came from."""
    if binary.local is not None:
        return FileRecord.of(binary.local)
    found = device.stat(path)
    sha256 = remote_hashes(device, [path]).get(path)
    if found is None or sha256 is None:
        raise PreflightError(
            f"its mace_run {path} cannot be read",
            serial=device.serial,
            hint="give another with --mace-run",
        )
    return FileRecord(posixpath.basename(path), sha256, found.size_bytes)


def _programs(result: MaceRunResult | None) -> str:
    if result is None:
        return ""
    sources = result.programs
    return (
        f"{len(sources.source)} programs from source, "
        f"{len(sources.cache)} from the compiled program"
    )


def _as_tuple(ratio: PairedRatio) -> tuple[float, float, float, float]:
    return ratio.median, ratio.low, ratio.high, ratio.confidence


def _evidence(load: Load, startup: PairedRatio, latency: PairedRatio, answers: Answers) -> Evidence:
    return Evidence(
        program_survives=load.survives,
        startup=startup,
        latency=latency,
        agreement=answers.accuracy.agreement,
        finite=answers.finite,
        similarity=answers.similarity,
        why_program_fails=load.why_not,
    )
