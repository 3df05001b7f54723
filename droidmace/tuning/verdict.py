"""From evidence to one word: what of a tuning run is worth shipping."""

from __future__ import annotations

import math
from dataclasses import dataclass

from droidmace.results import Verdict
from droidmace.tuning.sequential import Finding, finding
from droidmace.tuning.statistics import PairedRatio, share_at_most

_NOT_BY_TUNING = "untuned it is as wrong, so look at the model or its inputs, not at tuning"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Gains below these are not worth a file on a million phones.

    ``min_startup_gain``: a compiled program exists to shorten the first start, which it does by
    a factor; less than a tenth means that it was hardly used. ``min_latency_gain``: MACE documents
    1-10 % from tuning; a hundredth is the smallest gain that it speaks of. ``min_agreement``: share
    of labels that must stay; work-group sizes only reorder sums, so nearly all must.
    ``min_similarity``: cosine between tuned and untuned outputs, for the same reason.
    """

    min_startup_gain: float = 0.10
    min_latency_gain: float = 0.01
    min_agreement: float = 0.99
    min_similarity: float = 0.999


@dataclass(frozen=True, slots=True)
class Labels:
    """How often runs over the same ``samples`` gave the same label, as shares of 1.

    The reference has no shares where there is none.
    """

    samples: int
    unchanged: float
    """Tuned and untuned."""
    tuned_reference: float | None = None
    untuned_reference: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about one tuned model on one phone.

    Ratios are tuned / untuned and warm / cold. ``program_survives``: a fresh process loaded the
    compiled program and took every OpenCL program from it. ``labels``: None without labelled
    images. ``similarity``: the smallest cosine between a tuned and an untuned output.
    """

    program_survives: bool
    startup: PairedRatio
    latency: PairedRatio
    labels: Labels | None
    finite: bool
    untuned_finite: bool = True
    similarity: float = 1.0
    why_program_fails: str = ""
    programs_from_cache: int = 0
    programs_from_source: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the sentences that explain it."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(evidence: Evidence, thresholds: Thresholds = Thresholds()) -> Judgement:
    """Decide. Wrong answers outweigh any speed; a gain counts only if its whole interval does."""
    if wrong := _wrong_answers(evidence, thresholds):
        return Judgement(Verdict.REJECT, (wrong,))
    reasons: list[str] = []
    program = _program_is_worth_it(evidence, thresholds, reasons)
    parameters = _parameters_are_worth_it(evidence, thresholds, reasons)
    verdict = {
        (True, True): Verdict.SHIP,
        (False, True): Verdict.PARAMS_ONLY,
        (True, False): Verdict.PROGRAM_ONLY,
        (False, False): Verdict.NOTHING,
    }[program, parameters]
    return Judgement(verdict, tuple(reasons))


def _wrong_answers(evidence: Evidence, limits: Thresholds) -> str:
    """Why the answers count as wrong; empty if they do not."""
    if not evidence.finite:
        text = "the tuned outputs hold NaN or infinite values"
        return text if evidence.untuned_finite else f"{text}; {_NOT_BY_TUNING}"
    if evidence.similarity < limits.min_similarity:
        return (
            f"tuned outputs differ from untuned ones: cosine {evidence.similarity:.6f} "
            f"(at least {limits.min_similarity:g})"
        )
    labels = evidence.labels
    if labels is None:
        return ""

    def too_few(share: float | None) -> bool:
        # A few samples prove little: one odd label of 20 may be a draw between two classes.
        return share is not None and share_at_most(share, labels.samples) < limits.min_agreement

    if too_few(labels.unchanged):
        return (
            f"tuning changes labels: {labels.unchanged:.2%} of {labels.samples} samples keep "
            f"theirs (at least {limits.min_agreement:.2%} must)"
        )
    if too_few(labels.tuned_reference):
        text = (
            f"only {labels.tuned_reference:.2%} of {labels.samples} labels are the reference's "
            f"(at least {limits.min_agreement:.2%} must be)"
        )
        if too_few(labels.untuned_reference):
            text += f"; {_NOT_BY_TUNING}"
        return text
    return ""


def _program_is_worth_it(evidence: Evidence, limits: Thresholds, reasons: list[str]) -> bool:
    if not evidence.program_survives:
        why = evidence.why_program_fails or "not every program came from it"
        reasons.append(f"the compiled program does not survive a fresh process: {why}")
        return False
    startup = evidence.startup
    worth = startup.median <= 1.0 - limits.min_startup_gain
    # With a single pair there is no interval to hold against the threshold.
    if startup.pairs > 1:
        worth = worth and startup.high <= 1.0 - limits.min_startup_gain
    word = "shortens" if worth else "does not shorten"
    reasons.append(
        f"the compiled program {word} the time to the first result by "
        f"{limits.min_startup_gain:.0%} or more (warm/cold {_interval(startup)}); a fresh process "
        f"took {evidence.programs_from_cache} programs from it and built "
        f"{evidence.programs_from_source}"
    )
    return worth


def _parameters_are_worth_it(evidence: Evidence, limits: Thresholds, reasons: list[str]) -> bool:
    found = finding(evidence.latency, limits.min_latency_gain)
    worth = found is Finding.GAIN
    word = {Finding.GAIN: "bring", Finding.NO_GAIN: "bring no", Finding.OPEN: "bring no proven"}
    reasons.append(
        f"the tuned parameters {word[found]} gain of {limits.min_latency_gain:.0%} or more "
        f"(tuned/untuned {_interval(evidence.latency)})"
    )
    return worth


def _interval(ratio: PairedRatio) -> str:
    if math.isinf(ratio.high):
        return f"{ratio.median:.3f}, too few samples for an interval: {ratio.pairs}"
    return (
        f"{ratio.median:.3f}, {ratio.confidence:.0%} interval {ratio.low:.3f} to {ratio.high:.3f}"
    )
