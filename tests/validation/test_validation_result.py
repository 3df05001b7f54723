"""The result of a validation: every sample accounted for, gates judged, a document for JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from droidmace.results import DeviceInfo
from droidmace.results.validation import (
    GATES,
    ValidationResult,
    ValidationTimings,
    judge_gates,
)
from droidmace.validation.classification import ClassTally
from droidmace.validation.similarity import SimilarityTally

BARE = ValidationResult(
    device=DeviceInfo("emulator-1", "device", model="Pixel", abi="arm64-v8a"),
    model="net",
    runtime="gpu",
    dataset="t10k",
    asked=10,
    took_part=10,
    timings=ValidationTimings(wall_s=4.0, run_s=3.0, chunks=2, samples=10, resumed=2),
)


@pytest.fixture
def full() -> ValidationResult:
    """Ten samples, eight classes: phone 7 right, reference 9, eight labels alike."""
    truth = np.arange(10) % 8
    reference = np.eye(8)[truth]
    reference[9] = np.eye(8)[0]
    outputs = reference * 0.5
    outputs[:2] = np.eye(8)[[6, 7]]
    classes, similarity = ClassTally(8), SimilarityTally("y", tolerance=(0.6, 0.0))
    classes.add(truth, outputs, reference)
    similarity.add(outputs, reference)
    return replace(
        BARE,
        against="onnxruntime",
        classification=classes.result(),
        outputs=(similarity.result(),),
        identity={"model": "abc"},
    )


# gate -> what the fixture has
FOUND = {
    "top1": 0.7,
    "top5": 1.0,
    "agreement": 0.8,
    "cosine": 0.0,
    "sqnr_db": 10 * math.log10(10 / 6),
    "top1_loss": 0.2,
    "max_abs_error": 1.0,
    "max_rel_error": 1.0,
    "non_finite": 0.0,
}


def test_every_gate_is_tried() -> None:
    assert set(FOUND) == set(GATES)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_stands_where_its_figure_is(full: ValidationResult, name: str) -> None:
    (outcome,) = judge_gates(full, {name: 0.0})
    assert outcome.found is not None
    assert outcome.found == pytest.approx(FOUND[name], abs=1e-3)
    step = 1e-6 if outcome.comparison == "<=" else -1e-6
    assert judge_gates(full, {name: outcome.found})[0].passed
    assert judge_gates(full, {name: outcome.found + step})[0].passed
    assert not judge_gates(full, {name: outcome.found - step})[0].passed


@pytest.mark.parametrize("name", GATES)
def test_what_was_not_measured_does_not_pass(name: str) -> None:
    (outcome,) = judge_gates(BARE, {name: -1e9 if name in {"sqnr_db", "cosine"} else 0.0})
    assert (outcome.found, outcome.passed) == (None, False)


def test_no_loss_is_not_below_zero() -> None:
    classes, answers = ClassTally(3), np.eye(3)
    classes.add([0, 1, 2], answers, answers)
    (outcome,) = judge_gates(replace(BARE, classification=classes.result()), {"top1_loss": 0.0})
    assert str(outcome.found) == "0.0"


def test_nan_does_not_pass(full: ValidationResult) -> None:
    output = replace(full.outputs[0], max_abs_error=math.nan)
    (outcome,) = judge_gates(replace(full, outputs=(output,)), {"max_abs_error": 1e9})
    assert not outcome.passed


@pytest.mark.parametrize("name", ["sqnr_db", "max_abs_error", "max_rel_error"])
def test_figures_that_leave_out_what_is_not_finite_do_not_pass(
    full: ValidationResult, name: str
) -> None:
    wanted = -100.0 if name == "sqnr_db" else 1e9
    assert judge_gates(full, {name: wanted})[0].passed
    output = replace(full.outputs[0], not_finite_samples=1)
    (outcome,) = judge_gates(replace(full, outputs=(output,)), {name: wanted})
    assert not outcome.passed


def test_a_gate_that_is_none() -> None:
    with pytest.raises(ValueError, match="'top2' is none of the gates top1,"):
        judge_gates(BARE, {"top2": 0.5})


def test_threshold_is_maces_above_and_of_every_sample(full: ValidationResult) -> None:
    assert full.judged({}, -0.5).passed
    # The smallest cosine is 0: "not below" is not enough.
    equal = full.judged({}, 0.0)
    assert equal.threshold is not None
    assert (equal.threshold.found, equal.threshold.comparison, equal.passed) == (0.0, ">", False)
    assert not BARE.judged({}, 0.9).passed


def test_one_failed_gate_fails_all(full: ValidationResult) -> None:
    assert full.passed is None
    assert full.judged({"top1": 0.6, "agreement": 0.7}).passed
    assert not full.judged({"top1": 0.6, "agreement": 0.9}).passed
    assert not full.judged({"top1": 0.6}, 0.99).passed


def test_no_sample_is_dropped_silently() -> None:
    with pytest.raises(ValueError, match="10 samples were asked for, 9 took part"):
        replace(BARE, took_part=9)


def test_the_document_is_plain_json(full: ValidationResult) -> None:
    exact = SimilarityTally("same")
    exact.add(np.ones((1, 2)), np.ones((1, 2)))
    complete = replace(full, outputs=(*full.outputs, exact.result())).judged(
        {"top1": 0.6, "sqnr_db": 3}, 0.5
    )
    document = json.loads(json.dumps(complete.as_document(), allow_nan=False))
    assert document["schema"] == 1
    assert (document["asked"], document["took_part"]) == (10, 10)
    assert document["passed"] is False
    assert document["threshold"] == {
        "name": "validation_threshold",
        "wanted": 0.5,
        "comparison": ">",
        "found": 0.0,
        "passed": False,
    }
    top1 = document["classification"]["phone"]["top1"]
    assert (top1["count"], top1["of"], top1["share"]) == (7, 10, 0.7)
    assert document["classification"]["difference"]["only_reference_right"] == 2
    assert len(document["classification"]["classes"]) == 8
    assert document["outputs"][1]["sqnr_db_overall"] is None
    assert document["timings"]["images_per_s"] == 2.0
    assert document["device"]["model"] == "Pixel"
    bare = json.loads(json.dumps(BARE.as_document(), allow_nan=False))
    assert bare["classification"] is bare["threshold"] is bare["against"] is None


def test_all_resumed_has_no_rate() -> None:
    assert replace(BARE.timings, resumed=10).images_per_s is None
