"""This project's engine on an OpenCL driver, in this process.

Options: ``memory`` (``image`` or ``buffer``) and ``tuned``. The one place of the benchmarks that
knows the engine's insides.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pyopencl as cl

from droidmace.config import load_deployment
from droidmace.convert import convert_model
from droidmace.engine.create import EngineRequest, create_net
from droidmace.engine.flags import Flags
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.tuner import Tuner
from droidmace.errors import DroidmaceError
from rivals.base import Array, Runner, Task, UnavailableError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/nets"))
import nets


@dataclasses.dataclass(frozen=True)
class ConvertedNet:
    """A net as a MACE model: its files, and the names of its one input and one output."""

    graph: Path
    data: Path
    input_name: str
    output_name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def convert(model: Path, memory: str, folder: Path) -> ConvertedNet:
    """``model`` for OpenCL memory of kind ``memory``, in ``folder``; kept for the next caller."""
    graph, data = (folder / f"{model.stem}_{memory}.{kind}" for kind in ("pb", "data"))
    border = nets.description_of(onnx.load(str(model), load_external_data=False))
    if not graph.exists():
        deployment = folder / f"{model.stem}.yml"
        deployment.write_text(nets.deployment(onnx.load(str(model)), model), encoding="utf-8")
        (config,) = load_deployment(deployment).models.values()
        converted = convert_model(dataclasses.replace(config, cl_mem_type=memory))
        data.write_bytes(converted.data)
        graph.write_bytes(converted.graph)
    ((input_name, input_shape),) = border.inputs.items()
    ((output_name, output_shape),) = border.outputs.items()
    return ConvertedNet(graph, data, input_name, output_name, input_shape, output_shape)


class DroidmaceRunner(Runner):
    """A ``GpuNet`` as ``mace_run`` would make it."""

    def __init__(self, task: Task) -> None:
        device = _only_device()
        self.versions = {"pyopencl": cl.VERSION_TEXT, device.platform.name: device.driver_version}
        memory = task.options["memory"]
        try:
            model = convert(task.model, memory, task.scratch)
            parameters = ""
            if task.options.get("tuned"):
                parameters = _tune(model, task)
            self._net, _ = _make_net(model, parameters)
            self._model = model
            self._inputs = {model.input_name: _nhwc(task.image)}
            for _ in range(2):  # programs are built in the first run, launches prepared after it
                self._net.run(self._inputs)
        except DroidmaceError as exc:
            raise UnavailableError(f"{exc} ({(exc.details or 'no details')[:300]})") from exc

    def run(self) -> None:
        """See :class:`Runner`: all commands of a run, and waiting for the last."""
        self._net.run_resident()

    def run_with_io(self) -> Array:
        """See :class:`Runner`."""
        output = self._net.run(self._inputs)[self._model.output_name]
        return output.transpose(0, 3, 1, 2) if output.ndim == 4 else output


def _only_device() -> cl.Device:
    devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    if not devices:
        raise UnavailableError("the OpenCL driver shows no device")
    return devices[0]


def _nhwc(image: Array) -> Array:
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1)) if image.ndim == 4 else image


def _make_net(
    model: ConvertedNet, parameters: str, environ: dict[str, str] | None = None
) -> tuple[GpuNet, Tuner]:
    log = MaceLog.from_environment(dict(os.environ), StdioStream(2))
    environ = environ or {}
    tuner = Tuner(log, environ, parameters)
    request = EngineRequest(
        graph=model.graph.read_bytes(),
        weights=model.data.read_bytes(),
        input_names=[model.input_name],
        output_names=[model.output_name],
        flags=Flags(),
        environ={"MACE_INTERNAL_STORAGE_PATH": "", **environ},
        tuner=tuner,
        log=log,
    )
    net = create_net(request)
    if not isinstance(net, GpuNet):
        raise UnavailableError("the converted net does not run on the GPU")
    return net, tuner


def _tune(model: ConvertedNet, task: Task) -> str:
    """Tune, keep the parameters in the scratch folder, and return that file's path."""
    path = task.scratch / f"{model.graph.stem}_{task.options['driver']}_tuned.bin"
    environ = {"MACE_TUNING": "1", "MACE_RUN_PARAMETER_PATH": str(path)}
    start = time.perf_counter()
    net, tuner = _make_net(model, "", environ)
    net.run({model.input_name: _nhwc(task.image)})
    tuner.write()
    task.options["tuning_s"] = round(time.perf_counter() - start, 1)
    return str(path)


make = DroidmaceRunner
