"""Top-1 accuracy and agreement from a classifier's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.results import Accuracy

NO_LABEL = -1
"""The label of a row that holds NaN or infinity: never right, never in agreement."""


def top1_labels(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """The class of each row of ``outputs`` (n, classes); :data:`NO_LABEL` if it is not finite.

    Of equal values the first wins, for every source of outputs alike.
    """
    if outputs.ndim != 2 or outputs.shape[1] == 0:
        raise ValueError(f"outputs are (n, classes), not {outputs.shape}")
    labels: NDArray[np.int64] = outputs.argmax(axis=1).astype(np.int64)
    labels[~np.isfinite(outputs).all(axis=1)] = NO_LABEL
    return labels


def share_right(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of 1 of the rows whose prediction is the label."""
    return _share(predicted, labels)


def agreement(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Share of 1 of the rows that two runs give the same label, :data:`NO_LABEL` excepted."""
    return _share(one, other)


def compare(
    labels: NDArray[np.int64],
    *,
    reference: NDArray[Any] | None = None,
    untuned: NDArray[Any] | None = None,
    tuned: NDArray[Any] | None = None,
) -> Accuracy:
    """Top-1 of each run's outputs (n, classes), and how far tuned and reference agree."""
    predictions = [
        None if outputs is None else top1_labels(outputs) for outputs in (reference, untuned, tuned)
    ]
    shares = [None if one is None else share_right(one, labels) for one in predictions]
    of_reference, _, of_tuned = predictions
    return Accuracy(
        samples=len(labels),
        reference=shares[0],
        untuned=shares[1],
        tuned=shares[2],
        agreement=(
            None if of_reference is None or of_tuned is None else agreement(of_reference, of_tuned)
        ),
    )


def _share(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    if one.shape != other.shape or one.ndim != 1 or len(one) == 0:
        raise ValueError(f"{one.shape} and {other.shape} are not two runs over the same samples")
    return float(((one == other) & (one != NO_LABEL)).mean())
