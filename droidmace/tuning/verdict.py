"""From evidence to one word: what of a tuning run is worth shipping."""

from __future__ import annotations

from dataclasses import dataclass

from droidmace.results import Verdict
from droidmace.tuning.statistics import PairedRatio


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Gains below these are not worth a file on a million phones.

    ``min_startup_gain``: a compiled program exists to shorten the first start, which it does by
    a factor; less than a tenth means that it was hardly used. ``min_latency_gain``: MACE documents
    1-10 % from tuning; a hundredth is the smallest gain that it speaks of. ``min_agreement``: share
    of samples that must keep their label; work-group sizes only reorder sums, so nearly all must.
    ``min_similarity``: cosine between tuned and untuned outputs, for the same reason.
    ``min_latency_pairs``: that all of n pairs show a gain where there is none happens by chance
    once in 2^n; 5 are the fewest that bring it below 5 %.
    """

    min_latency_pairs: int = 5
    min_startup_gain: float = 0.10
    min_latency_gain: float = 0.01
    min_agreement: float = 0.99
    min_similarity: float = 0.999


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about one tuned model on one phone.

    Ratios are tuned / untuned and warm / cold. ``program_survives``: a fresh process loaded the
    compiled program and took every OpenCL program from it. ``agreement``: share of samples with the
    same label as the reference (or as the untuned run, without one); None without labelled images.
    ``similarity``: the smallest cosine between a tuned and an untuned output.
    """

    program_survives: bool
    startup: PairedRatio
    latency: PairedRatio
    agreement: float | None
    finite: bool
    similarity: float = 1.0
    why_program_fails: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the sentences that explain it."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(evidence: Evidence, thresholds: Thresholds = Thresholds()) -> Judgement:
    """Decide. Wrong answers outweigh any speed; a gain counts only if its whole interval does."""
    if not evidence.finite:
        return Judgement(Verdict.REJECT, ("the tuned outputs hold NaN or infinite values",))
    if evidence.agreement is not None and evidence.agreement < thresholds.min_agreement:
        return Judgement(
            Verdict.REJECT,
            (
                f"only {evidence.agreement:.2%} of the samples keep their label "
                f"(at least {thresholds.min_agreement:.2%} must)",
            ),
        )
    if evidence.similarity < thresholds.min_similarity:
        return Judgement(
            Verdict.REJECT,
            (
                f"tuned outputs differ from untuned ones: cosine {evidence.similarity:.6f} "
                f"(at least {thresholds.min_similarity:g})",
            ),
        )
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
        f"{limits.min_startup_gain:.0%} or more (warm/cold {_interval(startup)})"
    )
    return worth


def _parameters_are_worth_it(evidence: Evidence, limits: Thresholds, reasons: list[str]) -> bool:
    latency = evidence.latency
    enough = latency.pairs >= limits.min_latency_pairs
    worth = enough and latency.high <= 1.0 - limits.min_latency_gain
    word = "bring" if worth else "bring no proven"
    reasons.append(
        f"the tuned parameters {word} gain of {limits.min_latency_gain:.0%} or more "
        f"(tuned/untuned {_interval(latency)}"
        + (")" if enough else f"; fewer than {limits.min_latency_pairs} pairs prove none)")
    )
    return worth


def _interval(ratio: PairedRatio) -> str:
    if ratio.pairs == 1:
        return f"{ratio.median:.3f}, one pair"
    return (
        f"{ratio.median:.3f}, {ratio.confidence:.0%} interval {ratio.low:.3f} to {ratio.high:.3f}"
    )
