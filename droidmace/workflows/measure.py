"""The processes of a tuning run: baseline, proof, and pairs of measurements.

Every figure comes from fresh ``mace_run`` processes. What is compared is measured in interleaved
pairs whose order alternates, so that a phone that grows warm or busy hurts both sides alike.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from droidmace.config import ModelConfig, TuneConfig
from droidmace.devices.base import Device
from droidmace.errors import (
    DeviceStorageError,
    MaceRunCrashError,
    MaceRunOutputError,
    MaceRunRetryError,
)
from droidmace.macerun.events import WarningKind
from droidmace.macerun.invocation import CACHE_FILE_NAME, Invocation, TensorArg
from droidmace.macerun.output import classify_warning
from droidmace.macerun.session import MaceRunSession
from droidmace.results import MaceRunResult, RunTimes
from droidmace.wording import counted

PROVE_SOURCES_VLOG = 3
"""VLOG level at which mace_run says where each OpenCL program and each parameter came from."""

# What mace_run says, at its default log level, when it goes on without what it was given.
_PARAMETERS_UNUSED = {WarningKind.PARAMETERS_MISSING, WarningKind.PARAMETERS_DAMAGED}
_PROGRAM_UNUSED = {
    WarningKind.STORE_MISSING,
    WarningKind.STORE_DAMAGED,
    WarningKind.STORE_NOT_LOADED,
    WarningKind.PROGRAM_REFUSED,
}

Progress = Callable[[str, int, int], None]
"""Called with (what is under way, steps done, steps in all)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie on the phone; everything below ``root``."""

    root: str
    binary: str
    model_name: str

    @property
    def graph(self) -> str:
        """The model's graph."""
        return posixpath.join(self.root, "models", f"{self.model_name}.pb")

    @property
    def weights(self) -> str:
        """The model's weights."""
        return posixpath.join(self.root, "models", f"{self.model_name}.data")

    @property
    def input_prefix(self) -> str:
        """Prefix of the input files of single runs."""
        return posixpath.join(self.root, "input", self.model_name)

    @property
    def output_prefix(self) -> str:
        """Prefix of the output files of single runs."""
        return posixpath.join(self.root, "output", self.model_name)

    def dataset(self, digest: str) -> str:
        """The input folder of batch runs; its name says what is in it."""
        return posixpath.join(self.root, "samples", f"{self.model_name}-{digest}")

    @property
    def batch_output(self) -> str:
        """The output folder of batch runs."""
        return posixpath.join(self.root, "batch_output", self.model_name)

    def storage(self, name: str) -> str:
        """A storage folder of our own, one per purpose."""
        return posixpath.join(self.root, "storage", self.model_name, name)

    def compiled_program(self, name: str) -> str:
        """The cache file in such a folder."""
        return posixpath.join(self.storage(name), CACHE_FILE_NAME)

    @property
    def tuned_parameters(self) -> str:
        """Where the phone's tuner leaves its winners."""
        return posixpath.join(self.storage("tuned"), "tuned_parameters")


def base_invocation(layout: Layout, model: ModelConfig) -> Invocation:
    """What all processes of one model have in common."""

    def args(side: str) -> tuple[TensorArg, ...]:
        tensors = model.inputs if side == "input" else model.outputs
        return tuple(
            TensorArg(tensor.name, tensor.shape, tensor.data_type, tensor.data_format)
            for tensor in tensors
        )

    return Invocation(
        cwd=layout.root,
        binary=layout.binary,
        model_name=model.name,
        model_file=layout.graph,
        model_data_file=layout.weights,
        inputs=args("input"),
        outputs=args("output"),
        input_file=layout.input_prefix,
        output_file=layout.output_prefix,
        library_path=(layout.root, "/system/vendor/lib64", "/system/vendor/lib"),
        limit_opencl_kernel_time=model.limit_opencl_kernel_time,
        opencl_queue_window_size=model.opencl_queue_window_size,
    )


def batch_invocation(base: Invocation, input_dir: str, layout: Layout) -> Invocation:
    """``base`` over a folder of samples; ``InputError`` for tensors that it cannot tell apart."""
    return replace(base, input_dir=input_dir, output_dir=layout.batch_output)


@dataclass(frozen=True, slots=True)
class Load:
    """How a fresh process took to a compiled program."""

    survives: bool
    why_not: str
    result: MaceRunResult | None


def refuse_other_run(
    result: MaceRunResult, serial: str, *, parameters: bool, program: bool
) -> None:
    """A run that went on without what it was given would be measured as the wrong thing.

    ``parameters``, ``program``: whether it was given tuned parameters, and a compiled program that
    this phone takes. Raises ``MaceRunOutputError``.
    """
    unused = _PARAMETERS_UNUSED if parameters else set()
    unused = unused | (_PROGRAM_UNUSED if program else set())
    for text in result.warnings:
        if classify_warning(text) in unused:
            raise MaceRunOutputError(
                f"mace_run went on without what it was to use: {text}",
                where=serial,
                hint="something else writes to the phone's run folder: stop it, run again",
            )


class Measurer:
    """Runs the processes of one model on one phone."""

    def __init__(
        self,
        device: Device,
        session: MaceRunSession,
        layout: Layout,
        base: Invocation,
        settings: TuneConfig,
    ) -> None:
        self._device = device
        self._session = session
        self._layout = layout
        self._base = base
        self.settings = settings
        self.program_usable = False
        """Whether runs may load the compiled program; set once it survived a fresh process."""

    @property
    def outputs(self) -> tuple[TensorArg, ...]:
        """What every process writes."""
        return self._base.outputs

    def _run(self, invocation: Invocation) -> MaceRunResult:
        result = self._session.run(invocation, timeout_s=self.settings.timeout_s)
        self._refuse_other_run(invocation, result)
        return result

    def _refuse_other_run(self, invocation: Invocation, result: MaceRunResult) -> None:
        shipped = invocation.storage_dir == self._layout.storage("shipped")
        refuse_other_run(
            result,
            self._device.serial,
            parameters=bool(invocation.opencl_parameter_file),
            program=self.program_usable and shipped,
        )

    def _times(self, invocation: Invocation) -> RunTimes:
        return times_of(self._run(invocation), self._device)

    def baseline(self) -> MaceRunResult:
        """A process without compiled program or tuned parameters, and the proof that it was one.

        Raises ``MaceRunOutputError`` if it built no OpenCL program, or was not untuned.
        """
        result = self._run(replace(self._cold(), vlog_level=PROVE_SOURCES_VLOG))
        if result.applied or result.programs.cache or result.programs.precompiled:
            raise MaceRunOutputError(
                "mace_run brings compiled programs or tuned parameters of its own",
                where=self._device.serial,
                hint="give a mace_run that was built without them (model_graph_format: file)",
            )
        if not result.programs.source:
            raise MaceRunOutputError(
                f"mace_run built no OpenCL program (runtimes: {result.runtimes or 'not told'})",
                where=self._device.serial,
                hint="does the model run on the GPU? 'droidmace inspect MODEL.pb' shows its "
                "runtime",
            )
        return result

    def _cold(self) -> Invocation:
        return replace(self._base, storage_dir=self._emptied("cold"), rounds=1)

    def load_fresh(self) -> Load:
        """Start a fresh process with the pulled program: does it come up, all from the cache?"""
        try:
            result = self._run(
                replace(
                    self._base,
                    storage_dir=self._layout.storage("shipped"),
                    opencl_parameter_file=self._layout.tuned_parameters,
                    rounds=1,
                    vlog_level=PROVE_SOURCES_VLOG,
                )
            )
        except (MaceRunCrashError, MaceRunRetryError) as error:
            return Load(survives=False, why_not=error.message, result=None)
        sources = result.programs
        if sources.source:
            total = len(sources.source) + len(sources.cache)
            why = f"{len(sources.source)} of {total} programs were built from source again"
            return Load(survives=False, why_not=why, result=result)
        if not sources.cache:
            why = "the log names no program that came from the cache"
            return Load(survives=False, why_not=why, result=result)
        return Load(survives=True, why_not="", result=result)

    def prove_parameters(self, load: Load, winners: Mapping[str, tuple[int, ...]]) -> int:
        """Whether a fresh process runs its kernels with what won while tuning; how many do.

        ``load`` has shown it already, unless it failed. Raises ``MaceRunOutputError``.
        """
        result = load.result or self._run(
            replace(self._shipped(rounds=1, tuned=True), vlog_level=PROVE_SOURCES_VLOG)
        )
        other = [key for key, values in result.applied.items() if winners.get(key) != values]
        if other or not result.applied:
            raise MaceRunOutputError(
                f"a fresh process runs {other[0]} with other parameters than those that won"
                if other
                else "a fresh process does not run with the tuned parameters",
                where=self._device.serial,
                hint="the binary may be of another MACE version: use one of v1.0.3 or later",
            )
        return len(result.applied)

    def startup_pairs(self, progress: Progress) -> tuple[list[RunTimes], list[RunTimes]]:
        """Processes without and with what would be shipped, in pairs: ``startup_runs`` of each.

        If the program is not usable the warm ones have the parameters alone: that is what a user
        would get.
        """
        cold: list[RunTimes] = []
        warm: list[RunTimes] = []
        total = 2 * self.settings.startup_runs
        for pair in range(self.settings.startup_runs):
            for is_warm in _alternating(pair):
                kind = "warm" if is_warm else "cold"
                progress(f"{kind} start {pair + 1}", len(cold) + len(warm), total)
                if is_warm:
                    warm.append(self._times(self._shipped(rounds=1, tuned=True)))
                else:
                    cold.append(self._times(self._cold()))
        return cold, warm

    def latency_ms(self, is_tuned: bool) -> float:
        """Average latency of a fresh process."""
        times = self._times(self._shipped(rounds=self.settings.rounds, tuned=is_tuned))
        return average_ms(times, self._device)

    def run_batch(self, input_dir: str, suffixes: Sequence[str], *, tuned: bool) -> None:
        """Run a process over a folder of samples; its outputs land in ``layout.batch_output``."""
        invocation = batch_invocation(self._shipped(rounds=1, tuned=tuned), input_dir, self._layout)
        result = self._session.run_batch(invocation, suffixes, timeout_s=self.settings.timeout_s)
        self._refuse_other_run(invocation, result)

    def _shipped(self, *, rounds: int, tuned: bool) -> Invocation:
        # A program that crashes the driver must not be loaded, and one that a run has just
        # stored for itself is the same program: such runs always start from nothing.
        storage = (
            self._layout.storage("shipped") if self.program_usable else self._emptied("unshipped")
        )
        return replace(
            self._base,
            storage_dir=storage,
            opencl_parameter_file=self._layout.tuned_parameters if tuned else "",
            rounds=rounds,
        )

    def _emptied(self, name: str) -> str:
        return emptied_storage(self._device, self._layout, name)


def programs_text(result: MaceRunResult | None) -> str:
    """Where a process took its OpenCL programs from; empty without one."""
    if result is None:
        return ""
    sources = result.programs
    return (
        f"{counted(len(sources.source), 'program')} from source, "
        f"{len(sources.cache)} from the compiled program"
    )


def times_of(result: MaceRunResult, device: Device) -> RunTimes:
    """The result table of a process that must have one. Raises ``MaceRunOutputError``."""
    if result.times is None:
        raise MaceRunOutputError("mace_run printed no result table", where=device.serial)
    return result.times


def average_ms(times: RunTimes, device: Device) -> float:
    """The average latency where there must be one. Raises ``MaceRunOutputError``."""
    if times.run_avg_ms is None or times.run_avg_ms <= 0:
        raise MaceRunOutputError("mace_run printed no average latency", where=device.serial)
    return times.run_avg_ms


def emptied_storage(device: Device, layout: Layout, name: str) -> str:
    """An empty storage folder."""
    storage = layout.storage(name)
    device.remove(storage)
    make_folders(device, storage)
    return storage


def make_folders(device: Device, *paths: str) -> None:
    """Make folders on the device, with their parents."""
    result = device.run(f"mkdir -p {shlex.join(paths)}")
    if result.exit_code != 0:
        raise DeviceStorageError(
            "cannot make a folder on the phone",
            serial=device.serial,
            command=f"mkdir -p {shlex.join(paths)}",
            exit_code=result.exit_code,
            stderr=result.error_text,
        )


def _alternating(pair: int) -> tuple[bool, bool]:
    """Which side goes first: before-after, then after-before, and so on."""
    return (False, True) if pair % 2 == 0 else (True, False)
