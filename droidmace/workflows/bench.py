"""The story of ``droidmace bench`` on one phone: start-up, latency, ops, memory, energy.

Nothing is written on the host. Whatever ends the story early stops what runs on the phone and
gives the phone back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import statistics
import time
from collections.abc import Callable

from droidmace import __version__
from droidmace.devices.governors import pinned_governors, restore_governors
from droidmace.devices.monitor import Monitor
from droidmace.files import sha256_of_file
from droidmace.results import MaceRunResult, RunTimes
from droidmace.results.bench import BenchProcess, BenchResult
from droidmace.wording import counted
from droidmace.workflows.bench_compare import (
    check_comparable,
    compare,
    record_of,
    unsteadiness,
)
from droidmace.workflows.bench_energy import measure_energy
from droidmace.workflows.bench_request import BenchFiles, BenchRequest, check_request
from droidmace.workflows.bench_runs import BenchRuns
from droidmace.workflows.measure import base_invocation, programs_text
from droidmace.workflows.phase import NoteCallback, Phase
from droidmace.workflows.shipped_files import refuse_other_gpu
from droidmace.workflows.staging import push_files
from droidmace.workflows.workplace import Workplace, find_workplace, taken


def bench(request: BenchRequest, on_note: NoteCallback) -> BenchResult:
    """Measure one model on one phone.

    Raises ``DroidmaceError`` s whose message says in which phase it happened.
    """
    return _Story(request, on_note).tell()


def _compared(result: BenchResult, request: BenchRequest) -> BenchResult:
    """The same with its comparison, if one is asked for."""
    if request.against is None:
        return result
    comparison = compare(
        request.against, record_of(result), tolerance=request.tolerance, meant=request.meant
    )
    return dataclasses.replace(result, comparison=comparison)


class _Story:
    """The state of one session; the methods are its phases, in order."""

    def __init__(self, request: BenchRequest, on_note: NoteCallback) -> None:
        self._request = request
        self._on_note = on_note
        self._began_s = time.monotonic()
        self._warnings: list[str] = []

    def _phase(self, name: str) -> Phase:
        return Phase(self._request.phone.serial, name, self._on_note)

    def tell(self) -> BenchResult:
        with self._phase("probe") as phase:
            files = check_request(self._request)
            place = find_workplace(
                self._request.phone, needed_bytes=files.model.size_bytes + _size(files)
            )
            if files.bundle is not None:
                refuse_other_gpu(files.bundle, place.device_info)
            phase.summary = place.summary
            if (other := self._request.against) is not None:
                # The request was checked as if the phone were the same; now it is known.
                own = {**other.identity, **_phone_identity(place)}
                check_comparable(other, own, self._request.meant)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(taken(place.device, self._phase, self._warnings))
            result = self._on_phone(files, place)
            lock.check()
        result = dataclasses.replace(result, wall_s=time.monotonic() - self._began_s)
        return _compared(result, self._request)

    def _on_phone(self, files: BenchFiles, place: Workplace) -> BenchResult:
        request, settings = self._request, self._request.settings
        device, layout = place.device, place.layout
        base = base_invocation(layout, request.model)
        with self._phase("push") as phase:
            inputs = {path: files.inputs[one.name] for path, one in base.input_paths().items()}
            pushed = push_files(device, layout, place.binary, files.model, inputs, phase.progress)
            phase.summary = f"{pushed.bytes:,} bytes, {pushed.kept_files} files were there already"
        runs = BenchRuns(device, layout, base, settings)
        with self._phase("prepare") as phase:
            prepared = runs.prepare(files)
            if prepared.warning:
                self._warnings.append(prepared.warning)
            proof = prepared.result
            sources = proof.programs
            has_programs = bool(sources.source or sources.cache)
            phase.summary = (
                programs_text(proof) if has_programs else "no OpenCL programs, so no cold starts"
            )
            if proof.applied:
                kernels = counted(len(proof.applied), "kernel")
                phase.summary += f", {kernels} with tuned parameters"
        identity = _identity(request, files, place, proof)
        with contextlib.ExitStack() as stack:
            if settings.pin_governors:
                pin = stack.enter_context(pinned_governors(device))
                pinned = bool(pin.pinned)
            else:
                restore_governors(device)  # those of a run that was killed
                pinned = False
            monitor = stack.enter_context(Monitor(device))
            # Without OpenCL programs a cold start is like any other.
            cold = self._several(
                "cold", settings.cold_runs if has_programs else 0, runs.cold, monitor
            )
            processes = self._several("latency", settings.processes, runs.latency, monitor)
            singles: tuple[float, ...] = ()
            if settings.singles:
                with self._phase("singles") as phase:
                    singles = runs.singles_ms()
                    phase.summary = counted(len(singles), "single inference")
            profile = None
            if settings.profile:
                with self._phase("profile") as phase:
                    profile = runs.profile()
                    phase.summary = counted(len(profile.ops), "op")
            peak_kib = None
            if settings.memory:
                with self._phase("memory") as phase:
                    peak_kib = runs.peak_kib()
                    phase.summary = (
                        "not seen" if peak_kib is None else f"{peak_kib / 1024:.1f} MiB at least"
                    )
            energy = None
            if settings.energy:
                with self._phase("energy") as phase:
                    latency_ms = statistics.median(
                        one.run_avg_ms for one in processes if one.run_avg_ms
                    )
                    energy = measure_energy(runs, monitor, settings, latency_ms, phase.progress)
                    phase.summary = energy.why_not or f"{energy.joules or 0.0:.3g} J per inference"
        if drift := unsteadiness([one.run_avg_ms for one in processes if one.run_avg_ms]):
            self._warnings.append(drift)
        return BenchResult(
            device=place.device_info,
            model=request.phone.model_name,
            identity=identity,
            settings={
                "rounds": settings.rounds,
                "processes": settings.processes,
                "cold_runs": len(cold),
                "singles": settings.singles,
                "governors_pinned": pinned,
            },
            processes=processes,
            cold=cold,
            singles_ms=singles,
            programs_from_source=len(sources.source),
            programs_from_cache=len(sources.cache),
            kernels_with_parameters=len(proof.applied),
            profile=profile,
            peak_kib=peak_kib,
            energy=energy,
            warnings=tuple(self._warnings),
        )

    def _several(
        self, name: str, count: int, run: Callable[[], RunTimes], monitor: Monitor
    ) -> tuple[BenchProcess, ...]:
        """So many fresh processes, and how the phone was after each."""
        found: list[BenchProcess] = []
        if not count:
            return ()
        with self._phase(name) as phase:
            for number in range(count):
                phase.progress(f"process {number + 1}", number, count)
                times = run()
                samples = monitor.samples
                found.append(
                    BenchProcess(
                        times.init_ms,
                        times.warmup_ms,
                        times.run_avg_ms if name == "latency" else None,
                        hottest_c=samples[-1].hottest_c if samples else None,
                        gpu_mhz=samples[-1].gpu_mhz if samples else None,
                    )
                )
            if name == "latency":
                figures = [one.run_avg_ms for one in found if one.run_avg_ms is not None]
                what = "latency"
            else:
                figures, what = [one.first_result_ms for one in found], "first result"
            phase.summary = f"{what} {statistics.median(figures):.4g} ms in " + counted(
                count, "process", "processes"
            )
        return tuple(found)


def _size(files: BenchFiles) -> int:
    """Bytes on the phone besides the model's: the input, and what a bundle ships."""
    shipped = [path for path in (files.program, files.parameters) if path is not None]
    return 2 * sum(map(len, files.inputs.values())) + sum(path.stat().st_size for path in shipped)


def _identity(
    request: BenchRequest, files: BenchFiles, place: Workplace, proof: MaceRunResult
) -> dict[str, str]:
    """What the figures belong to."""
    inputs = hashlib.sha256()
    for name in sorted(files.inputs):
        inputs.update(files.inputs[name])
    return {
        "model_graph": sha256_of_file(files.model.graph),
        "model_data": sha256_of_file(files.model.data),
        "input": inputs.hexdigest(),
        "mace_run": place.binary_record().sha256,
        "mace_version": proof.mace_version,
        "runtimes": proof.runtimes,
        "compiled_program": sha256_of_file(files.program) if files.program else "",
        "tuned_parameters": sha256_of_file(files.parameters) if files.parameters else "",
        "limit_opencl_kernel_time": str(request.model.limit_opencl_kernel_time),
        "opencl_queue_window_size": str(request.model.opencl_queue_window_size),
        "droidmace_version": __version__,
    } | _phone_identity(place)


def _phone_identity(place: Workplace) -> dict[str, str]:
    """The part of it that the probe tells."""
    report = place.report
    return {
        "serial": report.serial,
        "device_model": report.model,
        "soc": report.soc,
        "abi": place.binary.abi,
        "gpu": report.gpu,
        "driver": report.gl_version,
        "build": report.properties.get("ro.build.fingerprint", ""),
        "android_release": report.android_release,
    }
