"""When a tensor from the GPU counts as wrong.

An op by itself, fed with the CPU's tensors, may only round differently. How much that can be
depends on the data type:

* fp16: inputs, filters and, on many GPUs, sums have 11 bits, so each step is off by up to 2^-11.
  Errors of a sum of 4096 products add up like a random walk to 64 of those: 2^-5 of the result. A
  single element may be off by four times that. Values below 2^-14, the smallest normal number,
  many GPUs take for zero.
* fp32: the arithmetic itself would allow 1e-5. MACE builds its kernels with
  ``-cl-fast-relaxed-math``, whose native functions are some thousandths off, and Winograd's
  transforms lose a digit or two.

The outputs of a whole net add up the errors of all ops; what MACE itself accepts of a GPU is a
cosine of 0.995, which is a relative error of 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.results.bisect import TensorError

HALF_MAX = 65504.0
"""The largest number in half precision."""
HALF_SMALLEST = 2**-14
"""The smallest normal number in half precision: what is smaller may be flushed to zero."""
_NOTHING = 1e-6
"""Values below this are noise around zero."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tensor may be off: ``relative`` and ``peak`` as in :class:`TensorError`.

    ``smallest``: what is smaller on both sides is zero on both.
    """

    relative: float
    peak: float
    smallest: float = 0.0

    def exceeded(self, error: TensorError) -> bool:
        """Whether the tensor is wrong."""
        return error.lost > 0 or error.relative > self.relative or error.peak > self.peak


# A value next to the smallest one may be rounded below it first.
_SMALLEST_HALF = HALF_SMALLEST * (1 + 2**-5)
OP_LIMITS_HALF = Limits(relative=2**-5, peak=2**-3, smallest=_SMALLEST_HALF)
OP_LIMITS_FLOAT = Limits(relative=1e-3, peak=1e-2)
NET_LIMITS_HALF = Limits(relative=0.1, peak=0.5, smallest=_SMALLEST_HALF)
NET_LIMITS_FLOAT = Limits(relative=1e-2, peak=0.1)


def op_limits(*, half: bool) -> Limits:
    """For one op, fed with right values."""
    return OP_LIMITS_HALF if half else OP_LIMITS_FLOAT


def net_limits(*, half: bool) -> Limits:
    """For what many ops in a row have made."""
    return NET_LIMITS_HALF if half else NET_LIMITS_FLOAT


def tensor_error(gpu: Array, cpu: Array, limits: Limits) -> TensorError:
    """Compare two arrays of one shape."""
    if gpu.shape != cpu.shape or not gpu.size:
        raise ValueError(f"cannot compare shapes {gpu.shape} and {cpu.shape}")
    on_gpu, on_cpu = np.isfinite(gpu), np.isfinite(cpu)
    both = on_gpu & on_cpu
    with np.errstate(invalid="ignore"):
        both &= (np.abs(gpu) >= limits.smallest) | (np.abs(cpu) >= limits.smallest)
    lost = on_cpu & ~on_gpu
    left = np.where(both, gpu, 0).astype(np.float64)
    right = np.where(both, cpu, 0).astype(np.float64)
    difference = np.abs(left - right)
    worst = int(np.argmax(lost if lost.any() else difference))
    index = tuple(int(one) for one in np.unravel_index(worst, cpu.shape))
    length = float(np.linalg.norm(right))
    cpu_peak = float(np.abs(cpu[on_cpu]).max(initial=0.0))
    nothing = max(_NOTHING, limits.smallest)
    noise = nothing * np.sqrt(gpu.size)
    return TensorError(
        elements=int(gpu.size),
        relative=float(np.linalg.norm(difference)) / max(length, noise),
        peak=float(difference.max()) / max(float(np.abs(right).max()), nothing),
        lost=int(lost.sum()),
        cosine=_cosine(left, right, noise),
        worst_index=index,
        worst_cpu=float(cpu[index]),
        worst_gpu=float(gpu[index]),
        cpu_peak=cpu_peak,
        overflowing=int((np.abs(cpu[on_cpu]) > HALF_MAX).sum()),
    )


def least_error(gpu: Array, cpu: Array, limits: Limits) -> TensorError:
    """The error, images being allowed to lie the other way on one side.

    A graph may count a tensor's axes as NCHW where it declares NHWC, and the two runtimes then hand
    it out in different orders: that is no wrong value.
    """
    error = tensor_error(gpu, cpu, limits)
    if cpu.ndim != 4 or not limits.exceeded(error):
        return error
    n, h, w, c = cpu.shape
    for other in (
        cpu.reshape(n, c, h, w).transpose(0, 2, 3, 1),
        cpu.transpose(0, 3, 1, 2).reshape(n, h, w, c),
    ):
        turned = tensor_error(gpu, other, limits)
        if not limits.exceeded(turned):
            return turned
    return error


def _cosine(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64], noise: float) -> float:
    lengths = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    if max(lengths) <= noise:
        return 1.0
    if min(lengths) <= noise:
        return 0.0
    return float(np.vdot(left, right)) / (lengths[0] * lengths[1])
