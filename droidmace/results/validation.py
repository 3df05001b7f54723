"""What a validation found out: right answers, agreement, similarity, and whether that will do.

Shares are of 1. ``None`` stands for what was not measured; a figure that is measured is always
there, so that a gate on a missing figure fails instead of being skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from droidmace.results.classification import Classification, finite_or_none
from droidmace.results.tuning import DeviceInfo

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one figure per sample: extremes, the first percentile, the median and the mean."""

    minimum: float
    p1: float
    median: float
    mean: float
    maximum: float

    def as_document(self) -> dict[str, object]:
        """For JSON; an infinite figure is null."""
        return {
            "minimum": finite_or_none(self.minimum),
            "p1": finite_or_none(self.p1),
            "median": finite_or_none(self.median),
            "mean": finite_or_none(self.mean),
            "maximum": finite_or_none(self.maximum),
        }


@dataclass(frozen=True, slots=True)
class OutputSimilarity:
    """One output of the phone next to the reference's, over ``samples`` of ``elements`` values.

    ``cosine`` and ``sqnr_db`` are per sample. ``sqnr_db_overall`` is that of all samples' signal
    and noise together (infinite without noise). ``max_rel_error`` is in shares of the sample's
    largest reference value. ``worst_sample`` (its number, and its name if known) has the smallest
    cosine. ``not_finite`` counts the phone's values that are NaN or infinite, and
    ``reference_not_finite`` the reference's; ``not_finite_samples`` hold one of either.
    ``outside`` counts values whose error is above both parts of ``tolerance`` (absolute, and
    relative to the reference value), in ``outside_samples`` samples.
    """

    name: str
    samples: int
    elements: int
    cosine: Percentiles
    sqnr_db: Percentiles
    sqnr_db_overall: float
    max_abs_error: float
    max_rel_error: float
    not_finite: int
    reference_not_finite: int
    not_finite_samples: int
    worst_sample: int
    worst_error_sample: int
    tolerance: tuple[float, float] | None = None
    outside: int | None = None
    outside_samples: int | None = None
    worst_sample_name: str = ""

    def as_document(self) -> dict[str, object]:
        """For JSON; an infinite figure is null."""
        tolerance = None
        if self.tolerance is not None:
            tolerance = {"absolute": self.tolerance[0], "relative": self.tolerance[1]}
        return {
            "name": self.name,
            "samples": self.samples,
            "elements": self.elements,
            "cosine": self.cosine.as_document(),
            "sqnr_db": self.sqnr_db.as_document(),
            "sqnr_db_overall": finite_or_none(self.sqnr_db_overall),
            "max_abs_error": finite_or_none(self.max_abs_error),
            "max_rel_error": finite_or_none(self.max_rel_error),
            "not_finite": self.not_finite,
            "reference_not_finite": self.reference_not_finite,
            "not_finite_samples": self.not_finite_samples,
            "worst_sample": self.worst_sample,
            "worst_sample_name": self.worst_sample_name or None,
            "worst_error_sample": self.worst_error_sample,
            "tolerance": tolerance,
            "outside": self.outside,
            "outside_samples": self.outside_samples,
        }


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """One figure against what was asked of it; ``found`` is None if it was not measured."""

    name: str
    wanted: float
    found: float | None
    passed: bool
    comparison: str = ">="
    """How ``found`` has to stand to ``wanted``: ``>=``, ``<=`` or ``>``."""

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "wanted": self.wanted,
            "comparison": self.comparison,
            "found": finite_or_none(self.found),
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class ValidationTimings:
    """``wall_s`` from the first sample to the last output, ``run_s`` of it inside ``mace_run``.

    ``resumed`` samples were computed in an earlier call and cost nothing in this one.
    """

    wall_s: float
    run_s: float
    chunks: int
    samples: int
    resumed: int = 0
    reference_s: float | None = None

    @property
    def images_per_s(self) -> float | None:
        """Samples of this call per second of wall time."""
        fresh = self.samples - self.resumed
        return fresh / self.wall_s if fresh > 0 and self.wall_s > 0 else None

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "wall_s": self.wall_s,
            "run_s": self.run_s,
            "reference_s": self.reference_s,
            "chunks": self.chunks,
            "samples": self.samples,
            "resumed": self.resumed,
            "images_per_s": self.images_per_s,
        }


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Everything that a validation of one model on one phone found out.

    ``asked`` samples were asked for, and all of them took part: a validation that loses one ends in
    an error. ``against`` says what the answers are held against, empty if against nothing but
    labels. ``threshold`` is MACE's ``validation_threshold``. ``identity`` is what the result
    depends on: hashes of model, samples, preparation and program, and the serial.

    Raises ``ValueError`` if a sample is unaccounted for.
    """

    device: DeviceInfo
    model: str
    runtime: str
    dataset: str
    asked: int
    took_part: int
    timings: ValidationTimings
    against: str = ""
    bundle: str = ""
    """Whose compiled program and tuned parameters the phone ran with, if that was asked for."""
    classification: Classification | None = None
    outputs: tuple[OutputSimilarity, ...] = ()
    threshold: GateOutcome | None = None
    gates: tuple[GateOutcome, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    plugin: str = ""
    """What MACE's AccuracyValidator said, if one judged the outputs."""

    def __post_init__(self) -> None:
        if self.took_part != self.asked:
            raise ValueError(f"{self.asked} samples were asked for, {self.took_part} took part")

    @property
    def judgements(self) -> tuple[GateOutcome, ...]:
        """MACE's threshold, if it was judged, and the gates."""
        return (*((self.threshold,) if self.threshold else ()), *self.gates)

    @property
    def passed(self) -> bool | None:
        """Whether the threshold and every gate are met; None if there was nothing to judge."""
        return all(gate.passed for gate in self.judgements) if self.judgements else None

    @property
    def looks_wrong(self) -> bool:
        """Whether a judgement on compared values failed: no matter of labels."""
        return any(
            not one.passed and one.found is not None and one.name not in LABEL_GATES
            for one in self.judgements
        )

    @property
    def smallest_cosine(self) -> float | None:
        """Of all samples and outputs."""
        return min((output.cosine.minimum for output in self.outputs), default=None)

    def judged(
        self, gates: Mapping[str, float], threshold: float | None = None
    ) -> ValidationResult:
        """The same result with its gates, and MACE's threshold, judged."""
        return replace(
            self,
            gates=judge_gates(self, gates),
            threshold=None if threshold is None else judge_threshold(self, threshold),
        )

    def as_document(self) -> dict[str, object]:
        """The content of the JSON document."""
        return {
            "schema": SCHEMA,
            "serial": self.device.serial,
            "device": {
                "model": self.device.model,
                "device_name": self.device.device_name,
                "soc": self.device.soc,
                "abi": self.device.abi,
                "gpu": self.device.gpu,
                "android_release": self.device.android_release,
            },
            "model": self.model,
            "runtime": self.runtime,
            "dataset": self.dataset,
            "asked": self.asked,
            "took_part": self.took_part,
            "against": self.against or None,
            "bundle": self.bundle or None,
            "passed": self.passed,
            "threshold": self.threshold.as_document() if self.threshold else None,
            "gates": [gate.as_document() for gate in self.gates],
            "classification": self.classification.as_document() if self.classification else None,
            "outputs": [output.as_document() for output in self.outputs],
            "timings": self.timings.as_document(),
            "identity": dict(self.identity),
            "plugin": self.plugin or None,
            "warnings": list(self.warnings),
        }


def _top1(result: ValidationResult) -> float | None:
    scores = result.classification and result.classification.phone
    return scores.top1.value if scores else None


def _top5(result: ValidationResult) -> float | None:
    scores = result.classification and result.classification.phone
    return scores.top5.value if scores and scores.top5 else None


def _top1_loss(result: ValidationResult) -> float | None:
    difference = result.classification and result.classification.difference
    return 0.0 - difference.value if difference else None  # not -0.0 for none


def _agreement(result: ValidationResult) -> float | None:
    share = result.classification and result.classification.agreement
    return share.value if share else None


def _finite(
    figure: Callable[[OutputSimilarity], float], otherwise: float
) -> Callable[[OutputSimilarity], float]:
    """A figure that leaves out samples that are not finite: with any, it says nothing good."""
    return lambda output: otherwise if output.not_finite_samples else figure(output)


def _over_outputs(
    choose: Callable[[Sequence[float]], float], figure: Callable[[OutputSimilarity], float]
) -> Callable[[ValidationResult], float | None]:
    def found(result: ValidationResult) -> float | None:
        values = [figure(output) for output in result.outputs]
        return choose(values) if values else None

    return found


_AT_LEAST: Mapping[str, Callable[[ValidationResult], float | None]] = {
    "top1": _top1,
    "top5": _top5,
    "agreement": _agreement,
    "cosine": lambda result: result.smallest_cosine,
    "sqnr_db": _over_outputs(min, _finite(lambda output: output.sqnr_db_overall, -math.inf)),
}
_AT_MOST: Mapping[str, Callable[[ValidationResult], float | None]] = {
    "top1_loss": _top1_loss,
    "max_abs_error": _over_outputs(max, _finite(lambda output: output.max_abs_error, math.inf)),
    "max_rel_error": _over_outputs(max, _finite(lambda output: output.max_rel_error, math.inf)),
    "non_finite": _over_outputs(sum, lambda output: float(output.not_finite)),
}

LABEL_GATES = frozenset({"top1", "top5", "top1_loss"})
"""Those that need labels."""
COMPARING_GATES = frozenset({*_AT_LEAST, *_AT_MOST}) - {"top1", "top5"}
"""Those that need a reference."""
GATES: tuple[str, ...] = (*_AT_LEAST, *_AT_MOST)
"""Figures that a gate can be put on; the meaning of each is in ``docs/validation.md``."""


def judge_gates(result: ValidationResult, gates: Mapping[str, float]) -> tuple[GateOutcome, ...]:
    """Hold the result against each of ``gates``: name (of :data:`GATES`) to wanted figure.

    A figure that was not measured, or is NaN, does not pass. Raises ``ValueError`` for a name that
    is none.
    """
    outcomes = []
    for name, wanted in gates.items():
        if name in _AT_LEAST:
            found, comparison = _AT_LEAST[name](result), ">="
            passed = found is not None and found >= wanted
        elif name in _AT_MOST:
            found, comparison = _AT_MOST[name](result), "<="
            passed = found is not None and found <= wanted
        else:
            raise ValueError(f"{name!r} is none of the gates {', '.join(GATES)}")
        outcomes.append(GateOutcome(name, float(wanted), found, passed, comparison))
    return tuple(outcomes)


def judge_threshold(result: ValidationResult, wanted: float) -> GateOutcome:
    """MACE's ``validation_threshold``: every output's cosine has to be above it, in each sample.

    Above, not equal, as ``compare_output`` of MACE's ``tools/python/validate.py`` has it.
    """
    found = result.smallest_cosine
    passed = found is not None and found > wanted
    return GateOutcome("validation_threshold", float(wanted), found, passed, ">")
