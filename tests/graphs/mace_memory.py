"""MACE's plan of memory for a net, carried out: what is left of each output when the run ends.

The rules are those of ``mace/core/net_def_adapter.cc`` (where copies between memories go) and
``mace/core/net/allocate_opt_strategy.cc`` (whose memory is whose).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from droidmace.formats.netdef import DataType, NetDef, OperatorDef

# Operation::ReuseTensorMapId; all but Identity lie in their input's memory as well.
REUSES = frozenset({"ExpandDims", "Identity", "NonlocalReshape", "Reshape", "Squeeze"})


class Memory(Enum):
    CPU = "CPU_BUFFER"
    BUFFER = "GPU_BUFFER"
    IMAGE = "GPU_IMAGE"


@dataclass(frozen=True)
class Tensor:
    memory: Memory
    data_type: str
    shape: tuple[int, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        """Of its buffer or image."""
        if self.memory is not Memory.IMAGE:
            return (math.prod(self.shape),)
        n, h, w, c = self.shape if len(self.shape) == 4 else (self.shape[0], 1, 1, self.shape[-1])
        return (math.ceil(c / 4) * w, n * h)


@dataclass(frozen=True)
class Step:
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class Adapted:
    """A net as MACE runs it; inputs and constants are in no step's outputs."""

    steps: list[Step] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    on_cpu: set[str] = field(default_factory=set)
    """Ops of a GPU's net that run on the CPU."""
    clashing: set[str] = field(default_factory=set)
    """Outputs behind which there is one name for two tensors."""


def adapted(
    net: NetDef, memory: Memory, *, half: bool = False, on_cpu: Collection[str] = ()
) -> Adapted:
    """``memory`` tells the runtime as well. ``on_cpu``: ops that fall back."""
    gpu = memory is not Memory.CPU
    net_type = "half" if half and gpu else "float"
    made = Adapted()
    base = Memory.BUFFER if gpu else Memory.CPU
    for info in net.input_infos:
        made.tensors[info.name] = Tensor(base, "float", info.dims)
    for op in net.ops:
        falls = op.type == "Shape" or op.name in on_cpu or _follows_to_cpu(made, op)
        if falls:
            made.on_cpu.add(op.name)
        wanted = (Memory.CPU, "float") if falls else (memory, net_type)
        inputs = tuple(_brought(made, name, *wanted) for name in op.inputs)
        integers = DataType.DT_INT32 in op.output_types
        for name, shape in itertools.zip_longest(op.outputs, op.output_shapes):
            dims = shape.dims if shape is not None else ()
            made.tensors[name] = Tensor(wanted[0], "int" if integers else wanted[1], dims)
        made.steps.append(Step(op.type, inputs, op.outputs))
    if gpu:
        for info in net.output_infos:
            _hand_out(made, info.name)
    return made


def _follows_to_cpu(made: Adapted, op: OperatorDef) -> bool:
    """SelectBestRuntime: what is not worth a way to the GPU stays where its inputs are."""
    read = [made.tensors[name] for name in op.inputs if name in made.tensors]
    return op.type != "Conv2D" and all(one.memory is Memory.CPU for one in read)


def transformed(name: str, memory: Memory) -> str:
    """TransformedName, for copies to another memory as well as for what an output is copied of."""
    return f"{name}_mem_type_{memory.value}"


def _brought(made: Adapted, name: str, memory: Memory, data_type: str) -> str:
    """AdaptMemoryType: the name of the tensor in that memory, after a copy if it takes one."""
    tensor = made.tensors.get(name)
    if tensor is None:
        return name  # a constant
    both_on_cpu = tensor.memory is memory is Memory.CPU
    if tensor.memory is memory and (tensor.data_type == data_type or both_on_cpu):
        return name
    if tensor.memory is Memory.IMAGE and memory is Memory.CPU:
        memory = Memory.BUFFER
    copied = transformed(name, memory)
    if copied not in made.tensors:
        made.tensors[copied] = Tensor(memory, data_type, tensor.shape)
        made.steps.append(Step("BufferTransform", (name,), (copied,)))
    return copied


def _hand_out(made: Adapted, name: str) -> None:
    """The copy at the end, for an output in an image or of 16-bit floats."""
    tensor = made.tensors[name]
    if tensor.memory is not Memory.IMAGE and tensor.data_type == "float":
        return
    inner = transformed(name, Memory.BUFFER)
    if inner in made.tensors:
        made.clashing.add(name)
        return
    made.tensors[inner] = tensor
    made.tensors[name] = Tensor(Memory.BUFFER, "float", tensor.shape)

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(inner if one == name else one for one in names)

    made.steps = [
        replace(step, inputs=renamed(step.inputs), outputs=renamed(step.outputs))
        for step in made.steps
    ]
    made.steps.append(Step("BufferTransform", (inner,), (name,)))


@dataclass(eq=False)
class Buffer:
    memory: Memory
    data_type: str
    dims: tuple[int, ...]
    content: str = ""


@dataclass(eq=False)
class Refs:
    """TensorRef: one for all tensors that are merged."""

    tensor: str
    count: int
    buffer: Buffer | None = None


def planned(net: Adapted) -> dict[str, Buffer]:
    """AllocateTensorMemory<SERIAL_OPT>: each tensor's buffer."""
    readers = Counter(name for step in net.steps for name in step.inputs if name in net.tensors)
    refs = {name: Refs(name, count) for name, count in readers.items()}
    for step in net.steps:
        output = step.outputs[0]
        if _reuses(step, net) and step.inputs[0] in refs and output in refs:
            refs[step.inputs[0]].count += refs[output].count
            refs[output] = refs[step.inputs[0]]
    free: list[Buffer] = []
    for step in net.steps:
        for name in step.outputs:
            entry = refs.setdefault(name, Refs(name, 1))
            if entry.tensor == name:
                entry.buffer = _allocated(net.tensors[name], free)
        for name in step.inputs:
            if name not in refs:
                continue
            refs[name].count -= 1
            buffer = refs[name].buffer
            if refs[name].count == 0 and buffer is not None:
                free.append(buffer)
    return {entry.tensor: entry.buffer for entry in refs.values() if entry.buffer is not None}


def _reuses(step: Step, net: Adapted) -> bool:
    in_image = net.tensors[step.outputs[0]].memory is Memory.IMAGE
    return step.op_type in REUSES and (step.op_type == "Squeeze" or not in_image)


def _allocated(tensor: Tensor, free: list[Buffer]) -> Buffer:
    """FindBestFreeBuffer: least waste, else least lack, of the same kind; else a new one."""
    fits: list[tuple[int, int]] = []
    small: list[tuple[int, int]] = []
    for index, buffer in enumerate(free):
        if (buffer.memory, buffer.data_type) != (tensor.memory, tensor.data_type):
            continue
        gaps = [one - other for one, other in zip(buffer.dims, tensor.dims, strict=True)]
        if min(gaps) < 0 < max(gaps):
            continue
        waste = math.prod(buffer.dims) - math.prod(tensor.dims)
        (fits if waste >= 0 else small).append((abs(waste), index))
    if not fits and not small:
        return Buffer(tensor.memory, tensor.data_type, tensor.dims)
    _, index = min(fits or small)
    chosen = free.pop(index)
    if not fits:
        chosen.dims = tensor.dims
    return chosen


def left_in(net: Adapted, outputs: Sequence[str]) -> dict[str, str]:
    """Run it: for each output the tensor whose values its memory holds at the end."""
    memory = planned(net)
    holds: dict[str, str] = {}
    for name in net.tensors:
        memory.setdefault(name, Buffer(Memory.CPU, "", ()))  # inputs, and memory of one's own
    made = {name for step in net.steps for name in step.outputs}
    for name in net.tensors.keys() - made:
        memory[name].content = holds[name] = name
    for step in net.steps:
        for name in step.inputs:
            if name in net.tensors:
                assert memory[name].content == holds[name], f"{name} is gone before it is read"
        lies = _reuses(step, net) and step.op_type != "Identity"
        for name in step.outputs:
            if lies:
                memory[name] = memory[step.inputs[0]]
                holds[name] = holds[step.inputs[0]]
            else:
                memory[name].content = holds[name] = name
    source = {holds[name]: name for name in outputs}
    return {
        name: source.get(memory[name].content, memory[name].content)
        if memory[name].content != holds[name]
        else name
        for name in outputs
    } | dict.fromkeys(net.clashing, "")


def overwritten(net: Adapted, outputs: Sequence[str]) -> set[str]:
    """The outputs whose values are not theirs at the end."""
    return {name for name, left in left_in(net, outputs).items() if left != name}
