"""The CPU's speed as one number, printed in the result table beside the latencies.

MACE times a small net of its own on the CPU (``mace/libmace/capability.cc``); this times fixed
arithmetic on one core, so the figure compares machines that run this engine, not MACE's.
"""

from __future__ import annotations

import time

import numpy as np

_SIZE = 1 << 18
_ROUNDS = 10


def cpu_capability_ms() -> float:
    """Mean time of the reference workload, in milliseconds."""
    values = np.linspace(-1.0, 1.0, _SIZE, dtype=np.float32)
    np.tanh(values)
    start_ns = time.perf_counter_ns()
    for _ in range(_ROUNDS):
        np.tanh(values)
    return (time.perf_counter_ns() - start_ns) / 1e6 / _ROUNDS
