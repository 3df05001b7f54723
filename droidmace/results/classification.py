"""What the answers of a classifier are worth, counted.

Shares are of 1. ``None`` stands for what was not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NO_CLASS = -1
"""The class of an answer with NaN or infinity in it."""


def finite_or_none(value: float | None) -> float | None:
    """A figure for JSON, which has neither NaN nor infinity: those are null."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``of``, with the ends of its Wilson interval."""

    count: int
    of: int
    low: float
    high: float
    confidence: float

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.count / self.of if self.of else math.nan

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "share": finite_or_none(self.value),
            "count": self.count,
            "of": self.of,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class TopScores:
    """How often one run was right. ``top5`` is None with five classes or fewer.

    ``not_finite`` answers hold NaN or infinity; they count as wrong.
    """

    top1: Share
    top5: Share | None
    not_finite: int

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "top1": self.top1.as_document(),
            "top5": self.top5.as_document() if self.top5 else None,
            "not_finite": self.not_finite,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Phone's Top-1 less the reference's, on the same labelled samples.

    ``low`` and ``high`` are its interval; ``p_value`` is McNemar's exact test, two-sided: how
    likely a split as uneven as ``only_phone`` to ``only_reference`` is if both are equally good.
    """

    both_right: int
    only_phone: int
    only_reference: int
    both_wrong: int
    low: float
    high: float
    confidence: float
    p_value: float

    @property
    def value(self) -> float:
        """The difference, in shares of 1; NaN of nothing."""
        total = self.both_right + self.only_phone + self.only_reference + self.both_wrong
        return (self.only_phone - self.only_reference) / total if total else math.nan

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "difference": finite_or_none(self.value),
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "mcnemar_p": self.p_value,
            "both_right": self.both_right,
            "only_phone_right": self.only_phone,
            "only_reference_right": self.only_reference,
            "both_wrong": self.both_wrong,
        }


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of the labels: how many samples, how many of them right.

    ``reference_right`` and ``agreeing`` are None without a reference. ``predicted`` counts how
    often the phone gave this class, rightly or not.
    """

    label: int
    name: str
    samples: int
    right: int
    predicted: int
    reference_right: int | None = None
    agreeing: int | None = None

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "label": self.label,
            "name": self.name,
            "samples": self.samples,
            "right": self.right,
            "predicted": self.predicted,
            "reference_right": self.reference_right,
            "agreeing": self.agreeing,
        }


@dataclass(frozen=True, slots=True)
class Confusion:
    """Samples of class ``label`` that the phone took for ``predicted`` (:data:`NO_CLASS`: none).

    ``reference_count`` says how often the reference did; None without one.
    """

    label: int
    predicted: int
    label_name: str
    predicted_name: str
    count: int
    reference_count: int | None = None

    def as_document(self) -> dict[str, object]:
        """For JSON; a ``predicted`` of null is an answer that is not finite."""
        return {
            "label": self.label,
            "predicted": None if self.predicted == NO_CLASS else self.predicted,
            "label_name": self.label_name,
            "predicted_name": self.predicted_name,
            "count": self.count,
            "reference_count": self.reference_count,
        }


@dataclass(frozen=True, slots=True)
class Classification:
    """What the answers of a classifier are worth.

    ``samples`` took part, ``labelled`` of them have a label: Top-1, Top-5 and the classes are about
    those, ``agreement`` is about all. ``confusions`` come most frequent first.
    """

    samples: int
    labelled: int
    phone: TopScores | None
    reference: TopScores | None
    agreement: Share | None
    difference: Difference | None
    classes: tuple[ClassRow, ...] = ()
    confusions: tuple[Confusion, ...] = ()

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "samples": self.samples,
            "labelled": self.labelled,
            "phone": self.phone.as_document() if self.phone else None,
            "reference": self.reference.as_document() if self.reference else None,
            "agreement": self.agreement.as_document() if self.agreement else None,
            "difference": self.difference.as_document() if self.difference else None,
            "classes": [row.as_document() for row in self.classes],
            "confusions": [pair.as_document() for pair in self.confusions],
        }
