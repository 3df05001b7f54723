"""A phone whose ``mace_run`` shares memory between tensors as MACE does, in this process.

Values come from the engine's CPU nets; what of an output is left at the end comes from MACE's plan
(:mod:`tests.graphs.mace_memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.macelog import MaceLog
from droidmace.engine.model import load_model
from droidmace.formats.netdef import (
    DeviceType,
    MemoryType,
    MultiNetDef,
    NetDef,
    parse_model,
    serialize_model,
)
from droidmace.graphs.parts import Dissection
from droidmace.graphs.runtime import on_runtime
from droidmace.graphs.variants import is_half, memory_type
from droidmace.macerun.invocation import Invocation, TensorArg, formatted_name
from droidmace.macerun.output import OutputParser
from droidmace.macerun.session import LineCallback
from droidmace.workflows.bisect_runs import Desk, PartRunner, feed
from droidmace.workflows.measure import Layout
from tests.graphs.mace_memory import Memory, adapted, left_in

WHOLE = "/phone/whole.pb"
LAYOUT = Layout("/phone", "mace_run", "net")
MEMORY = {MemoryType.GPU_BUFFER: Memory.BUFFER, MemoryType.GPU_IMAGE: Memory.IMAGE}
Spoil = Callable[[NetDef], NetDef]


@dataclass
class MacePhone:
    """Both the device and the session on it. ``on_cpu``: ops that fall back on the GPU."""

    weights: bytes
    on_cpu: frozenset[str] = frozenset()
    on_cpu_alone: frozenset[str] | None = None
    """Those that fall back by themselves as well; all unless told."""
    on_cpu_in_buffers: frozenset[str] = frozenset()
    spoil: Spoil = lambda net: net
    """Makes something of a GPU's net wrong."""
    serial: str = "mace"
    files: dict[str, bytes] = field(default_factory=dict)

    def push(self, content: bytes, path: str) -> None:
        self.files[path] = content

    def pull(self, path: str, target: Path, *, max_bytes: int) -> None:
        target.write_bytes(self.files[path])

    def remove(self, path: str) -> None:
        self.files = {name: one for name, one in self.files.items() if not name.startswith(path)}

    def run(self, command: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(exit_code=0, text="")


@dataclass
class MaceSession:
    """Runs what it is asked on the files of a phone."""

    phone: MacePhone

    def run(
        self, invocation: Invocation, *, timeout_s: float, on_line: LineCallback | None = None
    ) -> None:
        phone = self.phone
        model = parse_model(phone.files[invocation.model_file])
        (net,) = model.nets
        on_cpu = phone.on_cpu
        if phone.on_cpu_alone is not None and invocation.model_file != WHOLE:
            on_cpu = phone.on_cpu_alone
        if memory_type(net) is MemoryType.GPU_BUFFER:
            on_cpu |= phone.on_cpu_in_buffers
        gpu = net.int_arg("runtime_type") == DeviceType.GPU
        weights = phone.files.get(invocation.model_data_file, phone.weights)
        inputs = {
            one.name: np.frombuffer(
                phone.files[f"{invocation.input_file}_{formatted_name(one)}"], "<f4"
            ).reshape(one.shape)
            for one in invocation.inputs
        }
        if gpu:
            parser = OutputParser()
            for op in net.ops:
                if op.name in on_cpu or op.type == "Shape":
                    text = f"Op {op.name}({op.type}) fall back to CPU\n"
                    for line in parser.feed(f"I mace/core/net_def_adapter.cc:414] {text}".encode()):
                        if on_line is not None:
                            on_line(line)
        outputs = [one.name for one in invocation.outputs]
        for name, values in self._outputs(
            model, weights, inputs, outputs, on_cpu if gpu else None
        ).items():
            phone.files[f"{invocation.output_file}_{formatted_name(name)}"] = values.tobytes()

    def _outputs(
        self,
        model: MultiNetDef,
        weights: bytes,
        inputs: Mapping[str, np.ndarray],
        outputs: list[str],
        on_cpu: frozenset[str] | None,
    ) -> dict[str, np.ndarray]:
        """``on_cpu``: the ops that fall back; None on the CPU itself."""
        (net,) = model.nets
        gpu = on_cpu is not None
        memory = MEMORY[memory_type(net)] if gpu else Memory.CPU
        plan = adapted(net, memory, half=is_half(net), on_cpu=on_cpu or ())
        if gpu:
            net = self.phone.spoil(net)
        on_cpu = on_runtime(MultiNetDef(nets=(net,)), DeviceType.CPU)
        computed = CpuNet(load_model(on_cpu, weights), MaceLog({})).run(inputs)
        found = {}
        for name, left in left_in(plan, outputs).items():
            other = computed.get(left)
            values = np.full(computed[name].size, 7.25, np.float32)
            if other is not None:
                values = np.resize(other.ravel(), values.size)
            found[name] = values.astype("<f4")
        return found


def runner_on(phone: MacePhone, model: MultiNetDef, inputs: Mapping[str, np.ndarray]) -> PartRunner:
    """A runner of the model's parts there, all files in place."""
    specs = tuple(
        SimpleNamespace(name=name, shape=one.shape, data_type="float32", data_format="NHWC")
        for name, one in inputs.items()
    )
    settings = SimpleNamespace(inputs=specs, similarity_threshold=0.995, name="net")
    (net,) = model.nets
    base = Invocation(
        cwd=LAYOUT.root,
        model_name="net",
        model_file=LAYOUT.graph,
        model_data_file=LAYOUT.weights,
        inputs=tuple(TensorArg(one.name, one.shape) for one in specs),
        outputs=tuple(TensorArg(one.name, one.dims) for one in net.output_infos),
        input_file=LAYOUT.input_prefix,
        output_file=LAYOUT.output_prefix,
    )
    session = MaceSession(phone)
    desk = Desk(phone, session, LAYOUT, settings, base, Dissection(model), 1.0)  # type: ignore[arg-type]
    contents = {name: one.astype("<f4").tobytes() for name, one in inputs.items()}
    feed(desk, contents)
    for name, content in contents.items():
        phone.files[f"{LAYOUT.input_prefix}_{formatted_name(name)}"] = content
    phone.files[LAYOUT.weights] = phone.weights
    phone.files[WHOLE] = serialize_model(on_runtime(model, DeviceType.GPU))
    return PartRunner(desk, lambda *_: None)
