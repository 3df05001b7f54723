"""What a bench session is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from droidmace.bundle.reader import Bundle
from droidmace.config import ModelConfig
from droidmace.files import sha256_of_file
from droidmace.results.bench import CurrentUnit
from droidmace.workflows.bench_compare import TOLERANCE, BenchRecord, Difference, check_comparable
from droidmace.workflows.models import ModelFiles, find_model_files
from droidmace.workflows.samples import Inputs, load_samples
from droidmace.workflows.shipped_files import shipped_files
from droidmace.workflows.workplace import PhoneRequest


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """How much to measure.

    ``singles``: inferences that are timed one by one, each in an engine of its own; ``profile``,
    ``memory`` and ``energy`` each take a process of their own, so that none disturbs another.
    """

    rounds: int = 50
    """Inferences that one sample averages."""
    processes: int = 10
    """Fresh processes: samples of the latency."""
    cold_runs: int = 4
    """Fresh processes that start without any compiled program: as few as can be compared."""
    singles: int = 0
    profile: bool = True
    memory: bool = True
    energy: bool = False
    current_unit: CurrentUnit = CurrentUnit.AUTO
    idle_s: int = 15
    """How long the idle phone is watched."""
    load_s: int = 20
    """How long the phone under load is watched, about."""
    settle_s: int = 3
    """What is left out at the begin of either: a fuel gauge averages."""
    pin_governors: bool = True
    """Whether clocks are held steady where the phone permits it."""
    timeout_s: float = 900.0
    """Deadline of one process."""


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """Which model on which phone, with which program, and how much to measure."""

    phone: PhoneRequest
    settings: BenchSettings
    bundle: Path | None = None
    """A bundle whose compiled program and tuned parameters the phone runs with."""
    against: BenchRecord | None = None
    """An earlier session to compare with."""
    tolerance: float = TOLERANCE
    meant: tuple[Difference, ...] = ()
    """What shall differ from that one."""

    @property
    def model(self) -> ModelConfig:
        """The model to measure."""
        return self.phone.model


@dataclass(frozen=True, slots=True)
class BenchFiles:
    """What travels to the phone, checked: model, input, and what a bundle ships."""

    model: ModelFiles
    inputs: Inputs
    bundle: Bundle | None = None
    program: Path | None = None
    parameters: Path | None = None


def check_request(request: BenchRequest) -> BenchFiles:
    """Refuse what no phone is needed to refuse; return what will travel.

    Raises ``ConfigError``, ``FormatError`` (a damaged bundle or model) and ``InputError`` (a bundle
    of another model or with nothing worth shipping, an earlier session that measured another).
    """
    model_files = find_model_files(request.phone.deployment, request.model, needs_gpu=False)
    if request.against is not None:
        own = {
            "model_graph": sha256_of_file(model_files.graph),
            "model_data": sha256_of_file(model_files.data),
            "rounds": str(request.settings.rounds),
        }
        # The phone is not known yet: as if it were the same.
        check_comparable(request.against, {**request.against.identity, **own}, request.meant)
    inputs = load_samples(request.phone.deployment, request.model, 1).inputs[0]
    if request.bundle is None:
        return BenchFiles(model_files, inputs)
    shipped = shipped_files(request.bundle, model_files)
    return BenchFiles(model_files, inputs, shipped.bundle, shipped.program, shipped.parameters)
