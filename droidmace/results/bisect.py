"""What ``droidmace bisect`` found out: which op goes wrong first on a GPU, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from droidmace.results.tuning import DeviceInfo

SCHEMA = "droidmace bisect 1"
"""What a document of this kind says of itself."""


class Cause(StrEnum):
    """What is wrong, as far as the runs tell."""

    NOTHING = "nothing"
    UNJUDGED = "not judged"
    """The outputs agree, but no op could be held against the CPU by itself."""
    KERNEL = "kernel"
    """The op is wrong by itself, by more than rounding explains."""
    OVERFLOW = "fp16 overflow"
    """Numbers beyond half precision: the op is right in 32 bits, or its numbers do not fit."""
    PRECISION = "fp16 precision"
    """The op is too inexact by itself in half precision, and right in 32 bits."""
    WINOGRAD = "winograd"
    """The convolution is right when computed directly."""
    ROUNDING = "accumulated rounding"
    """Each op is right by itself; in half precision the error grows along the net."""
    IN_NET = "only inside the net"
    """Each op is right by itself, and still the net is not: what the GPU does between ops."""


@dataclass(frozen=True, slots=True)
class TensorError:
    """How far a tensor from the GPU is from the CPU's.

    ``relative``: length of the difference by that of the CPU's values; ``peak``: largest difference
    by the CPU's largest value. Both leave out elements that are no finite numbers on either side;
    ``lost`` counts those that are finite on the CPU alone.
    """

    elements: int
    relative: float
    peak: float
    lost: int
    cosine: float
    worst_index: tuple[int, ...]
    """Of the element with the largest difference; a lost one if there is any."""
    worst_cpu: float
    worst_gpu: float
    cpu_peak: float
    """The CPU's largest value, by magnitude."""
    overflowing: int = 0
    """The CPU's values that half precision cannot hold."""

    @property
    def sqnr_db(self) -> float:
        """Signal to noise; infinite where nothing differs."""
        return math.inf if self.relative == 0 else -20.0 * math.log10(self.relative)

    def as_document(self) -> dict[str, object]:
        """For JSON: numbers that are not finite become None."""
        return {
            "elements": self.elements,
            "relative": _finite(self.relative),
            "sqnr_db": _finite(self.sqnr_db),
            "peak": _finite(self.peak),
            "cosine": _finite(self.cosine),
            "lost": self.lost,
            "overflowing": self.overflowing,
            "worst_index": list(self.worst_index),
            "worst_cpu": _text_if_odd(self.worst_cpu),
            "worst_gpu": _text_if_odd(self.worst_gpu),
            "cpu_peak": _finite(self.cpu_peak),
        }


@dataclass(frozen=True, slots=True)
class OpComparison:
    """One op by itself, fed with the CPU's tensors. ``index`` counts from 0 in running order."""

    index: int
    name: str
    what: str
    """Type and how it computes, in a few words."""
    output: str
    shape: tuple[int, ...]
    error: TensorError
    wrong: bool
    on_cpu: bool = False
    """MACE has run it on the CPU, though the net was the GPU's: it tells nothing of the GPU."""

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "index": self.index,
            "name": self.name,
            "what": self.what,
            "output": self.output,
            "shape": list(self.shape),
            "wrong": self.wrong,
            "on_cpu": self.on_cpu,
            "error": self.error.as_document(),
        }


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """An output of the whole net."""

    name: str
    error: TensorError
    differs: bool

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {"name": self.name, "differs": self.differs, "error": self.error.as_document()}


@dataclass(frozen=True, slots=True)
class Suspect:
    """The same op (or net) computed in another way: is it right then?"""

    name: str
    right: bool
    error: TensorError | None
    why_not: str = ""
    """Why it could not be tried, if so."""

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "right": self.right,
            "error": self.error.as_document() if self.error else None,
            "why_not": self.why_not,
        }


@dataclass(frozen=True, slots=True)
class BisectRun:
    """One process of ``mace_run``."""

    runtime: str
    what: str


@dataclass(frozen=True, slots=True)
class BisectResult:
    """The whole finding. ``culprit`` is the first op that is wrong, if one is."""

    device: DeviceInfo
    model: str
    data_type: str
    sample: str
    op_count: int
    cause: Cause
    sentence: str
    """For whoever maintains the kernels."""
    culprit: OpComparison | None
    outputs: tuple[OutputComparison, ...]
    ops: tuple[OpComparison, ...]
    suspects: tuple[Suspect, ...]
    runs: tuple[BisectRun, ...]
    run_limit: int
    identity: Mapping[str, str] = field(default_factory=dict)
    reproducer: str | None = None
    warnings: tuple[str, ...] = ()
    on_cpu: tuple[str, ...] = ()
    """Ops of the net that MACE runs on the CPU, though the net is the GPU's."""

    @property
    def found(self) -> bool:
        """Whether anything is wrong."""
        return self.cause not in {Cause.NOTHING, Cause.UNJUDGED}

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "device": {
                "serial": self.device.serial,
                "model": self.device.model,
                "soc": self.device.soc,
                "gpu": self.device.gpu,
                "abi": self.device.abi,
            },
            "model": self.model,
            "data_type": self.data_type,
            "sample": self.sample,
            "op_count": self.op_count,
            "cause": self.cause.value,
            "sentence": self.sentence,
            "culprit": self.culprit.as_document() if self.culprit else None,
            "outputs": [one.as_document() for one in self.outputs],
            "ops": [one.as_document() for one in self.ops],
            "suspects": [one.as_document() for one in self.suspects],
            "runs": [{"runtime": one.runtime, "what": one.what} for one in self.runs],
            "run_limit": self.run_limit,
            "identity": dict(self.identity),
            "reproducer": self.reproducer,
            "warnings": list(self.warnings),
            "on_cpu": list(self.on_cpu),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text_if_odd(value: float) -> float | str:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else str(value)
