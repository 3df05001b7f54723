"""Counting a classifier's answers: right, in agreement, per class, confused.

Answers come piece by piece, and only counts are kept: memory depends on the number of classes and
of different mistakes, not on that of the samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import InputError
from droidmace.results.classification import (
    Classification,
    ClassRow,
    Confusion,
    Difference,
    Share,
    TopScores,
)
from droidmace.validation.accuracy import NO_LABEL, top1_labels
from droidmace.validation.intervals import CONFIDENCE, mcnemar, paired_difference, wilson

TOP = 5
MAX_CONFUSIONS = 100
"""Pairs of classes that a result names at most, the most frequent ones."""


def in_top(outputs: NDArray[Any], labels: NDArray[np.int64], top: int) -> NDArray[np.bool_]:
    """Whether each row's label is among the ``top`` largest of ``outputs`` (n, classes).

    Of equal values the first ranks higher, so that the first of the ranking is what
    :func:`~droidmace.validation.accuracy.top1_labels` gives. A row that is not finite is never
    right, nor is one without a label.
    """
    known = labels >= 0
    at = np.where(known, labels, 0)
    own = np.take_along_axis(outputs, at[:, np.newaxis], axis=1)
    earlier = np.arange(outputs.shape[1]) < at[:, np.newaxis]
    above = (outputs > own).sum(axis=1) + ((outputs == own) & earlier).sum(axis=1)
    finite = np.isfinite(outputs).all(axis=1)
    right: NDArray[np.bool_] = known & finite & (above < top)
    return right


class ClassTally:
    """Counts of a classifier's outputs, next to labels and, if there are any, a reference's.

    ``classes``: how many there are, or their names in the order of labels; None takes the width of
    the first outputs.
    """

    def __init__(
        self, classes: int | Sequence[str] | None = None, *, confidence: float = CONFIDENCE
    ) -> None:
        self._names = () if classes is None or isinstance(classes, int) else tuple(classes)
        self._confidence = confidence
        self._asked_classes = classes if isinstance(classes, int) else len(self._names) or None
        self._counts: _Counts | None = None
        self._samples = 0

    def add(
        self,
        labels: Sequence[int] | NDArray[np.int64] | None,
        outputs: NDArray[Any],
        reference: NDArray[Any] | None = None,
    ) -> None:
        """Count the next samples: ``outputs`` and ``reference`` are (n, classes).

        ``labels`` (n,) count from 0; -1, or None for all, means that there is no label. Raises
        ``InputError`` for a label or a width that does not fit, ``ValueError`` if the reference has
        another shape, or is missing for some samples only.
        """
        if outputs.ndim != 2 or outputs.shape[1] == 0:
            raise ValueError(f"outputs are (n, classes), not {outputs.shape}")
        if reference is not None and reference.shape != outputs.shape:
            raise ValueError(f"a reference of {reference.shape} for outputs of {outputs.shape}")
        count, classes = outputs.shape
        if self._asked_classes not in {None, classes}:
            raise InputError(
                f"the model gives {classes} values per sample, but the data set has "
                f"{self._asked_classes} classes",
                hint="check the data set's classes and which output of the model holds them",
            )
        self._asked_classes = classes
        truth = self._labels(labels, count, classes)
        if self._counts is None:
            self._counts = _Counts(classes, reference is not None)
        self._counts.add(truth, outputs, reference)
        self._samples += count

    def _labels(
        self, labels: Sequence[int] | NDArray[np.int64] | None, count: int, classes: int
    ) -> NDArray[np.int64]:
        if labels is None:
            return np.full(count, NO_LABEL, dtype=np.int64)
        truth: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)
        if truth.shape != (count,):
            raise ValueError(f"labels of {truth.shape} for {count} samples")
        wrong = np.flatnonzero((truth < NO_LABEL) | (truth >= classes))
        if wrong.size:
            raise InputError(
                f"sample {self._samples + int(wrong[0])} has label {truth[wrong[0]]}, but the "
                f"model knows the classes 0 to {classes - 1}",
                hint="check that the labels belong to this model and count from 0",
            )
        return truth

    def result(self) -> Classification:
        """What was counted so far."""
        counts = self._counts
        if counts is None:
            return Classification(0, 0, None, None, None, None)
        phone, reference = counts.phone, counts.reference
        labelled = int(counts.samples.sum())
        difference = None
        if reference is not None and labelled:
            only_phone, only_reference = counts.only_phone, counts.only_reference
            right = int(phone.right.sum())
            low, high = paired_difference(only_phone, only_reference, labelled, self._confidence)
            difference = Difference(
                both_right=right - only_phone,
                only_phone=only_phone,
                only_reference=only_reference,
                both_wrong=labelled - right - only_reference,
                low=low,
                high=high,
                confidence=self._confidence,
                p_value=mcnemar(only_phone, only_reference),
            )
        return Classification(
            samples=self._samples,
            labelled=labelled,
            phone=self._scores(phone, labelled),
            reference=None if reference is None else self._scores(reference, labelled),
            agreement=(
                None if reference is None else self._share(counts.agreeing_total, self._samples)
            ),
            difference=difference,
            classes=self._rows(counts) if labelled else (),
            confusions=self._confusions(counts),
        )

    def _scores(self, run: _Run, labelled: int) -> TopScores | None:
        if not labelled:
            return None
        return TopScores(
            top1=self._share(int(run.right.sum()), labelled),
            top5=self._share(run.in_top, labelled) if len(run.right) > TOP else None,
            not_finite=run.not_finite,
        )

    def _share(self, count: int, of: int) -> Share:
        low, high = wilson(count, of, self._confidence)
        return Share(count, of, low, high, self._confidence)

    def _rows(self, counts: _Counts) -> tuple[ClassRow, ...]:
        reference = counts.reference
        return tuple(
            ClassRow(
                label=label,
                name=self._name(label),
                samples=int(counts.samples[label]),
                right=int(counts.phone.right[label]),
                predicted=int(counts.phone.predicted[label]),
                reference_right=None if reference is None else int(reference.right[label]),
                agreeing=None if reference is None else int(counts.agreeing[label]),
            )
            for label in np.flatnonzero(counts.samples + counts.phone.predicted).tolist()
        )

    def _confusions(self, counts: _Counts) -> tuple[Confusion, ...]:
        mistakes = counts.phone.mistakes
        # Most frequent first; of equals, the order of labels.
        ordered = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
        return tuple(
            Confusion(
                label=label,
                predicted=predicted,
                label_name=self._name(label),
                predicted_name="not finite" if predicted == NO_LABEL else self._name(predicted),
                count=count,
                reference_count=(
                    None
                    if counts.reference is None
                    else counts.reference.mistakes[label, predicted]
                ),
            )
            for (label, predicted), count in ordered[:MAX_CONFUSIONS]
        )

    def _name(self, label: int) -> str:
        return self._names[label] if self._names else str(label)


class _Run:
    """Counts of one run: the phone's or the reference's."""

    def __init__(self, classes: int) -> None:
        self.right = np.zeros(classes, dtype=np.int64)
        self.predicted = np.zeros(classes, dtype=np.int64)
        self.in_top = 0
        self.not_finite = 0
        self.mistakes: Counter[tuple[int, int]] = Counter()

    def add(self, truth: NDArray[np.int64], outputs: NDArray[Any]) -> NDArray[np.int64]:
        """Count the rows; gives their predictions."""
        classes = outputs.shape[1]
        predicted = top1_labels(outputs)
        labelled = truth != NO_LABEL
        right = labelled & (predicted == truth)
        self.right += np.bincount(truth[right], minlength=classes)
        answered = labelled & (predicted != NO_LABEL)
        self.predicted += np.bincount(predicted[answered], minlength=classes)
        self.not_finite += int((predicted == NO_LABEL).sum())
        if classes > TOP:
            self.in_top += int(in_top(outputs, truth, TOP).sum())
        wrong = labelled & ~right
        self.mistakes.update(zip(truth[wrong].tolist(), predicted[wrong].tolist(), strict=True))
        return predicted


class _Counts:
    """What all samples so far add up to."""

    def __init__(self, classes: int, with_reference: bool) -> None:
        self.samples = np.zeros(classes, dtype=np.int64)
        self.phone = _Run(classes)
        self.reference = _Run(classes) if with_reference else None
        self.agreeing = np.zeros(classes, dtype=np.int64)
        """Per class of the label."""
        self.agreeing_total = 0
        """Of all samples, labelled or not."""
        self.only_phone = 0
        self.only_reference = 0

    def add(
        self, truth: NDArray[np.int64], outputs: NDArray[Any], reference: NDArray[Any] | None
    ) -> None:
        if (reference is None) != (self.reference is None):
            raise ValueError("there is a reference for some samples only")
        classes = outputs.shape[1]
        labelled = truth != NO_LABEL
        self.samples += np.bincount(truth[labelled], minlength=classes)
        phone_says = self.phone.add(truth, outputs)
        if reference is None or self.reference is None:
            return
        reference_says = self.reference.add(truth, reference)
        same = (phone_says == reference_says) & (phone_says != NO_LABEL)
        self.agreeing_total += int(same.sum())
        self.agreeing += np.bincount(truth[same & labelled], minlength=classes)
        phone_right, reference_right = phone_says == truth, reference_says == truth
        self.only_phone += int((labelled & phone_right & ~reference_right).sum())
        self.only_reference += int((labelled & ~phone_right & reference_right).sum())
