"""The processes of a bisection: parts of a net on either runtime, and the tensors they hand out.

Tensors of the CPU stay on the phone: parts that are fed with them read them from where the run that
made them left them.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from droidmace.config import ModelConfig
from droidmace.devices.base import Device
from droidmace.errors import MaceRunOutputError
from droidmace.formats.netdef import DeviceType, serialize_model
from droidmace.graphs.held import held
from droidmace.graphs.parts import Dissection, Part
from droidmace.graphs.runtime import on_runtime
from droidmace.macerun.events import FellBack, OutputLine
from droidmace.macerun.invocation import Invocation, TensorArg, formatted_name
from droidmace.macerun.session import MaceRunSession
from droidmace.results.bisect import BisectRun
from droidmace.validation.bisection import run_limit
from droidmace.validation.tensor_error import Array
from droidmace.workflows.measure import Layout, Progress, make_folders

Tensors = Mapping[str, Array]
"""By the whole net's names, in the declared shapes: images NHWC."""
RUNTIME_NAMES = {DeviceType.CPU: "cpu", DeviceType.GPU: "gpu"}
STORAGE = "bisect"
"""The folder on the phone for compiled programs: no kernel is built twice."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the parts of one net run."""

    device: Device
    session: MaceRunSession
    layout: Layout
    model: ModelConfig
    base: Invocation
    dissection: Dissection
    timeout_s: float

    @property
    def folder(self) -> str:
        """Below the root, with all files of the bisection."""
        return posixpath.join(self.layout.root, "bisect", self.layout.model_name)

    def tensor_prefix(self, name: str) -> str:
        """Prefix of a run's tensors; ``mace_run`` appends ``_<tensor>``."""
        return posixpath.join(self.folder, name)

    def input_arg(self, tensor: str, short: str) -> TensorArg:
        """An input of a part: one of the model's as the deployment file has it, or a tensor."""
        for spec in self.model.inputs:
            if spec.name == tensor:
                return TensorArg(short, spec.shape, spec.data_type, spec.data_format)
        return self.output_arg(tensor, short)

    def output_arg(self, tensor: str, short: str) -> TensorArg:
        """A tensor as every part writes it: images NHWC."""
        shape = self.dissection.activations[tensor].shape
        data_format = "NHWC" if len(shape) == 4 else "NONE"
        return TensorArg(short, shape or (1,), data_format=data_format)


@dataclass(slots=True)
class PartRunner:
    """Runs parts, and counts."""

    desk: Desk
    on_run: Progress
    runs: list[BisectRun] = field(default_factory=list)
    on_cpu: frozenset[str] = frozenset()
    """Ops of the net that MACE put on the CPU in the last run, on a GPU."""

    def whole_net(self, model_file: str, runtime: DeviceType, what: str) -> Tensors:
        """The model as it is, with its own outputs."""
        desk = self.desk
        infos = desk.dissection.net.output_infos
        names = [one.name for one in infos if one.name in desk.dissection.activations]
        invocation = replace(
            desk.base,
            model_file=model_file,
            outputs=tuple(desk.output_arg(name, name) for name in names),
            output_file=desk.tensor_prefix("whole"),
        )
        return self._run(invocation, dict(zip(names, names, strict=True)), runtime, what)

    def part(
        self,
        part: Part,
        runtime: DeviceType,
        what: str,
        *,
        weights: bytes | None = None,
        inputs: Mapping[str, bytes] | None = None,
        keep: bool = False,
        on_cpu: Collection[str] = (),
    ) -> Tensors:
        """A part of the net, fed with the tensors that were kept (see :func:`feed`).

        ``weights``: of its own, instead of the whole model's. ``inputs``: all of its inputs by the
        net's names, instead of those that were kept. ``keep``: leave what it makes on the phone for
        parts to come. ``on_cpu``: ops of the part that are known to run on the CPU, on a GPU.
        """
        desk = self.desk
        graph = posixpath.join(desk.folder, "part.pb")
        data = desk.layout.weights
        model = on_runtime(held(part.model, runtime, on_cpu), runtime)
        desk.device.push(serialize_model(model), graph)
        if weights is not None:
            data = posixpath.join(desk.folder, "part.data")
            desk.device.push(weights, data)
        for name, content in (inputs or {}).items():
            short = formatted_name(part.inputs[name])
            desk.device.push(content, f"{desk.tensor_prefix('fed')}_{short}")
        invocation = replace(
            desk.base,
            model_file=graph,
            model_data_file=data,
            inputs=tuple(desk.input_arg(*pair) for pair in part.inputs.items()),
            outputs=tuple(desk.output_arg(*pair) for pair in part.outputs.items()),
            input_file=desk.tensor_prefix("kept" if inputs is None else "fed"),
            output_file=desk.tensor_prefix("kept" if keep else "made"),
        )
        return self._run(invocation, part.outputs, runtime, what)

    def _run(
        self,
        invocation: Invocation,
        names: Mapping[str, str],
        runtime: DeviceType,
        what: str,
    ) -> Tensors:
        desk = self.desk
        run = BisectRun(RUNTIME_NAMES[runtime], what)
        self.runs.append(run)
        limit = run_limit(len(desk.dissection.net.ops))
        self.on_run(f"run {len(self.runs)}: {run.runtime}, {what}", len(self.runs) - 1, limit)
        fell_back: set[str] = set()

        def look(line: OutputLine) -> None:
            if isinstance(line.event, FellBack):
                fell_back.add(line.event.name)

        desk.session.run(invocation, timeout_s=desk.timeout_s, on_line=look)
        self.on_cpu = frozenset(fell_back.intersection(op.name for op in desk.dissection.net.ops))
        paths = {
            name: invocation.absolute(f"{invocation.output_file}_{formatted_name(short)}")
            for name, short in names.items()
        }
        return fetched(desk, paths)


def feed(desk: Desk, inputs: Mapping[str, bytes]) -> None:
    """Bring the phone the model's inputs under the names that parts have for them."""
    desk.device.remove(desk.folder)
    desk.device.remove(desk.layout.storage(STORAGE))
    make_folders(desk.device, desk.folder, desk.layout.storage(STORAGE))
    for name, content in inputs.items():
        short = formatted_name(desk.dissection.name(name))
        desk.device.push(content, f"{desk.tensor_prefix('kept')}_{short}")


def clear(desk: Desk) -> None:
    """Leave nothing of the bisection on the phone."""
    desk.device.remove(desk.folder)
    desk.device.remove(desk.layout.storage(STORAGE))


def fetched(desk: Desk, paths: Mapping[str, str]) -> Tensors:
    """The content of the files, by name."""
    found: dict[str, Array] = {}
    with tempfile.TemporaryDirectory(prefix="droidmace-") as folder:
        target = Path(folder) / "tensor"
        for name, path in paths.items():
            activation = desk.dissection.activations[name]
            desk.device.pull(path, target, max_bytes=activation.size_bytes)
            content = target.read_bytes()
            if len(content) != activation.size_bytes:
                raise MaceRunOutputError(
                    f"wrote {len(content):,} bytes of tensor {name!r}, and it takes "
                    f"{activation.size_bytes:,}",
                    where=f"{desk.device.serial}:{path}",
                    hint="does the phone have space left, and is the .pb that of this model?",
                )
            values = np.frombuffer(content, "<f4")
            found[name] = values.reshape(activation.shape)
    return found
