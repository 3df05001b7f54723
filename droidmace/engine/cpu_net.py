"""A net on the CPU: its ops one after another, in numpy. Images are NHWC here too.

An activation is let go after the last op that reads it, so a run holds little more than the largest
two or three at a time. ``MACE_OUT_OF_RANGE_CHECK`` means nothing here, as in MACE: it is an option
of OpenCL kernels. Matrix products run on as many threads as numpy's BLAS has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from droidmace.engine.attributes import Shape, unsupported
from droidmace.engine.axis_order import as_nhwc, nchw_shape
from droidmace.engine.cpu.base import Array as Values
from droidmace.engine.cpu.base import CpuContext
from droidmace.engine.cpu.ops import CPU_OPS, run_op
from droidmace.engine.macelog import MaceLog, format_vector
from droidmace.engine.model import Constant, Model, check_graph
from droidmace.engine.net import Array, Net, OpTiming, log_range, timing_of
from droidmace.errors import EngineError
from droidmace.formats.netdef import DataFormat, DataType, NetDef, OperatorDef

_NET = "core/net/serial_net.cc"


class CpuNet(Net):
    """See the module's docstring."""

    runtimes = ("CPU",)

    def __init__(self, model: Model, log: MaceLog, *, log_ranges: bool = False) -> None:
        check_graph(model)
        self._log_ranges = log_ranges
        self._net = model.net
        self._log = log
        self._constants: dict[str, Constant] = {
            name: value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
            for name, value in model.constants.items()
        }
        self._context = CpuContext(self._constants)
        self._done_with = _last_reads(model.net)
        for op in model.net.ops:
            if op.type not in CPU_OPS:
                raise unsupported(op, "no such op in this engine")

    def prepare(self) -> None:
        """Nothing is compiled on the CPU."""

    def run(
        self, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """See :class:`Net`."""
        values: dict[str, Values] = {**self._constants, **self._take(inputs)}
        for index, op in enumerate(self._net.ops):
            start_us = time.perf_counter_ns() // 1000
            try:
                results = run_op(op, [values[name] for name in op.inputs], self._context)
            except EngineError as exc:
                # shapes that do not go together: a failed check in MACE
                self._log.fatal(f"{_NET}:131", f"Check failed: {op.name}: {exc}")
            values.update(zip(op.outputs, results, strict=True))
            if timings is not None:
                end_us = time.perf_counter_ns() // 1000
                timings.append(self._timing(op, start_us, end_us, values))
            if self._log.verbose(3):
                text = format_vector(_shown_shape(op, results[0].shape))
                self._log.vlog(3, f"{_NET}:182", f"Operator {op.name} has shape: {text}")
            if self._log_ranges:
                for name, value in zip(op.outputs, results, strict=True):
                    log_range(self._log, name, value)
            for name in self._done_with[index]:
                del values[name]
        return {
            info.name: np.ascontiguousarray(values[info.name], np.float32)
            for info in self._net.output_infos
        }

    def _timing(
        self, op: OperatorDef, start_us: int, end_us: int, values: Mapping[str, Values]
    ) -> OpTiming:
        first, *others = (_shown_shape(op, values[name].shape) for name in op.outputs)
        shapes = [values[name].shape for name in op.inputs[:2]]
        return timing_of(
            op,
            start_us,
            end_us,
            first,
            shapes[1] if len(shapes) > 1 else (),
            input_shape=_shown_shape(op, shapes[0]) if shapes else (),
            other_shapes=tuple(others),
        )

    def _take(self, inputs: Mapping[str, Array]) -> dict[str, Values]:
        """Inputs as the ops take them: integers as such, images as NHWC.

        An image whose format is NONE is fed as it is; MACE's CPU ops then take it for NCHW.
        """
        taken: dict[str, Values] = dict(inputs)
        for info in self._net.input_infos:
            if info.name not in taken:
                continue
            if info.data_type == DataType.DT_INT32:
                taken[info.name] = taken[info.name].astype(np.int32)
            if info.data_format == DataFormat.NONE:
                taken[info.name] = as_nhwc(taken[info.name])
        return taken


def _shown_shape(op: OperatorDef, shape: Shape) -> Shape:
    """``shape`` as MACE's CPU holds it: images as NCHW, unless the op says NHWC."""
    order = op.int_arg("data_format", int(DataFormat.NHWC))
    return shape if order == DataFormat.NHWC else nchw_shape(shape)


def _last_reads(net: NetDef) -> list[list[str]]:
    """For each op the activations that nothing needs after it."""
    needed = {info.name for info in net.output_infos}
    needed.update(tensor.name for tensor in net.tensors)
    done: list[list[str]] = []
    for op in reversed(net.ops):
        names = [name for name in dict.fromkeys((*op.inputs, *op.outputs)) if name not in needed]
        needed.update(names)
        done.append(names)
    return done[::-1]
