"""The proof of a tuned model: a fresh load, start-up, latency and answers, and what they weigh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from droidmace.config import GateConfig, ModelConfig
from droidmace.devices.base import Device
from droidmace.devices.cooldown import CoolDownStep, cool_down
from droidmace.devices.monitor import Monitor
from droidmace.results import RunTimes
from droidmace.tuning.latency import BlockRules, Conditions, LatencyEvidence, compare_latency
from droidmace.tuning.statistics import PairedRatio, paired_ratio
from droidmace.tuning.verdict import Evidence, Judgement, Labels, Thresholds, judge
from droidmace.wording import counted
from droidmace.workflows.answers import Answers, compare_answers
from droidmace.workflows.artefacts import Artefacts
from droidmace.workflows.measure import Layout, Load, Measurer, programs_text
from droidmace.workflows.phase import Phase
from droidmace.workflows.samples import Samples


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be proved, and where: it lies on the phone already."""

    device: Device
    layout: Layout
    model: ModelConfig
    samples: Samples
    artefacts: Artefacts
    parameters: Mapping[str, tuple[int, ...]]
    """By the keys that a log shows."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the fresh processes showed."""

    evidence: Evidence
    judgement: Judgement
    cold: tuple[RunTimes, ...]
    warm: tuple[RunTimes, ...]
    latency: LatencyEvidence
    answers: Answers
    kernels_proved: int


def prove(
    subject: Subject,
    measurer: Measurer,
    monitor: Monitor,
    gate: GateConfig,
    begin: Callable[[str], Phase],
) -> Proof:
    """Prove it in phases, each of which ``begin`` opens. Raises ``MaceRunError`` s and more."""
    device, layout, artefacts = subject.device, subject.layout, subject.artefacts
    with begin("proof") as phase:
        artefacts.put_back(device, layout)
        load = measurer.load_fresh()
        measurer.program_usable = load.survives
        proved = measurer.prove_parameters(load, subject.parameters)
        programs = load.why_not or programs_text(load.result)
        phase.summary = f"{programs}, {counted(proved, 'kernel')} tuned"
    with begin("startup") as phase:
        cold, warm = measurer.startup_pairs(phase.progress)
        startup = paired_ratio(
            [run.first_result_ms for run in cold], [run.first_result_ms for run in warm]
        )
        phase.summary = f"warm/cold x {startup.median:.3f}"
    with begin("latency") as phase:
        latency = compare_latency(
            measurer.latency_ms,
            BlockRules(
                min_gain=gate.min_latency_gain,
                max_blocks=measurer.settings.blocks,
                max_drift=gate.max_drift,
                max_slowdown=gate.max_slowdown,
            ),
            cool_down=lambda: _cool_down(device, gate, phase),
            conditions=lambda: _conditions(monitor),
            progress=phase.progress,
        )
        phase.summary = (
            f"tuned/untuned x {latency.ratio.median:.3f} in {counted(latency.ratio.pairs, 'block')}"
        )
    with begin("accuracy") as phase:
        answers = compare_answers(
            device, measurer, layout, subject.model, subject.samples, phase.progress
        )
        phase.summary = answers.summary
        if measurer.program_usable:
            artefacts.check_unchanged(device, layout)
    evidence = _evidence(load, startup, latency, answers)
    return Proof(
        evidence,
        judge(evidence, _thresholds(gate)),
        tuple(cold),
        tuple(warm),
        latency,
        answers,
        proved,
    )


def _evidence(
    load: Load, startup: PairedRatio, latency: LatencyEvidence, answers: Answers
) -> Evidence:
    accuracy, sources = answers.accuracy, load.result.programs if load.result else None
    labels = None
    if accuracy.unchanged is not None:
        labels = Labels(
            samples=accuracy.samples,
            unchanged=accuracy.unchanged,
            tuned_reference=accuracy.agreement,
            untuned_reference=accuracy.untuned_agreement,
        )
    return Evidence(
        program_survives=load.survives,
        startup=startup,
        latency=latency.ratio,
        labels=labels,
        finite=answers.finite,
        untuned_finite=answers.untuned_finite,
        similarity=answers.similarity,
        why_program_fails=load.why_not,
        programs_from_cache=len(sources.cache) if sources else 0,
        programs_from_source=len(sources.source) if sources else 0,
    )


def _conditions(monitor: Monitor) -> Conditions:
    samples = monitor.samples
    return (samples[-1].hottest_c, samples[-1].gpu_mhz) if samples else (None, None)


def _cool_down(device: Device, gate: GateConfig, phase: Phase) -> bool:
    """Let the phone cool; whether it shows by its temperature that it did."""

    def tell(step: CoolDownStep) -> None:
        text = f"cooling: {step.hottest_c:.0f} °C, {step.waited_s:.0f} s"
        phase.progress(text, int(step.waited_s), int(gate.cool_down_s))

    return cool_down(device, gate.cool_to_c, gate.cool_down_s, tell).end in ("cool", "settled")


def _thresholds(gate: GateConfig) -> Thresholds:
    return Thresholds(
        min_startup_gain=gate.min_startup_gain,
        min_latency_gain=gate.min_latency_gain,
        min_agreement=gate.min_agreement,
        min_similarity=gate.min_similarity,
    )
