"""Products of matrices: FullyConnected and MatMul."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import nhwc
from droidmace.engine.cpu.activation import activate
from droidmace.engine.cpu.base import FLOAT, Array, CpuContext
from droidmace.formats.netdef import OperatorDef


def fully_connected(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """FullyConnected with OIHW weights: every output from all values of an image."""
    batch = nhwc(inputs[0].shape)[0]
    matrix = context.packed(op, inputs, 1, _as_matrix)
    y = (inputs[0].reshape(batch, -1) @ matrix).astype(FLOAT, copy=False)
    if len(inputs) > 2:
        y += inputs[2].reshape(-1)
    return [activate(op, y)[:, None, None, :]]


def _as_matrix(weights: Array) -> Array:
    """OIHW weights as [H * W * I, O], to go with an image flattened as NHWC."""
    order = weights.transpose(0, 2, 3, 1) if weights.ndim == 4 else weights
    return np.ascontiguousarray(order.reshape(weights.shape[0], -1).T, FLOAT)


def matmul(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """MatMul over the last two axes; the third input is a bias per column."""
    a, b = inputs[0], inputs[1]
    if op.int_arg("transpose_a"):
        a = a.swapaxes(-1, -2)
    if op.int_arg("transpose_b"):
        b = b.swapaxes(-1, -2)
    y = np.matmul(a, b)
    return [y + inputs[2].reshape(-1) if len(inputs) > 2 else y]
