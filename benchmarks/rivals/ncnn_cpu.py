"""ncnn on the CPU, in fp32; ``pnnx`` turns the ONNX file into its format."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

import ncnn
import numpy as np

from rivals.base import Array, Runner, Task, UnavailableError


class NcnnRunner(Runner):
    """One extractor per inference, as ncnn's own benchmark does."""

    def __init__(self, task: Task) -> None:
        files = _converted(task)
        net = ncnn.Net()
        net.opt.num_threads = task.threads
        net.opt.use_vulkan_compute = False
        for name in dir(net.opt):
            if name.startswith(("use_fp16", "use_bf16")):
                setattr(net.opt, name, False)
        if net.load_param(str(files[0])) or net.load_model(str(files[1])):
            raise UnavailableError("ncnn cannot load what pnnx wrote")
        self.versions = {"ncnn": ncnn.__version__, "pnnx": importlib.metadata.version("pnnx")}
        self._net = net
        self._image = np.ascontiguousarray(task.image[0])
        self._input = ncnn.Mat(self._image).clone()
        self._names = net.input_names()[0], net.output_names()[0]

    def _extract(self, image: ncnn.Mat) -> ncnn.Mat:
        extractor = self._net.create_extractor()
        extractor.input(self._names[0], image)
        status, output = extractor.extract(self._names[1])
        if status:
            raise UnavailableError(f"ncnn's extract gives {status}")
        return output

    def run(self) -> None:
        """See :class:`Runner`."""
        self._extract(self._input)

    def run_with_io(self) -> Array:
        """See :class:`Runner`."""
        output = self._extract(ncnn.Mat(self._image).clone())
        return np.array(output)[np.newaxis]


def _converted(task: Task) -> tuple[Path, Path]:
    """The net in ncnn's format: parameters and weights."""
    folder = task.scratch / "ncnn"
    files = folder / f"{task.name}.ncnn.param", folder / f"{task.name}.ncnn.bin"
    if all(file.exists() for file in files):
        return files
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise UnavailableError("pnnx is not installed")
    folder.mkdir(exist_ok=True)
    model = folder / task.model.name
    shutil.copy(task.model, model)
    shape = ",".join(map(str, task.image.shape))
    done = subprocess.run(
        # the package's own program: its Python part would import PyTorch
        [Path(spec.origin).parent / "pnnx", model.name, f"inputshape=[{shape}]", "fp16=0"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if not all(file.exists() for file in files):
        raise UnavailableError(f"pnnx cannot convert the net: {done.stderr[-300:]}")
    return files


make = NcnnRunner
