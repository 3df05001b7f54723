"""onnxruntime on the CPU: the reference answers, and the latency that others are measured by."""

from __future__ import annotations

import onnxruntime

from rivals.base import Array, Runner, Task


class OnnxRuntimeRunner(Runner):
    """Sequential execution with a fixed number of threads."""

    def __init__(self, task: Task) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(task.model), options, providers=["CPUExecutionProvider"]
        )
        self.versions = {"onnxruntime": onnxruntime.__version__}
        self._session = session
        self._feeds = {session.get_inputs()[0].name: task.image}
        self._binding = session.io_binding()
        self._binding.bind_cpu_input(session.get_inputs()[0].name, task.image)
        self._binding.bind_output(session.get_outputs()[0].name, "cpu")

    def run(self) -> None:
        """See :class:`Runner`."""
        self._session.run_with_iobinding(self._binding)

    def run_with_io(self) -> Array:
        """See :class:`Runner`."""
        return self._session.run(None, self._feeds)[0]


make = OnnxRuntimeRunner
