"""tinygrad on an OpenCL driver: its ONNX reader, captured by its JIT."""

from __future__ import annotations

import importlib.metadata

from tinygrad import Device, Tensor, TinyJit
from tinygrad.nn.onnx import OnnxRunner

from rivals.base import Array, Runner, Task


class TinygradRunner(Runner):
    """The net as one captured graph of kernels, with tinygrad's hand-written optimisations."""

    def __init__(self, task: Task) -> None:
        self.versions = {"tinygrad": importlib.metadata.version("tinygrad")}
        runner = OnnxRunner(str(task.model))
        (input_name,) = runner.graph_inputs
        (output_name,) = runner.graph_outputs
        self._device = Device[Device.DEFAULT]
        self._jit = TinyJit(lambda image: runner({input_name: image})[output_name].realize())
        self._image = task.image
        self._resident = Tensor(task.image).realize()
        for _ in range(3):  # the first run builds, the second is captured
            self._jit(self._resident)
        self._device.synchronize()

    def run(self) -> None:
        """See :class:`Runner`."""
        self._jit(self._resident)
        self._device.synchronize()

    def run_with_io(self) -> Array:
        """See :class:`Runner`."""
        return self._jit(Tensor(self._image).realize()).numpy()


make = TinygradRunner
