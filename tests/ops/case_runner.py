"""Converting a case and running it, as a user's model goes: through the files' bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from onnx_cases import Array, Case, reference

from droidmace.config import ModelConfig
from droidmace.config import TensorSpec as Declared
from droidmace.convert import ConvertedModel, convert_model
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.model import load_model
from droidmace.engine.net import Net
from droidmace.engine.tensors import TensorSpec, from_net, to_net
from droidmace.errors import EngineError, ModelError
from droidmace.formats.netdef import parse_model

ATOL = 1e-5
NO_SUCH_OP = "this op cannot be converted"
"""How the converter's refusal of an op that it does not know ends."""
RIGHT, WRONG, REFUSED, FAILED = "right", "wrong", "refused", "failed"


class AbortedError(Exception):
    """Where the engine would have aborted."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case on a runtime."""

    case: str
    op: str
    runtime: str
    verdict: str
    """``right``, ``wrong`` (other values), ``refused`` (not converted), ``failed`` (not run)."""
    reason: str = ""
    constants: tuple[str, ...] = ()
    """Inputs that had to be constants."""


class Runner:
    """Runs cases one after another; programs are built once for all of them."""

    def __init__(self, runtime: str, folder: Path, memory: str = "image") -> None:
        self.runtime = runtime
        self._path = folder / "case.onnx"
        self._memory = memory
        self._log = MaceLog(
            StdioStream(os.open(os.devnull, os.O_WRONLY)), verbosity=0, abort=self._abort
        )
        self._gpu = None
        if runtime == "gpu":
            from droidmace.engine.opencl.device import open_device
            from droidmace.engine.opencl.program import ProgramLibrary, ProgramPaths
            from droidmace.engine.opencl.runtime import Gpu
            from droidmace.engine.tuner import Tuner

            device = open_device(self._log, {}, profiling=False)
            programs = ProgramLibrary(device, ProgramPaths(), self._log, tuning=False)
            self._gpu = Gpu(device, programs, Tuner(self._log, {}, ""), self._log)

    @staticmethod
    def _abort() -> NoReturn:
        raise AbortedError

    def run(self, case: Case) -> Outcome:
        """The first of the case's variants that converts decides."""
        try:
            return self._run_variants(case)
        except Exception as exc:  # whatever else it is, it is a defect: shown, not raised
            reason = f"{type(exc).__name__}: {exc}"
            return Outcome(case.name, case.op, self.runtime, FAILED, reason)

    def _run_variants(self, case: Case) -> Outcome:
        refusal = ""
        for variant in case.variants():
            open_names = {name.removesuffix("_image") for name in variant.inputs}
            constants = tuple(sorted(case.inputs.keys() - open_names))
            try:
                config, converted = self._convert(variant)
            except ModelError as error:
                refusal = error.message
                if refusal.endswith(NO_SUCH_OP):
                    break  # no variant will change that
                continue
            verdict, reason = self._judge(variant, config, converted)
            return Outcome(case.name, case.op, self.runtime, verdict, reason, constants)
        return Outcome(case.name, case.op, self.runtime, REFUSED, refusal)

    def _convert(self, case: Case) -> tuple[ModelConfig, ConvertedModel]:
        self._path.write_bytes(case.model.SerializeToString())
        config = ModelConfig(
            name="case",
            platform="onnx",
            model_file=self._path,
            model_sha256=None,
            weight_file=None,
            weight_sha256=None,
            inputs=tuple(_declare(name, value) for name, value in case.inputs.items()),
            outputs=tuple(_declare(name, value) for name, value in case.outputs.items()),
            runtime=self.runtime,
            data_type="fp32_fp32",
            cl_mem_type=self._memory,
        )
        return config, convert_model(config)

    def _judge(self, case: Case, config: ModelConfig, converted: ConvertedModel) -> tuple[str, str]:
        try:
            found = self._run(case, config, converted)
        except EngineError as error:
            return FAILED, error.message
        except AbortedError:
            return FAILED, "aborted"
        wrong = _differing(found, case.outputs, case.rtol)
        if wrong and not _differing(found, reference(case), case.rtol):
            return RIGHT, ""
        return (WRONG, wrong) if wrong else (RIGHT, "")

    def _run(self, case: Case, config: ModelConfig, converted: ConvertedModel) -> dict[str, Array]:
        """As ``mace_run`` does between its files."""
        net = self._net(converted)
        values = {
            spec.name: to_net(case.inputs[spec.name].astype(np.float32), _spec(spec))
            for spec in config.inputs
        }
        made = net.run(values)
        return {
            spec.name: from_net(made[spec.name], _spec(spec), self._log).reshape(spec.shape)
            for spec in config.outputs
        }

    def _net(self, converted: ConvertedModel) -> Net:
        model = load_model(parse_model(converted.graph), converted.data)
        if self._gpu is None:
            from droidmace.engine.cpu_net import CpuNet

            return CpuNet(model, self._log)
        from droidmace.engine.gpu_net import GpuNet

        return GpuNet(model, self._gpu)


def _differing(found: dict[str, Array], wanted: dict[str, Array], rtol: float) -> str:
    """The first output that is another, in words."""
    for name, value in wanted.items():
        if not np.allclose(found[name], value, rtol=rtol, atol=ATOL, equal_nan=True):
            far = np.max(np.abs(found[name] - value), initial=0)
            return f"output {name!r} is off by up to {far:.3g}"
    return ""


def _declare(name: str, value: Array) -> Declared:
    whole = value.dtype in (np.int32, np.int64)
    return Declared(
        name,
        tuple(value.shape),
        data_type="int32" if whole else "float32",
        data_format="NCHW" if value.ndim == 4 else "NONE",
    )


def _spec(spec: Declared) -> TensorSpec:
    return TensorSpec(spec.name, spec.shape, spec.data_type, spec.data_format)
