"""Top-1, agreement and the reference run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from droidmace.results import Accuracy
from droidmace.validation.accuracy import (
    NO_LABEL,
    agreement,
    compare,
    top1_labels,
)

SAMPLES = Path(__file__).parent.parent / "samples"
LABELS = np.array([0, 1, 2, 2])
RIGHT = np.eye(3, dtype=np.float32)[LABELS]


def test_compare_all_three() -> None:
    one_wrong = RIGHT.copy()
    one_wrong[0] = [0, 0, 5]
    assert compare(LABELS, reference=RIGHT, untuned=RIGHT, tuned=one_wrong) == Accuracy(
        samples=4, reference=1.0, untuned=1.0, tuned=0.75, agreement=0.75
    )


def test_compare_what_there_is() -> None:
    assert compare(LABELS, tuned=RIGHT) == Accuracy(4, None, None, 1.0, None)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_wrong_and_never_agree(poison: float) -> None:
    bad = RIGHT.copy()
    bad[3, 0] = poison
    assert top1_labels(bad).tolist() == [0, 1, 2, NO_LABEL]
    found = compare(LABELS, reference=bad, tuned=bad)
    assert (found.reference, found.tuned, found.agreement) == (0.75, 0.75, 0.75)


def test_first_of_equals_wins() -> None:
    assert top1_labels(np.zeros((1, 4))).tolist() == [0]


def test_runs_over_other_samples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not two runs"):
        agreement(LABELS, LABELS[:3])
    with pytest.raises(ValueError, match="classes"):
        top1_labels(np.zeros(4))
