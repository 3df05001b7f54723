"""The tally of a classifier's answers, against counting one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import InputError
from droidmace.validation.accuracy import NO_LABEL, top1_labels
from droidmace.validation.classification import MAX_CONFUSIONS, ClassTally, in_top
from droidmace.validation.intervals import mcnemar, wilson


def ranking(row: np.ndarray) -> list[int]:
    """Classes from the likeliest on; the first of equals before the others; none if not finite."""
    if not all(np.isfinite(value) for value in row):
        return []
    return sorted(range(len(row)), key=lambda index: (-row[index], index))


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (some missing), outputs and reference: small integers make ties, some poison."""
    count, classes = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    value = st.sampled_from([0.0, 0.0, 1.0, 1.0, 2.0, 3.0, -1.0, np.nan, np.inf, -np.inf])
    rows = st.lists(value, min_size=count * classes, max_size=count * classes)
    outputs, reference = (
        np.array(draw(rows), dtype=np.float32).reshape(count, classes) for _ in range(2)
    )
    # Mostly alike, as two runs of a model are.
    same = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    outputs[same] = reference[same]
    labels = draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count))
    return np.array(labels), outputs, reference


@settings(deadline=None)
@given(answers(), st.data())
def test_any_split_counts_what_counting_one_by_one_does(
    given_answers: tuple[np.ndarray, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    labels, outputs, reference = given_answers
    classes = outputs.shape[1]
    tally = ClassTally(classes)
    begin = 0
    while begin < len(labels):
        end = begin + data.draw(st.integers(1, len(labels)))
        tally.add(labels[begin:end], outputs[begin:end], reference[begin:end])
        begin = end
    found = tally.result()

    says = [(ranking(out), ranking(ref)) for out, ref in zip(outputs, reference, strict=True)]
    known = [(label, *both) for label, both in zip(labels, says, strict=True) if label >= 0]
    right = [(out[:1] == [label], ref[:1] == [label]) for label, out, ref in known]
    agree = sum(out[:1] == ref[:1] != [] for out, ref in says)
    assert (found.samples, found.labelled) == (len(labels), len(known))
    assert found.agreement is not None
    assert (found.agreement.count, found.agreement.of) == (agree, len(labels))
    if not known:
        assert found.phone is found.reference is found.difference is None
        assert found.classes == found.confusions == ()
        return
    assert found.phone is not None
    assert found.reference is not None
    assert found.difference is not None
    assert found.phone.top1.count == sum(phone for phone, _ in right)
    assert found.reference.top1.count == sum(ref for _, ref in right)
    assert found.phone.not_finite == sum(not out for out, _ in says)
    assert found.reference.not_finite == sum(not ref for _, ref in says)
    cells = Counter(right)
    assert found.difference.both_right == cells[True, True]
    assert found.difference.only_phone == cells[True, False]
    assert found.difference.only_reference == cells[False, True]
    assert found.difference.both_wrong == cells[False, False]
    assert found.difference.p_value == mcnemar(cells[True, False], cells[False, True])
    if classes > 5:
        assert found.phone.top5 is not None
        assert found.phone.top5.count == sum(label in out[:5] for label, out, _ in known)
    else:
        assert found.phone.top5 is None
    mistakes = Counter(
        (int(label), out[0] if out else NO_LABEL) for label, out, _ in known if out[:1] != [label]
    )
    assert {(pair.label, pair.predicted): pair.count for pair in found.confusions} == mistakes
    assert [pair.count for pair in found.confusions] == sorted(mistakes.values(), reverse=True)
    for row in found.classes:
        own = [(out, ref) for label, out, ref in known if label == row.label]
        assert row.samples == len(own)
        assert row.right == sum(out[:1] == [row.label] for out, _ in own)
        assert row.reference_right == sum(ref[:1] == [row.label] for _, ref in own)
        assert row.agreeing == sum(out[:1] == ref[:1] != [] for out, ref in own)
        assert row.predicted == sum(out[:1] == [row.label] for _, out, _ in known)
    assert sum(row.samples for row in found.classes) == len(known)


@settings(deadline=None)
@given(answers(), st.integers(1, 8))
def test_the_first_of_the_ranking_is_what_top1_says(
    given_answers: tuple[np.ndarray, np.ndarray, np.ndarray], top: int
) -> None:
    labels, outputs, _ = given_answers
    expected = [label in ranking(row)[:top] for label, row in zip(labels, outputs, strict=True)]
    assert in_top(outputs, labels, top).tolist() == expected
    first = (top1_labels(outputs) == labels) & (labels >= 0)
    assert in_top(outputs, labels, 1).tolist() == first.tolist()


def test_a_share_carries_its_interval() -> None:
    outputs = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    tally = ClassTally(("cat", "dog", "cow"), confidence=0.9)
    tally.add([0, 1, 2, 0], outputs)
    found = tally.result()
    assert found.phone is not None
    top1 = found.phone.top1
    assert (top1.count, top1.of, top1.value, top1.confidence) == (3, 4, 0.75, 0.9)
    assert (top1.low, top1.high) == wilson(3, 4, 0.9)
    assert found.reference is found.agreement is found.difference is None
    (pair,) = found.confusions
    assert (pair.label_name, pair.predicted_name, pair.reference_count) == ("cat", "cow", None)
    assert [row.name for row in found.classes] == ["cat", "dog", "cow"]


def test_an_answer_that_is_not_finite_is_named_so() -> None:
    tally = ClassTally()
    tally.add([0], np.array([[np.nan, 1.0]]), np.array([[2.0, 1.0]]))
    found = tally.result()
    assert found.phone is not None
    assert (found.phone.top1.count, found.phone.not_finite) == (0, 1)
    assert found.agreement is not None
    assert found.agreement.count == 0
    (pair,) = found.confusions
    assert (pair.predicted, pair.predicted_name, pair.reference_count) == (
        NO_LABEL,
        "not finite",
        0,
    )
    assert pair.as_document()["predicted"] is None


def test_one_class_and_one_sample() -> None:
    tally = ClassTally(1)
    tally.add([0], np.array([[0.3]]))
    found = tally.result()
    assert found.phone is not None
    assert (found.phone.top1.value, found.phone.top5) == (1.0, None)
    assert len(found.classes) == 1


def test_without_labels_there_is_agreement_only() -> None:
    outputs = np.eye(4, dtype=np.float32)
    tally = ClassTally(4)
    tally.add(None, outputs, outputs[[0, 1, 3, 2]])
    found = tally.result()
    assert (found.samples, found.labelled, found.phone) == (4, 0, None)
    assert found.agreement is not None
    assert found.agreement.value == 0.5


def test_nothing_yet() -> None:
    found = ClassTally(10).result()
    assert (found.samples, found.phone, found.classes) == (0, None, ())


def test_a_thousand_classes_confused_name_the_worst_only() -> None:
    tally = ClassTally(1000)
    labels = np.arange(1000)
    wrong = np.eye(1000, dtype=np.float32)[(labels + 1) % 1000]
    tally.add(labels, wrong)
    tally.add(labels[500:501], wrong[500:501])
    found = tally.result()
    assert len(found.confusions) == MAX_CONFUSIONS
    assert (found.confusions[0].label, found.confusions[0].count) == (500, 2)
    assert found.confusions[1].label == 0


@pytest.mark.parametrize(
    ("labels", "wrong"), [([0, 3], "sample 6 has label 3"), ([-2, 0], "sample 5 has label -2")]
)
def test_a_class_that_the_model_does_not_know(labels: list[int], wrong: str) -> None:
    tally = ClassTally()
    tally.add([0] * 5, np.zeros((5, 3)))
    with pytest.raises(InputError, match=rf"{wrong}.*classes 0 to 2"):
        tally.add(labels, np.zeros((2, 3)))


def test_outputs_that_are_not_of_these_classes() -> None:
    with pytest.raises(InputError, match="gives 3 values per sample.* 2 classes"):
        ClassTally(("a", "b")).add([0], np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], np.zeros(3)), "outputs are"),
        (([0, 1], np.zeros((1, 3))), "labels of"),
        (([0], np.zeros((1, 3)), np.zeros((1, 2))), "a reference of"),
        (([0], np.zeros((1, 3)), np.zeros((1, 3))), "some samples only"),
    ],
)
def test_our_own_mistakes(arguments: tuple[Any, ...], message: str) -> None:
    tally = ClassTally()
    tally.add([0], np.zeros((1, 3)))
    with pytest.raises(ValueError, match=message):
        tally.add(*arguments)
