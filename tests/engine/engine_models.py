"""Small models for tests: one op, random weights, and the two runtimes to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.macelog import MaceLog
from droidmace.engine.model import Model
from droidmace.engine.opencl.device import open_device
from droidmace.engine.opencl.program import ProgramLibrary, ProgramPaths
from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.tuner import Tuner
from droidmace.formats.netdef import (
    Argument,
    DataType,
    InputOutputInfo,
    MemoryType,
    NetDef,
    OperatorDef,
)

Array = npt.NDArray[np.float32]
ArgumentValue = int | float | str | Sequence[int] | Sequence[float]


def argument(name: str, value: ArgumentValue) -> Argument:
    """A MACE argument of the right kind for ``value``."""
    if isinstance(value, int):
        return Argument(name=name, i=value)
    if isinstance(value, float):
        return Argument(name=name, f=value)
    if isinstance(value, str):
        return Argument(name=name, s=value.encode())
    if value and isinstance(value[0], float):
        return Argument(name=name, floats=tuple(float(item) for item in value))
    return Argument(name=name, ints=tuple(int(item) for item in value))


def op(kind: str, inputs: Sequence[str], output: str, **arguments: ArgumentValue) -> OperatorDef:
    """One op, named after its output."""
    return OperatorDef(
        inputs=tuple(inputs),
        outputs=(output,),
        name=f"{output}_op",
        type=kind,
        args=tuple(argument(name, value) for name, value in arguments.items()),
    )


def model(
    ops: Sequence[OperatorDef],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
    constants: Mapping[str, npt.NDArray[np.generic]] | None = None,
    *,
    data_type: DataType = DataType.DT_FLOAT,
    arguments: Mapping[str, ArgumentValue] | None = None,
) -> Model:
    """A model of these ops."""
    net = NetDef(
        name="test",
        ops=tuple(ops),
        args=tuple(
            argument(name, value)
            for name, value in {"runtime_type": 2, "framework_type": 2, **(arguments or {})}.items()
        ),
        data_type=data_type,
        input_infos=tuple(InputOutputInfo(name=name, dims=dims) for name, dims in inputs.items()),
        output_infos=tuple(InputOutputInfo(name=name) for name in outputs),
    )
    return Model(net, dict(constants or {}))


def make_gpu(
    device: object,
    log: MaceLog,
    environ: Mapping[str, str] | None = None,
    parameter_file: str = "",
    *,
    limit_kernel_time: bool = False,
) -> Gpu:
    """A device ready for nets; profiling is on, nothing is stored."""
    tuner = Tuner(log, environ or {}, parameter_file)
    opened = open_device(log, {}, profiling=True, device=device)
    programs = ProgramLibrary(opened, ProgramPaths(), log, tuning=tuner.is_tuning)
    return Gpu(opened, programs, tuner, log, limit_kernel_time=limit_kernel_time)


def with_parameters(gpu: Gpu, log: MaceLog, parameter_file: str) -> Gpu:
    """The same device and its built programs, with other tuned parameters."""
    return Gpu(gpu.device, gpu.programs, Tuner(log, {}, parameter_file), log)


def run_both(
    made: Model, inputs: Mapping[str, Array], gpu: Gpu, log: MaceLog
) -> list[tuple[Array, Array]]:
    """Per memory and output what the GPU and what numpy make of it."""
    on_cpu = CpuNet(made, log).run(inputs)
    return [
        (ours, on_cpu[name])
        for memory in (MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER)
        for name, ours in GpuNet(in_memory(made, memory), gpu).run(inputs).items()
    ]


def in_memory(made: Model, memory: MemoryType) -> Model:
    """The same model with its activations in ``memory``."""
    kept = tuple(arg for arg in made.net.args if arg.name != "opencl_mem_type")
    net = replace(made.net, args=(*kept, argument("opencl_mem_type", int(memory))))
    return Model(net, made.constants)
