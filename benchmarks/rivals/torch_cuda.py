"""PyTorch on an NVIDIA GPU, fp32 without TF32: eager, or captured in a CUDA graph.

Options: ``graph`` (replay a captured graph), ``device`` (``cuda``, or ``cpu`` for a reference).
"""

from __future__ import annotations

import onnx
import torch

from rivals.base import Array, Runner, Task, UnavailableError
from rivals.onnx_torch import TorchGraph


class TorchRunner(Runner):
    """The net as PyTorch calls."""

    def __init__(self, task: Task) -> None:
        device = task.options.get("device", "cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError("PyTorch finds no CUDA device")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.set_num_threads(task.threads)
        self.versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
        self._on_gpu = device == "cuda"
        self._graph = TorchGraph(onnx.load(str(task.model)), device)
        self._image = torch.from_numpy(task.image)
        self._resident = self._image.to(device)
        self._output = self._forward()
        self._captured: torch.cuda.CUDAGraph | None = None
        if task.options.get("graph"):
            self._capture()
        self.run()

    def _forward(self) -> torch.Tensor:
        return self._graph(self._resident)

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # what cuDNN chooses is chosen before the capture
                self._forward()
        torch.cuda.current_stream().wait_stream(stream)
        self._captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._captured):
            self._output = self._forward()

    def _start(self) -> None:
        if self._captured is None:
            self._output = self._forward()
        else:
            self._captured.replay()

    def run(self) -> None:
        """See :class:`Runner`."""
        self._start()
        if self._on_gpu:
            torch.cuda.synchronize()

    def run_with_io(self) -> Array:
        """See :class:`Runner`."""
        self._resident.copy_(self._image)
        self._start()
        values: Array = self._output.cpu().numpy()
        return values


make = TorchRunner
