"""How close a phone's outputs are to the reference's, for any net.

For a sample with reference ``x`` and output ``y``, in float64:

* cosine ``x·y / (‖x‖ ‖y‖)`` and signal-to-quantization-noise ratio ``‖x‖² / ‖x - y‖²``, as MACE's
  ``tools/python/validate.py`` (``calculate_similarity``, ``calculate_sqnr``) and its
  ``docs/development/how_to_debug.rst`` define them. MACE prints the SQNR as that ratio, with 1e-15
  added to the noise; here it is in decibels, ``10 log10`` of it, and infinite without noise.
* MACE gives NaN for the cosine of a row of zeros, which fails. Here two rows of zeros have 1, a
  row of zeros and another one 0.
* MACE looks at one sample; here every sample has its figures, and the smallest cosine is what a
  threshold is held against.
* A sample with NaN or infinity, in either, has a cosine of 0 and an SQNR of minus infinity. It
  has no part in the errors, which are ``max|x - y|`` (absolute) and ``max|x - y| / max|x|``
  (relative: to the sample's largest reference value, not value by value, where a reference near
  zero would make any error large).
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.results.validation import OutputSimilarity, Percentiles

_BLOCK_VALUES = 1 << 20
"""Values that are looked at together: bounds the float64 copies."""


class SimilarityTally:
    """One output's similarity over samples that come piece by piece.

    Three numbers per sample are kept (its cosine, signal and noise), so that percentiles are exact.
    ``tolerance`` (absolute, relative): a value that is off by more than
    ``max(absolute, relative · |reference|)`` counts as outside, as in ``math.isclose``.
    """

    def __init__(self, name: str, *, tolerance: tuple[float, float] | None = None) -> None:
        self._name = name
        self._tolerance = tolerance
        self._elements: int | None = None
        self._cosines, self._signals, self._noises = array("d"), array("d"), array("d")
        self._worst = (math.inf, 0)
        self._max_abs = self._max_rel = 0.0
        self._worst_error_sample = 0
        self._not_finite = self._reference_not_finite = self._not_finite_samples = 0
        self._outside = self._outside_samples = 0

    @property
    def samples(self) -> int:
        """How many were taken in."""
        return len(self._cosines)

    @property
    def worst_sample(self) -> int:
        """Which of them has the smallest cosine; the first of several."""
        return self._worst[1]

    def add(self, outputs: NDArray[Any], reference: NDArray[Any]) -> None:
        """Take in the next samples, both (n, elements). Raises ``ValueError`` for other shapes."""
        if outputs.ndim != 2 or outputs.shape != reference.shape or outputs.shape[1] == 0:
            raise ValueError(
                f"{self._name}: outputs of {outputs.shape} next to a reference of {reference.shape}"
            )
        if self._elements not in {None, outputs.shape[1]}:
            raise ValueError(f"{self._name}: {outputs.shape[1]} values, before {self._elements}")
        self._elements = outputs.shape[1]
        rows = max(1, _BLOCK_VALUES // self._elements)
        for begin in range(0, len(outputs), rows):
            self._add(
                outputs[begin : begin + rows].astype(np.float64),
                reference[begin : begin + rows].astype(np.float64),
            )

    def _add(self, found: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
        found_finite, wanted_finite = np.isfinite(found), np.isfinite(wanted)
        fine: NDArray[np.bool_] = np.asarray((found_finite & wanted_finite).all(axis=1))
        if not fine.all():
            self._not_finite += int((~found_finite).sum())
            self._reference_not_finite += int((~wanted_finite).sum())
            self._not_finite_samples += int((~fine).sum())
            # The row as a whole is out: it must not poison the sums.
            found = np.where(fine[:, np.newaxis], found, 0.0)
            wanted = np.where(fine[:, np.newaxis], wanted, 0.0)
        errors = np.abs(found - wanted)
        signal, power = (wanted * wanted).sum(axis=1), (found * found).sum(axis=1)
        noise = (errors * errors).sum(axis=1)
        # One root of the product: for equal rows it is the signal itself, and the cosine just 1.
        norms = np.sqrt(signal * power)
        dots = (found * wanted).sum(axis=1)
        cosine = np.where(norms > 0, dots / np.where(norms > 0, norms, 1.0), 0.0).clip(-1.0, 1.0)
        cosine[(signal == 0) & (power == 0)] = 1.0
        cosine[~fine] = 0.0
        noise[~fine] = math.inf
        self._note_errors(errors.max(axis=1), np.abs(wanted).max(axis=1))
        if self._tolerance is not None:
            absolute, relative = self._tolerance
            outside = errors > np.maximum(absolute, relative * np.abs(wanted))
            # A row that is not finite is outside with every value.
            outside[~fine] = True
            self._outside += int(outside.sum())
            self._outside_samples += int(outside.any(axis=1).sum())
        lowest = int(cosine.argmin())
        self._worst = min(self._worst, (float(cosine[lowest]), self.samples + lowest))
        self._cosines.extend(cosine.tolist())
        self._signals.extend(signal.tolist())
        self._noises.extend(noise.tolist())

    def _note_errors(self, errors: NDArray[np.float64], largest: NDArray[np.float64]) -> None:
        worst = int(errors.argmax())
        if errors[worst] > self._max_abs:
            self._max_abs = float(errors[worst])
            self._worst_error_sample = len(self._cosines) + worst
        relative = np.where(errors > 0, math.inf, 0.0)
        np.divide(errors, largest, out=relative, where=largest > 0)
        self._max_rel = max(self._max_rel, float(relative.max()))

    def result(self) -> OutputSimilarity:
        """What was seen so far; raises ``ValueError`` if that is nothing."""
        if self._elements is None or not self._cosines:
            raise ValueError(f"{self._name}: no sample has been compared")
        cosines, noises = np.array(self._cosines), np.array(self._noises)
        signals = np.array(self._signals)
        fine = np.isfinite(noises)
        tolerance = self._tolerance
        return OutputSimilarity(
            name=self._name,
            samples=len(cosines),
            elements=self._elements,
            cosine=_percentiles(cosines),
            sqnr_db=_percentiles(_decibels(signals, noises)),
            sqnr_db_overall=float(
                _decibels(
                    np.array([math.fsum(signals[fine])]), np.array([math.fsum(noises[fine])])
                )[0]
                if fine.any()
                else -math.inf
            ),
            max_abs_error=self._max_abs,
            max_rel_error=self._max_rel,
            not_finite=self._not_finite,
            reference_not_finite=self._reference_not_finite,
            not_finite_samples=self._not_finite_samples,
            worst_sample=self.worst_sample,
            worst_error_sample=self._worst_error_sample,
            tolerance=tolerance,
            outside=None if tolerance is None else self._outside,
            outside_samples=None if tolerance is None else self._outside_samples,
        )


def _decibels(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """``10 log10(signal / noise)``; infinite without noise, minus infinity without signal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10.0 * (np.log10(signal) - np.log10(noise))
    return np.where(noise == 0, math.inf, np.where(np.isinf(noise), -math.inf, ratio))


def _percentiles(values: NDArray[np.float64]) -> Percentiles:
    """Each percentile is one of the values: between an infinite one and another lies nothing."""
    ordered = np.sort(values)
    p1, median = np.percentile(ordered, [1, 50], method="lower")
    finite = np.isfinite(ordered).all()
    return Percentiles(
        minimum=float(ordered[0]),
        p1=float(p1),
        median=float(median),
        mean=math.fsum(values) / len(values) if finite else _mean_with_infinity(ordered),
        maximum=float(ordered[-1]),
    )


def _mean_with_infinity(ordered: NDArray[np.float64]) -> float:
    """A mean that an infinite value takes with it; the lower one wins, it is the bad one."""
    return -math.inf if ordered[0] == -math.inf else math.inf
