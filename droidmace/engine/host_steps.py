"""What a GPU net does on the host in the middle of a run: ops of the CPU, and the way there."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import Shape
from droidmace.engine.axis_order import nchw_shape, takes_nchw
from droidmace.engine.cpu.base import Array, CpuContext
from droidmace.engine.cpu.ops import run_op
from droidmace.engine.macelog import format_vector
from droidmace.engine.net import OpTiming, log_range, timing_of
from droidmace.engine.opencl.runtime import Gpu
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

_NET = "core/net/serial_net.cc"


class HostStep(ABC):
    """One thing that the host does between commands. ``values`` are what it holds, by name."""

    @abstractmethod
    def run(self, gpu: Gpu, values: dict[str, Array]) -> None:
        """Do it. Raises ``EngineError``."""

    def timing(self, start_us: int) -> OpTiming | None:
        """How long the last run took, if that is worth a line; it began at ``start_us``."""
        return None


class ReadBuffer(HostStep):
    """Wait for what was transformed into a buffer."""

    def __init__(self, name: str, buffer: cl.Buffer, shape: Shape) -> None:
        self._name, self._buffer, self._shape = name, buffer, shape

    def run(self, gpu: Gpu, values: dict[str, Array]) -> None:
        """See :class:`HostStep`."""
        read = np.empty(self._shape, np.float32)
        gpu.download(read, self._buffer)
        gpu.finish()
        values[self._name] = read


class WriteBuffer(HostStep):
    """Give the device what a transform reads next."""

    def __init__(self, name: str, buffer: cl.Buffer) -> None:
        self._name, self._buffer = name, buffer

    def run(self, gpu: Gpu, values: dict[str, Array]) -> None:
        """See :class:`HostStep`."""
        gpu.upload(self._buffer, np.ascontiguousarray(values[self._name], np.float32))


class CpuStep(HostStep):
    """An op that the CPU runs."""

    def __init__(
        self, op: OperatorDef, constants: Mapping[str, Array], *, log_ranges: bool
    ) -> None:
        self._op = op
        self._constants = {
            name: _as_floats(constants[name]) for name in op.inputs if name in constants
        }
        self._context = CpuContext(self._constants, on_gpu=True)
        self._log_ranges = log_ranges
        self._busy_us = 0
        self._shapes: list[Shape] = []
        self._input_shapes: list[Shape] = []

    def run(self, gpu: Gpu, values: dict[str, Array]) -> None:
        """See :class:`HostStep`. Aborts, as MACE does, for values that the op cannot take."""
        op, log = self._op, gpu.log
        start_ns = time.perf_counter_ns()
        inputs = [
            self._constants[name] if name in self._constants else values[name] for name in op.inputs
        ]
        try:
            results = run_op(op, inputs, self._context)
        except EngineError as exc:
            log.fatal(f"{_NET}:131", f"Check failed: {op.name}: {exc}")
        values.update(zip(op.outputs, results, strict=True))
        self._busy_us = (time.perf_counter_ns() - start_ns) // 1000
        self._shapes = [self._shown(result.shape) for result in results]
        self._input_shapes = [self._shown(value.shape) for value in inputs]
        if log.verbose(3):
            text = format_vector(self._shapes[0])
            log.vlog(3, f"{_NET}:182", f"Operator {op.name} has shape: {text}")
        if self._log_ranges:
            for name, result in zip(op.outputs, results, strict=True):
                log_range(log, name, result.astype(np.float32, copy=False))

    def _shown(self, shape: Shape) -> Shape:
        """``shape`` with the axes as the op counts them, which is how MACE's CPU holds it."""
        return nchw_shape(shape) if takes_nchw(self._op, on_gpu=True) else shape

    def timing(self, start_us: int) -> OpTiming:
        """See :class:`HostStep`."""
        return timing_of(
            self._op,
            start_us,
            start_us + self._busy_us,
            self._shapes[0],
            self._input_shapes[1] if len(self._input_shapes) > 1 else (),
            input_shape=self._input_shapes[0] if self._input_shapes else (),
            other_shapes=tuple(self._shapes[1:]),
        )


def _as_floats(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values
