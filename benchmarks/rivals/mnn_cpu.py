"""MNN on the CPU, in fp32; ``mnnconvert`` of its wheel turns the ONNX file into its format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import MNN
import numpy as np

from rivals.base import Array, Runner, Task, UnavailableError


class MnnRunner(Runner):
    """A session of MNN's interpreter."""

    def __init__(self, task: Task) -> None:
        self._interpreter = MNN.Interpreter(str(_converted(task)))
        self._session = self._interpreter.createSession(
            {"backend": "CPU", "numThread": task.threads, "precision": "high"}
        )
        self.versions = {"MNN": MNN.version()}
        self._input = self._interpreter.getSessionInput(self._session)
        self._interpreter.resizeTensor(self._input, task.image.shape)
        self._interpreter.resizeSession(self._session)
        self._image = task.image
        self._upload()

    def _upload(self) -> None:
        self._input.copyFrom(_host_tensor(self._image))

    def run(self) -> None:
        """See :class:`Runner`."""
        self._interpreter.runSession(self._session)

    def run_with_io(self) -> Array:
        """See :class:`Runner`."""
        self._upload()
        self._interpreter.runSession(self._session)
        output = self._interpreter.getSessionOutput(self._session)
        host = _host_tensor(np.zeros(output.getShape(), np.float32))
        output.copyToHostTensor(host)
        return np.array(host.getNumpyData(), np.float32).reshape(output.getShape())


def _host_tensor(values: Array) -> MNN.Tensor:
    return MNN.Tensor(values.shape, MNN.Halide_Type_Float, values, MNN.Tensor_DimensionType_Caffe)


def _converted(task: Task) -> Path:
    """The net in MNN's format."""
    target = task.scratch / f"{task.name}.mnn"
    if not target.exists():
        command = [str(Path(sys.executable).parent / "mnnconvert"), "-f", "ONNX", "--bizCode", "x"]
        command += ["--modelFile", str(task.model), "--MNNModel", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not target.exists():
            raise UnavailableError(f"mnnconvert cannot convert the net: {done.stdout[-300:]}")
    return target


make = MnnRunner
