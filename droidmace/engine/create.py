"""Creating an engine from a model file: what ``CreateMaceEngineFromProto`` does."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from droidmace.engine.attributes import OUT_OF_RESOURCES
from droidmace.engine.flags import Flags
from droidmace.engine.macelog import MaceLog, format_vector
from droidmace.engine.model import Model, load_model
from droidmace.engine.net import Net
from droidmace.engine.tuner import Tuner
from droidmace.engine.version import MACE_VERSION
from droidmace.errors import EngineError, FormatError
from droidmace.formats.netdef import DeviceType, parse_model

if TYPE_CHECKING:
    from droidmace.engine.opencl.opening import OpenedDriver

_SERIAL_ENGINE = "libmace/engines/serial_engine.cc"
_WRAPPER = "runtimes/opencl/core/opencl_wrapper.cc"
# pyopencl imports two of its modules as late as the first kernel
_GPU_MODULES = ("droidmace.engine.gpu_net", "pyopencl.characterize", "pyopencl.invoker")
_CPU_MODULES = ("droidmace.engine.cpu_net",)
_DEFAULT_STORAGE = "/data/local/tmp/mace_run/interior"


@dataclass(frozen=True)
class EngineRequest:
    """Everything an engine is made from.

    ``expects_gpu``: what :func:`import_runtime` found; the driver is then opened while the model is
    parsed.
    """

    graph: bytes
    weights: bytes | memoryview
    input_names: Sequence[str]
    output_names: Sequence[str]
    flags: Flags
    environ: Mapping[str, str]
    tuner: Tuner
    log: MaceLog
    expects_gpu: bool = False


def import_runtime(graph: bytes) -> bool:
    """Import what the model runs on, so that its latencies measure work and not imports.

    Returns whether that is the GPU, and its modules are there. Whatever is wrong with the model or
    the imports is reported when the engine is created.
    """
    with contextlib.suppress(FormatError, EngineError, ImportError):
        nets = parse_model(graph).nets
        on_gpu = any(net.int_arg("runtime_type") == DeviceType.GPU for net in nets)
        for module in _GPU_MODULES if on_gpu else _CPU_MODULES:
            importlib.import_module(module)
        return on_gpu
    return False


def create_net(request: EngineRequest) -> Net:
    """Make the model's net ready to run.

    Raises ``EngineError`` where MACE returns an error status; its text is the status's. Aborts when
    the named inputs and outputs are not the model's.
    """
    log = request.log
    log.info(f"{_SERIAL_ENGINE}:32", f"Creating SerialEngine, MACE version: {MACE_VERSION}")
    opening = _begin_opening() if request.expects_gpu else None
    try:
        model = load_model(parse_model(request.graph), request.weights)
    except FormatError as exc:
        raise EngineError(f"Invalid Arguments: {exc}", details=exc.details) from exc
    if model.runtime == DeviceType.GPU:
        net = _gpu_net(model, request, opening)
    elif model.runtime == DeviceType.CPU:
        from droidmace.engine.cpu_net import CpuNet

        net = CpuNet(model, log, log_ranges=_logs_ranges(request.environ))
    else:
        raise EngineError(f"Unsupported: runtime_type {model.runtime}")
    _check_names(model, request)
    if request.flags.fake_warmup:
        net.prepare()
    return net


def _begin_opening() -> Future[OpenedDriver | None]:
    from droidmace.engine.opencl.opening import begin_opening

    return begin_opening()


def _gpu_net(
    model: Model, request: EngineRequest, opening: Future[OpenedDriver | None] | None
) -> Net:
    environ, flags, tuner, log = request.environ, request.flags, request.tuner, request.log
    try:
        # a CPU model needs no OpenCL, not even to be imported
        from droidmace.engine.gpu_net import GpuNet
        from droidmace.engine.opencl.device import open_device
        from droidmace.engine.opencl.program import ProgramLibrary, ProgramPaths
        from droidmace.engine.opencl.runtime import Gpu
    except ImportError as exc:
        log.error(f"{_WRAPPER}:348", f"Failed to load OpenCL library: {exc}")
        raise EngineError(OUT_OF_RESOURCES, details=str(exc)) from exc
    profiling = tuner.is_tuning or environ.get("MACE_OPENCL_PROFILING") == "1"
    device = open_device(log, environ, profiling=profiling, opening=opening)
    paths = ProgramPaths(
        storage_dir=environ.get("MACE_INTERNAL_STORAGE_PATH", _DEFAULT_STORAGE),
        cache_path=flags.opencl_cache_full_path,
        binary_path=flags.opencl_binary_file,
        reuse_policy=flags.opencl_cache_reuse_policy,
    )
    programs = ProgramLibrary(device, paths, log, tuning=tuner.is_tuning)
    limited = environ.get("MACE_LIMIT_OPENCL_KERNEL_TIME") == "1" or bool(
        model.net.int_arg("limit_opencl_kernel_time")
    )
    gpu = Gpu(
        device,
        programs,
        tuner,
        log,
        limit_kernel_time=limited,
        failure_ratio=_failure_ratio(environ),
        check_range=environ.get("MACE_OUT_OF_RANGE_CHECK") == "1",
    )
    return GpuNet(model, gpu, log_ranges=_logs_ranges(environ))


def _logs_ranges(environ: Mapping[str, str]) -> bool:
    return environ.get("MACE_LOG_TENSOR_RANGE") == "1"


def _failure_ratio(environ: Mapping[str, str]) -> float:
    try:
        return float(environ.get("MACE_RUNTIME_FAILURE_RATIO", "0"))
    except ValueError:
        return 0.0


def _check_names(model: Model, request: EngineRequest) -> None:
    outputs = {info.name for info in model.net.output_infos}
    missing = [name for name in request.output_names if name not in outputs]
    if missing:
        request.log.fatal(
            f"{_SERIAL_ENGINE}:380",
            "Check failed: out_nodes.size() == 0 can not find output in model: "
            + format_vector(missing),
        )
    for info in model.net.input_infos:
        if info.name not in request.input_names:
            request.log.fatal(
                f"{_SERIAL_ENGINE}:398",
                f"Check failed: find_iter != in_nodes.end() Can not find flow's input: {info.name}",
            )
    inputs = {info.name for info in model.net.input_infos}
    unknown = [name for name in request.input_names if name not in inputs]
    if unknown:
        request.log.fatal(
            f"{_SERIAL_ENGINE}:407",
            "Check failed: in_nodes.size() == 0 can not find input in model: "
            + format_vector(unknown),
        )
