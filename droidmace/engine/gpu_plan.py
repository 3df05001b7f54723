"""Laying a GPU net out: which commands, on which tensors, in which memory.

Activations that are never alive together share memory (:mod:`droidmace.engine.memory`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyopencl as cl

from droidmace.engine.attributes import Shape
from droidmace.engine.cpu.base import Array as Values
from droidmace.engine.host_steps import CpuStep, HostStep, ReadBuffer, WriteBuffer
from droidmace.engine.memory import MemoryPlan, lifetimes_of, plan_memory
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.engine.opencl.tensor import (
    Size,
    Tensor,
    TensorMemory,
    allocate_buffer,
    bind_download,
    bind_upload,
    float32_buffer_bytes,
)
from droidmace.engine.ops.base import GpuOp
from droidmace.engine.placement import Placed, Placement
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

_MEMORY_AT = "core/net/allocate_opt_strategy.cc:170"
_FAILED_AT = "core/net/serial_net.cc:147"
_MIB = 1 << 20


@dataclass(eq=False)
class GpuStep:
    """A command or a few under one op's name; the kernels are bound when it first runs."""

    name: str
    type: str
    outputs: Sequence[Tensor]
    op: OperatorDef | None
    filter_shape: Shape
    build: Callable[[], list[Dispatch]]
    dispatches: list[Dispatch] | None = None


Step = GpuStep | HostStep
FindTensor = Callable[[str], Tensor]


@dataclass(frozen=True, slots=True)
class _Task:
    """What becomes a step or two, once the tensors on the device that it takes are there."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    make: Callable[[FindTensor], list[Step]]
    op: OperatorDef | None = None


class GpuPlan:
    """The steps of a net for inputs of certain shapes.

    ``input_buffers`` hold those inputs that the device needs, ``output_buffers`` those outputs that
    it makes, with their shapes; all others are the host's. Raises ``EngineError`` when memory runs
    out, having said on the log which op needs how much.
    """

    def __init__(
        self,
        gpu: Gpu,
        memory: TensorMemory,
        memory_type: int,
        placement: Placement,
        constants: Mapping[str, Values],
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        log_ranges: bool = False,
    ) -> None:
        self._gpu = gpu
        self._memory = memory
        self._memory_type = memory_type
        self._placement = placement
        self._constants = constants
        self._log_ranges = log_ranges
        self._shapes = dict(placement.shapes)
        self._scratch = self._name_scratch()
        self.input_buffers: dict[str, cl.Buffer] = {}
        self.output_buffers: dict[str, tuple[cl.Buffer, Shape]] = {}
        tasks = self._tasks(inputs, outputs)
        find = self._lay_out(tasks, outputs)
        self.steps = [step for task in tasks for step in task.make(find)]

    def _name_scratch(self) -> dict[str, list[str]]:
        """By an op's first output the names of what it needs between its own kernels."""
        # made-up names are longer than any of the model's, so they are none of them
        longest = max(map(len, self._shapes))
        scratch: dict[str, list[str]] = {}
        for index, placed in enumerate(self._placement.ops):
            shapes = [] if placed.gpu_op is None else placed.gpu_op.scratch_shapes()
            names = [f"{index:0{longest}}:{i}" for i in range(len(shapes))]
            scratch[placed.op.outputs[0]] = names
            self._shapes.update(zip(names, shapes, strict=True))
        return scratch

    def _lay_out(self, tasks: Sequence[_Task], outputs: Sequence[str]) -> FindTensor:
        """Allocate memory; returns what finds a tensor in it."""
        aliases = {
            placed.op.outputs[0]: placed.gpu_op.inputs[0]
            for placed in self._placement.ops
            if placed.gpu_op is not None and placed.gpu_op.is_alias
        }
        sizes = {
            name: self._memory.activation_size(self._shapes[name])
            for task in tasks
            for name in (*task.reads, *task.writes)
        }
        steps = [(task.reads, task.writes) for task in tasks]
        kept = [name for name in outputs if name in sizes]
        plan = plan_memory(lifetimes_of(steps, sizes, aliases, kept))
        memories = [self._allocate(slot, plan, sizes, tasks) for slot in range(len(plan.sizes))]
        self._report_memory(plan, sizes)

        def find(name: str) -> Tensor:
            owner = name
            while owner in aliases:
                owner = aliases[owner]
            return self._memory.activation(self._shapes[name], memories[plan.slots[owner]])

        return find

    def _tasks(self, inputs: Sequence[str], outputs: Sequence[str]) -> list[_Task]:
        """Everything in order, with transfers where an op's input is on the other side."""
        placement = self._placement
        read_by_gpu = {
            name
            for placed in placement.ops
            if placed.gpu_op is not None
            for name in placed.gpu_op.inputs
        }
        on_device: set[str] = set()
        on_host = {*inputs, *placement.known}
        tasks: list[_Task] = []
        for name in inputs:
            if name in read_by_gpu:
                self.input_buffers[name] = self._buffer_for(name)
                tasks.append(self._upload_task(name, self.input_buffers[name]))
                on_device.add(name)
        for placed in placement.ops:
            if placed.gpu_op is None:
                for name in placed.reads(self._constants):
                    if name not in on_host:
                        tasks.append(self._fetch_task(name))
                        on_host.add(name)
                tasks.append(self._cpu_task(placed.op))
                on_host.update(placed.op.outputs)
            else:
                for name in placed.gpu_op.inputs:
                    if name not in on_device:
                        tasks.append(self._push_task(name))
                        on_device.add(name)
                tasks.append(self._gpu_task(placed, placed.gpu_op))
                on_device.update(placed.op.outputs)
        for name in outputs:
            if name in on_host:
                continue
            if self._memory.is_plain(self._shapes[name]):
                tasks.append(self._keep_task(name))
                continue
            buffer = self._buffer_for(name)
            self.output_buffers[name] = (buffer, self._shapes[name])
            tasks.append(self._download_task(name, buffer))
        return tasks

    def _gpu_task(self, placed: Placed, gpu_op: GpuOp) -> _Task:
        op, scratch = placed.op, self._scratch[placed.op.outputs[0]]
        name = op.inputs[1] if len(op.inputs) > 1 else ""
        # for the statistics
        filter_shape = self._constants[name].shape if name in self._constants else ()

        def make(tensor: FindTensor) -> list[Step]:
            sources = [tensor(name) for name in (*gpu_op.inputs, *scratch)]
            targets = [tensor(name) for name in op.outputs]
            build = functools.partial(gpu_op.bind, sources, targets)
            return [GpuStep(op.name, op.type, targets, op, filter_shape, build)]

        return _Task((*gpu_op.inputs, *scratch), tuple(op.outputs), make, op)

    def _cpu_task(self, op: OperatorDef) -> _Task:
        step = CpuStep(op, self._constants, log_ranges=self._log_ranges)
        return _Task((), (), lambda _: [step], op)

    def _upload_task(self, name: str, buffer: cl.Buffer) -> _Task:
        def make(tensor: FindTensor) -> list[Step]:
            build = functools.partial(bind_upload, self._gpu, buffer, tensor(name))
            label = f"mace_node_{name}_mem_type_{self._memory_type}"
            return [_transform(label, tensor(name), build)]

        return _Task((), (name,), make)

    def _push_task(self, name: str) -> _Task:
        """An upload of what the host has made."""
        buffer = self._buffer_for(name)
        upload = self._upload_task(name, buffer)
        return _Task((), (name,), lambda tensor: [WriteBuffer(name, buffer), *upload.make(tensor)])

    def _download_task(self, name: str, buffer: cl.Buffer) -> _Task:
        def make(tensor: FindTensor) -> list[Step]:
            build = functools.partial(bind_download, self._gpu, tensor(name), buffer)
            return [_transform(f"mace_node_{name}", tensor(name), build)]

        return _Task((name,), (), make)

    def _keep_task(self, name: str) -> _Task:
        """An output that lies as the host wants it: nothing to do but to know where."""

        def make(tensor: FindTensor) -> list[Step]:
            memory = tensor(name).memory
            assert isinstance(memory, cl.Buffer)
            self.output_buffers[name] = (memory, self._shapes[name])
            return []

        return _Task((name,), (), make)

    def _fetch_task(self, name: str) -> _Task:
        """A download for the host to go on with."""
        buffer = self._buffer_for(name)
        download = self._download_task(name, buffer)
        return _Task(
            (name,),
            (),
            lambda tensor: [*download.make(tensor), ReadBuffer(name, buffer, self._shapes[name])],
        )

    def _buffer_for(self, name: str) -> cl.Buffer:
        """A plain buffer between the host and a tensor."""
        try:
            return allocate_buffer(self._gpu, float32_buffer_bytes(self._shapes[name]))
        except EngineError as exc:
            ops = (placed.op for placed in self._placement.ops)
            maker = next((op for op in ops if name in op.outputs), None)
            raise too_large(self._gpu, exc, maker) from exc

    def _allocate(
        self, slot: int, plan: MemoryPlan, sizes: Mapping[str, Size], tasks: Sequence[_Task]
    ) -> cl.Image | cl.Buffer:
        """Memory for a slot; says on the log which op needs so much, if it is too much."""
        try:
            return self._memory.allocate(plan.sizes[slot])
        except EngineError as exc:
            users = [
                (self._memory.bytes_of(sizes[name]), task.op)
                for task in tasks
                for name in (*task.writes, *task.reads)
                if plan.slots.get(name) == slot
            ]
            _, op = max(users, key=lambda user: user[0])
            raise too_large(self._gpu, exc, op) from exc

    def _report_memory(self, plan: MemoryPlan, sizes: Mapping[str, tuple[int, int]]) -> None:
        shared = sum(map(self._memory.bytes_of, plan.sizes))
        alone = sum(self._memory.bytes_of(sizes[name]) for name in plan.slots)
        self._gpu.log.vlog(
            1,
            _MEMORY_AT,
            f"Peak memory of {len(plan.slots)} tensors in {len(plan.sizes)} allocations:"
            f" {shared / _MIB:.2f} MiB ({alone / _MIB:.2f} MiB if none were shared)",
        )


def _transform(name: str, tensor: Tensor, build: Callable[[], Dispatch]) -> GpuStep:
    return GpuStep(name, "BufferTransform", [tensor], None, (), lambda: [build()])


def too_large(gpu: Gpu, error: EngineError, op: OperatorDef | None) -> EngineError:
    """``error``, saying which op's memory it is about and what to do; that goes to the log, too."""
    what = "a model input" if op is None else f"op {op.name!r} ({op.type})"
    hint = "use a smaller input, memory type BUFFER, or data type fp16"
    gpu.log.error(_FAILED_AT, f"{error.message}: {what} takes {error.details}: {hint}")
    return EngineError(error.message, where=what, details=error.details, hint=hint)
