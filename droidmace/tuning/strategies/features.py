"""What a cost model sees of a choice: numbers that mean the same for every kernel and device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from droidmace.tuning.search import KeySpace, Params

Floats = npt.NDArray[np.floating[Any]]
AXES = 3
_PRODUCT_KNOTS = (1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0)
_GROUPS_KNOTS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
_AXIS_KNOTS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
_GROWN = 2.0 ** np.arange(3, 7)  # vectors and waves that devices run at once


def places(space: KeySpace, values: Sequence[Params]) -> Floats:
    """Where the choices lie: log2 of the local size along first, middle and last axis.

    (choices, 3); 2-D kernels have a middle axis of one.
    """
    return np.log2(_sizes([value[:-1] for value in values]))


def features(space: KeySpace, values: Sequence[Params]) -> Floats:
    """Features of the choices ``values`` of one key: (choices, features), about -2 to 2 each."""
    lws = _sizes([value[:-1] for value in values])
    axes = len(values[0]) - 1 if values else AXES
    gws = _sizes([space.gws])[0] if space.gws else np.full(AXES, 2.0**6)
    if axes == 2 and not space.gws:
        gws[1] = 1.0
    logs = np.log2(lws)
    product = logs.sum(axis=1)
    counts = np.ceil(gws / lws)
    waste = np.log2(counts * lws / gws)
    groups = np.log2(counts).sum(axis=1)
    share = np.minimum(logs - np.log2(gws), 0.0)
    items = lws.prod(axis=1)
    columns = [
        *(_hinges(product, _PRODUCT_KNOTS)),
        *(_hinges(groups, _GROUPS_KNOTS)),
        *(column for axis in range(AXES) for column in _hinges(logs[:, axis], _AXIS_KNOTS)),
        *(waste[:, axis] for axis in range(AXES)),
        waste.sum(axis=1),
        *(np.maximum(share[:, axis], -6.0) / 3.0 for axis in range(AXES)),
        *((lws[:, axis] >= gws[axis]).astype(float) for axis in range(AXES)),
        *((gws[axis] % lws[:, axis] == 0).astype(float) for axis in range(AXES)),
        *((np.ceil(items / width) * width / items - 1.0) for width in _GROWN),
        *((items % width == 0).astype(float) for width in _GROWN),
        logs[:, 0] * logs[:, 1] / 16.0,
        logs[:, 0] * logs[:, 2] / 16.0,
        logs[:, 1] * logs[:, 2] / 16.0,
        (logs.max(axis=1) - logs.min(axis=1)) / 4.0,
    ]
    return np.stack(columns, axis=1)


def _hinges(values: Floats, knots: Sequence[float]) -> list[Floats]:
    """A line that may bend at each knot."""
    scale = 4.0
    return [values / scale, *(np.maximum(values - knot, 0.0) / scale for knot in knots)]


def _sizes(rows: Sequence[Sequence[int]]) -> Floats:
    """(rows, 3) sizes; a middle axis of one for those with two."""
    full = [row if len(row) == AXES else (row[0], 1, row[1]) for row in rows]
    return np.asarray(full, dtype=float).reshape(len(full), AXES)


FEATURES = features(KeySpace("", "", (4, 4, 4), ()), [(1, 1, 1, 0)]).shape[1]
assert math.isfinite(FEATURES)
