"""Activations: an op of their own, and folded into others. Source: ``mace/ops/ref/activation.cc``.

``activate`` works in place on what the op before it has made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from droidmace.engine.attributes import FusedActivation
from droidmace.engine.cpu.base import FLOAT, Array, CpuContext, per_channel
from droidmace.formats.netdef import OperatorDef


def activate(op: OperatorDef, x: Array) -> Array:
    """The activation that ``op`` names, applied to ``x`` itself, which is returned."""
    fused = FusedActivation.of(op)
    name = op.str_arg("activation", "NOOP")
    if name == "RELU":
        np.maximum(x, 0, out=x)
    elif name == "RELUX":
        np.clip(x, 0, FLOAT(fused.max_limit), out=x)
    elif name == "TANH":
        np.tanh(x, out=x)
    elif name == "SIGMOID":
        np.negative(x, out=x)
        np.exp(x, out=x)
        x += 1
        np.reciprocal(x, out=x)
    elif name == "LEAKYRELU":
        np.add(np.maximum(x, 0), np.minimum(x, 0) * FLOAT(fused.coefficient), out=x)
    elif name == "ELU":
        np.add(np.maximum(x, 0), np.expm1(np.minimum(x, 0)) * FLOAT(fused.coefficient), out=x)
    elif name == "HARDSIGMOID":
        x *= FLOAT(fused.max_limit)
        x += FLOAT(fused.coefficient)
        np.clip(x, 0, 1, out=x)
    return x


def activation(op: OperatorDef, inputs: Sequence[Array], context: CpuContext) -> list[Array]:
    """Activation; PRELU's slopes, one per channel, are the second input."""
    x = inputs[0]
    if op.str_arg("activation") == "PRELU":
        slope = per_channel(inputs[1].reshape(-1), x, context)
        return [np.maximum(x, 0) + slope * np.minimum(x, 0)]
    return [activate(op, np.array(x, FLOAT))]
