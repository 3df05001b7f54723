"""What a validation found, as people read it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from droidmace.report.validate_view import SHOWN_CLASSES, validation_view
from droidmace.results import DeviceInfo
from droidmace.results.validation import (
    ValidationResult,
    ValidationTimings,
)
from droidmace.validation.classification import ClassTally
from droidmace.validation.similarity import SimilarityTally

NAMES = ("shirt", "boot", "[bold]bag", "coat\x1b[2J", "dress", "sandal")


def result(
    classes: tuple[str, ...] | int = NAMES, *, labels: bool = True, reference: bool = True
) -> ValidationResult:
    """Of 120 samples of which every tenth is taken for the next class, by the phone only."""
    count = classes if isinstance(classes, int) else len(classes)
    truth = np.arange(120) % count
    right = np.eye(count, dtype=np.float32)[truth]
    said = right.copy()
    said[::10] = np.eye(count, dtype=np.float32)[(truth[::10] + 1) % count] * 0.9
    tally, similarity = ClassTally(classes), SimilarityTally("probabilities", tolerance=(0.1, 0.1))
    tally.add(truth if labels else None, said, right if reference else None)
    similarity.add(said, right)
    return ValidationResult(
        device=DeviceInfo("emulator-1", "device", model="Pixel 4", gpu="Adreno (TM) 640"),
        model="net",
        runtime="gpu",
        dataset="t10k",
        asked=120,
        took_part=120,
        timings=ValidationTimings(wall_s=2.0, run_s=1.5, chunks=3, samples=120, resumed=20),
        against="onnxruntime 1.20.0 on net.onnx" if reference else "",
        classification=tally.result(),
        outputs=(similarity.result(),) if reference else (),
    )


def shown(of: ValidationResult, width: int = 120, **how: Any) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(validation_view(of, **how))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_whole_story() -> None:
    text = words(shown(result()))
    for said in (
        "net (gpu) on Pixel 4 (Adreno (TM) 640)",
        "120 of 120 samples of t10k",
        "2 s, 1.5 s of it mace_run; 50 images/s in 3 chunks; 20 samples from an earlier call",
        "against onnxruntime 1.20.0 on net.onnx",
        "90.00% 108 of 120",
        "83.33% to 94.19%",
        "100.00% 120 of 120",
        "label by label: 90.00% (108 of 120; 83.33% to 94.19%)",
        "phone less reference: \N{MINUS SIGN}10.00 points",
        "only the phone is right 0 times, only the reference 12 times; McNemar p = 0.000488: a "
        "difference is shown",
        "24 of 720 values, in 12 samples, are off by more than 0.1 · max(1, |reference|)",
        "SQNR of all 7.4 dB; largest error 1 (relative 1); worst: sample 0",
    ):
        assert said in text
    assert "gates" not in text


def test_classes_and_mistakes_by_name() -> None:
    text = shown(result())
    lines = [words(line.replace("│", " ")) for line in text.splitlines()]
    assert "0 shirt 20 80.0% 16 100.0% 80.0%" in lines
    assert "1 boot 20 100.0% 24 100.0% 100.0%" in lines
    assert any(line.startswith("shirt boot 4 0") for line in lines)
    # A name is neither markup nor a sequence that the terminal obeys.
    assert "[bold]bag" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [60, 80])
def test_narrow_terminals_lose_no_figure(width: int) -> None:
    text = words(shown(result(), width))
    for figure in ("90.00%", "0.000488", "80.0%", "boot"):
        assert figure in text


def test_of_many_classes_the_worst_are_shown_or_all() -> None:
    many = result(60)
    text = shown(many)
    assert "worst classes" in text
    assert f"{60 - SHOWN_CLASSES} classes that are better: in the JSON document" in text
    assert shown(many, every_class=True).count("100.0%") > text.count("100.0%")


def test_without_reference_and_without_labels() -> None:
    alone = words(shown(result(reference=False)))
    assert "Top-1" in alone
    for absent in ("reference", "McNemar", "cosine", "against"):
        assert absent not in alone
    unlabelled = words(shown(result(labels=False)))
    assert "120 samples have no label" in unlabelled
    assert "label by label: 90.00%" in unlabelled
    assert "Top-1" not in unlabelled


def test_gates_and_threshold() -> None:
    passed = result().judged({"top1": 0.9, "top1_loss": 0.1, "sqnr_db": 7}, -1)
    text = words(shown(passed))
    assert "top1: 0.9, wanted >= 0.9: passed" in text
    assert "validation_threshold: 0, wanted > -1: passed" in text
    assert text.endswith("validation: passed")
    failed = result(reference=False).judged({"top1": 0.9, "cosine": 0.5})
    text = words(shown(failed))
    assert "cosine: not measured, wanted >= 0.5: failed" in text
    assert text.endswith("validation: failed")


def test_nothing_judged_is_not_called_passed() -> None:
    text = words(shown(result(reference=False)))
    assert "nothing was judged" in text
    assert "passed" not in text


def test_one_chunk_is_counted_as_one() -> None:
    one = replace(result(), timings=ValidationTimings(1.0, 0.5, chunks=1, samples=120))
    assert "images/s in 1 chunk " in words(shown(one)) + " "


BISECT = "droidmace bisect -c net.yml"


def test_outputs_that_fail_lead_to_bisect_with_the_worst_sample() -> None:
    similarity = SimilarityTally("y")
    reference = np.eye(3, dtype=np.float32)
    similarity.add(reference[[0, 1, 0]], reference)
    failed = replace(result(), outputs=(similarity.result(),)).judged({}, 0.99)
    assert words(shown(failed, bisect=BISECT)).endswith(f"{BISECT} --sample 2")
    assert "name this data set in the deployment file" in words(shown(failed))
    assert "bisect" not in shown(replace(failed, runtime="cpu"), bisect=BISECT)


def test_wrong_answers_alone_do_not_lead_to_bisect() -> None:
    failed = result().judged({"top1": 0.999}, -1)
    assert failed.passed is False
    assert "bisect" not in shown(failed, bisect=BISECT)
    assert "bisect" not in shown(result().judged({"top1": 0.9}, -1), bisect=BISECT)


def test_what_is_not_finite_is_said_loudly() -> None:
    tally, similarity = ClassTally(), SimilarityTally("y")
    outputs, reference = np.ones((2, 3)), np.ones((2, 3))
    outputs[1, 2] = np.nan
    tally.add([0, 0], outputs, reference)
    similarity.add(outputs, reference)
    found = replace(
        result(), classification=tally.result(), outputs=(similarity.result(),), warnings=("hot",)
    )
    text = words(shown(found))
    assert "1 answers of the phone are not finite: counted as wrong" in text
    assert "y: NaN or infinity 1 times (reference: 0), in 1 samples" in text
    assert "\N{MINUS SIGN}∞" in text
    assert "warning: hot" in text
