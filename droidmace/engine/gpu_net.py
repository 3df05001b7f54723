"""A net on the GPU: one command per kernel, no waiting inside a run.

Source of the order of things: ``mace/flows/opencl/opencl_ref_flow.cc`` and
``mace/core/net/serial_net.cc``. Weight transforms run when the net is made; the ops' own programs
are built the first time it runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import OUT_OF_RESOURCES, Shape, nhwc, unsupported
from droidmace.engine.fusion import fuse_residuals
from droidmace.engine.macelog import format_vector
from droidmace.engine.memory import lifetimes_of, plan_memory
from droidmace.engine.model import Model, check_graph
from droidmace.engine.net import Array, Net, OpTiming, log_range, timing_of
from droidmace.engine.opencl.launches import LaunchList
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.engine.opencl.tensor import (
    BufferMemory,
    ImageMemory,
    Tensor,
    TensorMemory,
    Weights,
    allocate_buffer,
    bind_download,
    bind_upload,
    float32_buffer_bytes,
)
from droidmace.engine.ops.base import GpuOp, NetContext
from droidmace.engine.ops.registry import find_op, takes_residual
from droidmace.errors import EngineError
from droidmace.formats.netdef import MemoryType, OperatorDef


@dataclass(eq=False)
class _Step:
    """A command or a few under one op's name; the kernels are bound when it first runs."""

    name: str
    type: str
    output: Tensor
    op: OperatorDef | None
    filter_shape: Shape
    build: Callable[[], list[Dispatch]]
    dispatches: list[Dispatch] | None = None


class GpuNet(Net):
    """See the module's docstring."""

    runtimes = ("CPU", "GPU")

    def __init__(self, model: Model, gpu: Gpu, *, log_ranges: bool = False) -> None:
        check_graph(model)
        self._log_ranges = log_ranges
        self._gpu = gpu
        self._constants = model.constants
        self._memory_type = model.net.int_arg("opencl_mem_type", int(MemoryType.GPU_IMAGE))
        self._memory = _memory_of(model, gpu, self._memory_type)
        weights = Weights(self._memory, model.constants)
        context = NetContext(gpu, weights, model.net, self._memory)
        ops = fuse_residuals(model.net, lambda op: takes_residual(op, self._memory))
        self._ops = [_make_op(op, context) for op in ops]
        self._output_names = [info.name for info in model.net.output_infos]
        self._input_shapes: dict[str, Shape] = {}
        self._steps: list[_Step] = []
        self._launches: LaunchList | None = None
        self._input_buffers: dict[str, cl.Buffer] = {}
        self._output_buffers: dict[str, tuple[cl.Buffer, Shape]] = {}
        self._plan({info.name: tuple(info.dims) for info in model.net.input_infos})
        weights.finish()

    def run(
        self, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """See :class:`Net`."""
        shapes = {name: value.shape for name, value in inputs.items()}
        if shapes != self._input_shapes:
            self._plan_again(shapes)
        for name, value in inputs.items():
            self._gpu.upload(self._input_buffers[name], value)
        ran = []
        if self._launches is not None and timings is None:
            self._gpu.enqueue(self._launches)
        else:
            ran = [(step, self._run_step(step)) for step in self._steps]
        outputs = {
            name: np.empty(shape, np.float32) for name, (_, shape) in self._output_buffers.items()
        }
        for name, value in outputs.items():
            self._gpu.download(value, self._output_buffers[name][0])
        self._gpu.finish()
        self._gpu.programs.save()
        if self._launches is None and not self._log_ranges:
            self._launches = self._gpu.prepare(
                dispatch for step in self._steps for dispatch in step.dispatches or ()
            )
        if timings is not None:
            timings += [_timing(step, events) for step, events in ran if events]
        return outputs

    def prepare(self) -> None:
        """See :class:`Net`."""
        for step in self._steps:
            if step.dispatches is None:
                step.dispatches = step.build()
        self._gpu.programs.save()

    def _run_step(self, step: _Step) -> list[cl.Event]:
        if step.dispatches is None:
            step.dispatches = step.build()
        events = [event for dispatch in step.dispatches for event in self._gpu.run(dispatch)]
        log = self._gpu.log
        if log.verbose(3):
            log.vlog(
                3,
                "core/net/serial_net.cc:182",
                f"Operator {step.name} has shape: {format_vector(step.output.shape)}",
            )
        if self._log_ranges and step.op is not None:
            log_range(log, step.op.outputs[0], self._fetch(step.output))
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
            if min(nhwc(shape)) < 1 or not shape:
                raise EngineError(f"Invalid Arguments: input {name!r} has the shape {list(shape)}")
        shapes = dict(input_shapes)
        aliases: dict[str, str] = {}
        scratch: dict[int, list[str]] = {}
        # made-up names are longer than any of the model's, so they are none of them
        longest = max(map(len, (*input_shapes, *(name for op in self._ops for name in op.outputs))))
        for index, op in enumerate(self._ops):
            shapes.update(zip(op.outputs, op.output_shapes(shapes), strict=True))
            if op.is_alias:
                aliases[op.outputs[0]] = op.inputs[0]
            scratch[index] = [f"{index:0{longest}}:{i}" for i in range(len(op.scratch_shapes()))]
            shapes.update(zip(scratch[index], op.scratch_shapes(), strict=True))
        steps: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), tuple(input_shapes))]
        steps += [
            ((*op.inputs, *scratch[index]), tuple(op.outputs)) for index, op in enumerate(self._ops)
        ]
        sizes = {name: self._memory.activation_size(shape) for name, shape in shapes.items()}
        plan = plan_memory(lifetimes_of(steps, sizes, aliases, self._output_names))
        memories = [self._memory.allocate(size) for size in plan.sizes]

        def tensor(name: str) -> Tensor:
            owner = name
            while owner in aliases:
                owner = aliases[owner]
            return self._memory.activation(shapes[name], memories[plan.slots[owner]])

        self._input_shapes = dict(input_shapes)
        self._launches = None
        self._steps = self._upload_steps(tensor)
        for index, op in enumerate(self._ops):
            sources = [tensor(name) for name in (*op.inputs, *scratch[index])]
            targets = [tensor(name) for name in op.outputs]
            build = functools.partial(op.bind, sources, targets)
            self._steps.append(
                _Step(
                    op.op.name,
                    op.op.type,
                    targets[0],
                    op.op,
                    self._filter_shape(op.op),
                    build,
                )
            )
        self._steps += self._download_steps(tensor)

    def _filter_shape(self, op: OperatorDef) -> Shape:
        """The filter's OIHW shape, for the statistics."""
        name = op.inputs[1] if len(op.inputs) > 1 else ""
        return self._constants[name].shape if name in self._constants else ()

    def _upload_steps(self, tensor: Callable[[str], Tensor]) -> list[_Step]:
        self._input_buffers = {}
        steps = []
        for name, shape in self._input_shapes.items():
            buffer = allocate_buffer(self._gpu, float32_buffer_bytes(shape))
            self._input_buffers[name] = buffer
            target = tensor(name)
            steps.append(
                _Step(
                    f"mace_node_{name}_mem_type_{self._memory_type}",
                    "BufferTransform",
                    target,
                    None,
                    (),
                    _single(functools.partial(bind_upload, self._gpu, buffer, target)),
                )
            )
        return steps

    def _download_steps(self, tensor: Callable[[str], Tensor]) -> list[_Step]:
        self._output_buffers = {}
        steps = []
        for name in self._output_names:
            source = tensor(name)
            buffer = allocate_buffer(self._gpu, float32_buffer_bytes(source.shape))
            self._output_buffers[name] = (buffer, source.shape)
            steps.append(
                _Step(
                    f"mace_node_{name}",
                    "BufferTransform",
                    source,
                    None,
                    (),
                    _single(functools.partial(bind_download, self._gpu, source, buffer)),
                )
            )
        return steps


def _memory_of(model: Model, gpu: Gpu, memory_type: int) -> TensorMemory:
    if memory_type == MemoryType.GPU_BUFFER:
        return BufferMemory(gpu, half=model.is_half)
    if memory_type == MemoryType.GPU_IMAGE:
        return ImageMemory(gpu, half=model.is_half)
    raise EngineError(f"Unsupported: opencl_mem_type {memory_type}")


def _single(build: Callable[[], Dispatch]) -> Callable[[], list[Dispatch]]:
    return lambda: [build()]


def _make_op(op: OperatorDef, context: NetContext) -> GpuOp:
    kind = find_op(op.type, context.memory)
    if kind is None:
        raise unsupported(op, "no such op in this engine")
    try:
        return kind(op, context)
    except IndexError as exc:
        raise unsupported(op, f"{len(op.inputs)} inputs are too few") from exc


def _timing(step: _Step, events: Sequence[cl.Event]) -> OpTiming:
    """Start of the first command, and the time of all of them, in whole microseconds as MACE."""
    start_us = events[0].profile.start // 1000
    busy_us = sum(event.profile.end // 1000 - event.profile.start // 1000 for event in events)
    end_us = start_us + busy_us
    if step.op is None:
        return OpTiming(step.name, step.type, start_us, end_us, step.output.shape)
    return timing_of(step.op, start_us, end_us, step.output.shape, step.filter_shape)
