"""A net on the GPU: one command per kernel, no waiting inside a run.

Source of the order of things: ``mace/flows/opencl/opencl_ref_flow.cc`` and
``mace/core/net/serial_net.cc``. Weight transforms run when the net is made; the ops' own programs
are built the first time it runs. Ops that only the CPU has run there, between commands: those do
wait for what they read.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import OUT_OF_RESOURCES, Shape, unsupported
from droidmace.engine.cpu.base import Array as Values
from droidmace.engine.fusion import fuse_residuals
from droidmace.engine.gpu_plan import GpuPlan, GpuStep, Step, too_large
from droidmace.engine.host_steps import HostStep
from droidmace.engine.macelog import format_vector
from droidmace.engine.model import Model, check_graph
from droidmace.engine.net import Array, Net, OpTiming, log_range, timing_of
from droidmace.engine.opencl.launches import LaunchList
from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.opencl.tensor import (
    BufferMemory,
    ImageMemory,
    Tensor,
    TensorMemory,
    allocate_buffer,
    bind_download,
    float32_buffer_bytes,
)
from droidmace.engine.opencl.weights import Weights
from droidmace.engine.ops.base import GpuOp, NetContext, not_on_gpu
from droidmace.engine.ops.registry import find_op, takes_residual
from droidmace.engine.placement import place_ops
from droidmace.errors import EngineError
from droidmace.formats.netdef import DataType, MemoryType, OperatorDef


class GpuNet(Net):
    """See the module's docstring."""

    runtimes = ("CPU", "GPU")

    def __init__(self, model: Model, gpu: Gpu, *, log_ranges: bool = False) -> None:
        check_graph(model)
        self._log_ranges = log_ranges
        self._gpu = gpu
        self._model = model
        self._memory_type = model.net.int_arg("opencl_mem_type", int(MemoryType.GPU_IMAGE))
        self._memory = _memory_of(model, gpu, self._memory_type)
        self._ops = fuse_residuals(model.net, lambda op: takes_residual(op, self._memory))
        self._integers = [
            info.name for info in model.net.input_infos if info.data_type == DataType.DT_INT32
        ]
        self._output_names = [info.name for info in model.net.output_infos]
        self._forget_ops()
        self._input_shapes: dict[str, Shape] = {}
        self._known: dict[str, Values] = {}
        self._steps: list[Step] = []
        self._prepared: list[LaunchList | HostStep] | None = None
        self._input_buffers: dict[str, cl.Buffer] = {}
        self._output_buffers: dict[str, tuple[cl.Buffer, Shape]] = {}
        self._plan({info.name: tuple(info.dims) for info in model.net.input_infos})
        self._tell_fallbacks()

    def _tell_fallbacks(self) -> None:
        """As ``NetDefAdapter::AdaptDevice`` does; what is known without running is no GPU's."""
        for op in self._ops:
            if op.name not in self._on_gpu:
                where = "core/net_def_adapter.cc:414"
                self._gpu.log.info(where, f"Op {op.name}({op.type}) fall back to CPU")

    def _forget_ops(self) -> None:
        """Begin with the model's own constants, nothing of which is on the device."""
        self._constants: dict[str, Values] = dict(self._model.constants)
        self._weights = Weights(self._memory, self._constants)
        context = NetContext(self._gpu, self._weights, self._model.net, self._memory)
        self._gpu_op = functools.cache(functools.partial(_make_op, context=context))

    def run(
        self, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """See :class:`Net`."""
        shapes = {name: value.shape for name, value in inputs.items()}
        if shapes != self._input_shapes:
            self._plan_again(shapes)
        values = self._host_values(inputs)
        for name, buffer in self._input_buffers.items():
            self._gpu.upload(buffer, inputs[name])
        if self._prepared is not None and timings is None:
            self._run_prepared(self._prepared, values)
        else:
            self._run_steps(values, timings)
        outputs: dict[str, Array] = {}
        for name in self._output_names:
            if name in self._output_buffers:
                buffer, shape = self._output_buffers[name]
                outputs[name] = np.empty(shape, np.float32)
                self._gpu.download(outputs[name], buffer)
            else:
                outputs[name] = np.ascontiguousarray(values[name], np.float32)
        self._gpu.finish()
        self._gpu.programs.save()
        if self._prepared is None and not self._log_ranges:
            self._prepared = self._prepare_launches()
        return outputs

    def begin(self, inputs: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """See :class:`Net`. The queue keeps runs in order, so they can share all memory."""
        prepared = self._prepared
        shapes = {name: value.shape for name, value in inputs.items()}
        if prepared is None or shapes != self._input_shapes or not self._is_all_on_gpu(prepared):
            return super().begin(inputs)
        for name, buffer in self._input_buffers.items():
            self._gpu.upload(buffer, inputs[name])
        self._run_prepared(prepared, {})
        outputs: dict[str, Array] = {}
        for name in self._output_names:
            buffer, shape = self._output_buffers[name]
            outputs[name] = np.empty(shape, np.float32)
            self._gpu.download(outputs[name], buffer)
        copies = self._gpu.flush()

        def finish() -> dict[str, Array]:
            self._gpu.wait(copies)
            return outputs

        return finish

    def _is_all_on_gpu(self, prepared: Sequence[LaunchList | HostStep]) -> bool:
        """Whether the host has nothing to do in the middle, nor makes an output."""
        return all(isinstance(part, LaunchList) for part in prepared) and all(
            name in self._output_buffers for name in self._output_names
        )

    def run_resident(self) -> None:
        """Run on the inputs of the last run, leave the outputs on the device, and wait.

        For benchmarks. Raises ``EngineError``, also where nothing was prepared: before the first
        run, while tuning, and in nets that need the host on the way.
        """
        if self._prepared is None or not all(isinstance(x, LaunchList) for x in self._prepared):
            raise EngineError("the net has no prepared commands")
        self._run_prepared(self._prepared, {})
        self._gpu.finish()

    def prepare(self) -> None:
        """See :class:`Net`."""
        for step in self._steps:
            if isinstance(step, GpuStep) and step.dispatches is None:
                step.dispatches = step.build()
        self._gpu.programs.save()

    def _host_values(self, inputs: Mapping[str, Array]) -> dict[str, Values]:
        """What the host holds when a run begins."""
        values: dict[str, Values] = {**self._known, **inputs}
        for name in self._integers:
            values[name] = values[name].astype(np.int32)
        return values

    def _run_prepared(
        self, prepared: Sequence[LaunchList | HostStep], values: dict[str, Values]
    ) -> None:
        for part in prepared:
            if isinstance(part, LaunchList):
                self._gpu.enqueue(part)
            else:
                part.run(self._gpu, values)

    def _run_steps(self, values: dict[str, Values], timings: list[OpTiming] | None) -> None:
        ran: list[tuple[Step, list[cl.Event]]] = []
        for step in self._steps:
            if isinstance(step, GpuStep):
                ran.append((step, self._run_step(step)))
            else:
                step.run(self._gpu, values)
                ran.append((step, []))
        if timings is None:
            return
        self._gpu.finish()
        now_us = 0
        for step, events in ran:
            if isinstance(step, HostStep):
                timing = step.timing(now_us)
            else:
                timing = _timing(step, events) if events else None
            if timing is not None:
                timings.append(timing)
                now_us = timing.end_us

    def _prepare_launches(self) -> list[LaunchList | HostStep] | None:
        """All steps, with the commands between two things the host does as one list."""
        prepared: list[LaunchList | HostStep] = []
        for on_host, steps in itertools.groupby(
            self._steps, key=lambda step: isinstance(step, HostStep)
        ):
            if on_host:
                prepared += [step for step in steps if isinstance(step, HostStep)]
                continue
            launches = self._gpu.prepare(
                dispatch
                for step in steps
                if isinstance(step, GpuStep)
                for dispatch in step.dispatches or ()
            )
            if launches is None:
                return None
            prepared.append(launches)
        return prepared

    def _run_step(self, step: GpuStep) -> list[cl.Event]:
        if step.dispatches is None:
            step.dispatches = step.build()
        events = [event for dispatch in step.dispatches for event in self._gpu.run(dispatch)]
        log = self._gpu.log
        if log.verbose(3):
            log.vlog(
                3,
                "core/net/serial_net.cc:182",
                f"Operator {step.name} has shape: {format_vector(step.outputs[0].shape)}",
            )
        if self._log_ranges and step.op is not None:
            for name, tensor in zip(step.op.outputs, step.outputs, strict=True):
                log_range(log, name, self._fetch(tensor))
        return events

    def _fetch(self, tensor: Tensor) -> Array:
        """An activation's values, by a transform of its own."""
        buffer = allocate_buffer(self._gpu, float32_buffer_bytes(tensor.shape))
        values = np.empty(tensor.shape, np.float32)
        self._gpu.run(bind_download(self._gpu, tensor, buffer))
        self._gpu.download(values, buffer)
        self._gpu.finish()
        return values

    def _plan_again(self, input_shapes: Mapping[str, Shape]) -> None:
        """Lay the net out for other shapes; aborts, as MACE does, when the ops cannot take them."""
        try:
            self._plan(input_shapes)
        except EngineError as exc:
            if exc.message == OUT_OF_RESOURCES:
                raise
            self._gpu.log.fatal("core/net/serial_net.cc:131", f"Check failed: {exc.message}")

    def _plan(self, input_shapes: Mapping[str, Shape]) -> None:
        """Infer shapes, allocate memory and lay out the steps for inputs of these shapes."""
        for name, shape in input_shapes.items():
            if min(shape, default=0) < 1:
                raise EngineError(f"Invalid Arguments: input {name!r} has the shape {list(shape)}")
        if self._known:
            self._forget_ops()  # they were made for what other shapes told
        placement = place_ops(
            self._ops, input_shapes, self._constants, self._gpu_op, integers=self._integers
        )
        self._on_gpu = {one.op.name for one in placement.ops if one.gpu_op is not None}
        plan = GpuPlan(
            self._gpu,
            self._memory,
            self._memory_type,
            placement,
            self._constants,
            inputs=list(input_shapes),
            outputs=self._output_names,
            log_ranges=self._log_ranges,
        )
        self._input_shapes = dict(input_shapes)
        self._input_buffers = plan.input_buffers
        self._output_buffers = plan.output_buffers
        self._known = placement.known
        self._prepared = None
        self._steps = plan.steps
        self._weights.finish()


def _memory_of(model: Model, gpu: Gpu, memory_type: int) -> TensorMemory:
    if memory_type == MemoryType.GPU_BUFFER:
        return BufferMemory(gpu, half=model.is_half)
    if memory_type == MemoryType.GPU_IMAGE:
        return ImageMemory(gpu, half=model.is_half)
    raise EngineError(f"Unsupported: opencl_mem_type {memory_type}")


def _make_op(op: OperatorDef, context: NetContext) -> GpuOp:
    kind = find_op(op.type, context.memory)
    if kind is None:
        raise not_on_gpu(op, "no such op in this engine")
    try:
        return kind(op, context)
    except IndexError as exc:
        raise unsupported(op, f"{len(op.inputs)} inputs are too few") from exc
    except EngineError as exc:
        if exc.message != OUT_OF_RESOURCES:
            raise
        raise too_large(context.gpu, exc, op) from exc


def _timing(step: GpuStep, events: Sequence[cl.Event]) -> OpTiming:
    """Start of the first command, and the time of all of them, in whole microseconds as MACE."""
    start_us = events[0].profile.start // 1000
    busy_us = sum(event.profile.end // 1000 - event.profile.start // 1000 for event in events)
    end_us = start_us + busy_us
    first, *others = (tensor.shape for tensor in step.outputs)
    if step.op is None:
        return OpTiming(step.name, step.type, start_us, end_us, first)
    return timing_of(
        step.op, start_us, end_us, first, step.filter_shape, other_shapes=tuple(others)
    )
