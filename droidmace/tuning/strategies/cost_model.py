"""A cost model that all kernels of a search share, and what each kernel adds of its own.

The logarithm of a choice's time, relative to its kernel's default, is a linear function of its
features: one part for all kernels, one for each family of kernels, and an offset for each kernel
(Bayesian ridge regression: the parts of a kernel are drawn towards those of all). What that leaves
over is smooth in the local sizes: a Gaussian process for each kernel. So the first measurements of
one kernel tell where to look in all others, and later ones where a kernel is different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from droidmace.tuning.strategies.features import FEATURES, Floats

CLIP = 1.0
"""Beyond this (in logarithms) from the default times are drawn together: how much slower a very
slow choice is says little about the fast ones."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Deviations and lengths of the model, in units of log time and of log2 local size.

    Found by replaying recorded searches (three drivers, two nets). ``misfit``: what the linear
    part leaves over; the scales: how far its weights, its offsets and the local part may be from
    0; ``trust``: how much of the linear part's own doubt (its variance) is worth exploring: little,
    since every kernel explores it for all others.
    """

    misfit: float = 0.3
    shared_scale: float = 0.6
    family_scale: float = 0.3
    offset_scale: float = 0.5
    local_scale: float = 0.2
    local_length: float = 1.6
    trust: float = 0.1


@dataclass(frozen=True, slots=True)
class Prior:
    """What other searches taught: weights of the shared part, and how sure they are (variances)."""

    weights: Floats
    variances: Floats


def squash(log_ratio: float) -> float:
    """The target for a log time ratio: itself near 0, drawn together beyond :data:`CLIP`."""
    return float(CLIP * np.tanh(log_ratio / CLIP))


@dataclass(slots=True)
class SharedModel:
    """The linear part, over all slices (a slice: one key of a group, the other keys fixed)."""

    families: Sequence[str]
    slices: int
    settings: ModelSettings
    prior: Prior | None = None
    _precision: Floats = field(init=False)
    _moment: Floats = field(init=False)
    _mean: Floats | None = field(init=False, default=None)
    _covariance: Floats = field(init=False)
    _place: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._place = {name: index for index, name in enumerate(self.families)}
        size = FEATURES * (1 + len(self.families)) + self.slices
        diagonal = np.empty(size)
        start = np.zeros(size)
        diagonal[:FEATURES] = self.settings.shared_scale**-2
        if self.prior is not None:
            diagonal[:FEATURES] = 1.0 / self.prior.variances
            start[:FEATURES] = self.prior.weights
        diagonal[FEATURES : size - self.slices] = self.settings.family_scale**-2
        diagonal[size - self.slices :] = self.settings.offset_scale**-2
        self._precision = np.diag(diagonal)
        self._moment = diagonal * start

    def learn(self, family: str, index: int, rows: Floats, targets: Floats, noise: Floats) -> None:
        """Take measured choices of slice ``index``: (choices, features), and of each the target
        and its variance (choices,)."""
        weights = 1.0 / (self.settings.misfit**2 + noise)
        shared, own, offset = self._parts(family, index)
        heavy = rows * weights[:, None]
        gram, moment, sums = rows.T @ heavy, heavy.T @ targets, heavy.sum(0)
        for left in (shared, own):
            self._moment[left] += moment
            self._precision[left, offset] += sums
            self._precision[offset, left] += sums
            for right in (shared, own):
                self._precision[left, right] += gram
        self._precision[offset, offset] += weights.sum()
        self._moment[offset] += targets @ weights
        self._mean = None

    def predict(self, family: str, index: int, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the choices ``rows`` of slice ``index``: (choices,) each."""
        self._solve()
        assert self._mean is not None
        shared, own, offset = self._parts(family, index)
        both = self._covariance[shared, shared] + self._covariance[own, own]
        both = both + self._covariance[shared, own] + self._covariance[own, shared]
        across = self._covariance[shared, offset] + self._covariance[own, offset]
        mean = rows @ (self._mean[shared] + self._mean[own]) + self._mean[offset]
        variance = np.einsum("ij,ij->i", rows @ both, rows) + 2.0 * rows @ across
        return mean, np.maximum(variance + self._covariance[offset, offset], 0.0)

    @property
    def shared(self) -> Prior:
        """The shared part as it was learnt: a prior for the next search."""
        self._solve()
        assert self._mean is not None
        return Prior(self._mean[:FEATURES].copy(), np.diag(self._covariance)[:FEATURES].copy())

    def _solve(self) -> None:
        if self._mean is None:
            self._covariance = np.linalg.inv(self._precision)
            self._mean = self._covariance @ self._moment

    def _parts(self, family: str, index: int) -> tuple[slice, slice, int]:
        start = FEATURES * (1 + self._place[family])
        offset = FEATURES * (1 + len(self.families)) + index
        return slice(0, FEATURES), slice(start, start + FEATURES), offset


def local_fit(
    mean: Floats,
    variance: Floats,
    where: Floats,
    seen: Sequence[int],
    targets: Floats,
    noise: Floats,
    settings: ModelSettings,
) -> tuple[Floats, Floats]:
    """Correct the linear part by a slice's own samples: mean and variance of all its choices.

    ``where``: (choices, 3) places; ``seen``: which choices were measured; ``targets`` and
    ``noise`` (variances): theirs.
    """
    trusted = settings.trust * variance
    if not len(seen):
        return mean, trusted + settings.local_scale**2
    index = np.asarray(seen)
    scale = settings.local_scale
    spread = np.sqrt(trusted)
    between = where[:, None, :] - where[None, index, :]
    shape = np.exp(-0.5 * (between**2).sum(2) / settings.local_length**2)
    # the linear part's own error is smooth too, over longer distances
    wide = np.exp(-0.5 * (between**2).sum(2) / (3.0 * settings.local_length) ** 2)
    cross = scale**2 * shape + spread[:, None] * spread[None, index] * wide
    inner = cross[index] + np.diag(noise)
    solved = np.linalg.solve(inner, np.column_stack([targets - mean[index], cross.T]))
    corrected = mean + cross @ solved[:, 0]
    left = scale**2 + trusted - np.einsum("ij,ji->i", cross, solved[:, 1:])
    return corrected, np.maximum(left, 1e-9)
