"""What follows from a wrong op and from what else was tried: the cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.graphs.parts import Dissection, describe
from droidmace.results.bisect import Cause, OpComparison, Suspect, TensorError
from droidmace.validation.tensor_error import Limits, op_limits

FP32 = "fp32"
NO_WINOGRAD = "without Winograd"
ROUNDED = "on the CPU with inputs rounded to fp16"
KEPT = "with its outputs' memory kept"
_ROUNDING_SHARE = 0.25
"""An error is rounding if that of the inputs alone makes so much of it."""
_ROUNDING_FACTOR = 4
"""An error so many times the limit is no rounding by itself."""


def cause_of(
    error: TensorError, suspects: Sequence[Suspect], *, half: bool, overflowing: bool
) -> Cause:
    """Why an op is wrong by itself. ``overflowing``: it reads or makes what fp16 cannot hold."""
    outcome = {one.name: one.right for one in suspects if one.error is not None}
    right_in_float32 = outcome.get(FP32)
    beyond_half = overflowing or (right_in_float32 and error.lost > 0)
    if half and beyond_half and right_in_float32 is not False:
        return Cause.OVERFLOW
    if outcome.get(NO_WINOGRAD):
        return Cause.WINOGRAD
    if right_in_float32 and not error.lost:
        rounding = _ROUNDING_FACTOR * op_limits(half=True).relative
        rounded = next((one.error for one in suspects if one.name == ROUNDED), None)
        if rounded is not None:
            rounding = max(rounding, rounded.relative / _ROUNDING_SHARE)
        if error.relative <= rounding:
            return Cause.PRECISION
    return Cause.KERNEL


def comparison_of(
    dissection: Dissection,
    index: int,
    errors: Mapping[str, TensorError],
    limits: Limits,
    *,
    on_cpu: bool = False,
) -> OpComparison:
    """An op by the worst of its outputs."""
    worst = worst_of(list(errors.values()), limits)
    output = next(name for name, error in errors.items() if error is worst)
    return OpComparison(
        index=index,
        name=dissection.net.ops[index].name,
        what=describe(dissection.net, index),
        output=output,
        shape=dissection.activations[output].shape,
        error=worst,
        wrong=limits.exceeded(worst) and not on_cpu,
        on_cpu=on_cpu,
    )


def worst_of(errors: Sequence[TensorError], limits: Limits) -> TensorError:
    """The one that is furthest beyond ``limits``."""
    return max(
        errors,
        key=lambda one: (one.lost, max(one.relative / limits.relative, one.peak / limits.peak)),
    )
