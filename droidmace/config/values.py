"""What deployment files say, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from droidmace.config.dataset import DatasetConfig
from droidmace.config.gate import GateConfig
from droidmace.config.search import SearchConfig
from droidmace.config.validate import ValidateConfig

ABIS = (
    "host",
    "armeabi-v7a",
    "arm64-v8a",
    "x86",
    "x86_64",
    "arm-linux-gnueabihf",
    "aarch64-linux-gnu",
)
"""MACE's target abis, and Android's x86 ones (Android Studio's emulators)."""

DEFAULT_THRESHOLDS: Mapping[str, float] = {
    "CPU": 0.999,
    "GPU": 0.995,
    "HEXAGON": 0.980,
    "HTA": 0.980,
    "APU": 0.980,
    "HTP": 0.980,
    "QUANTIZE": 0.980,
}
"""MACE's own (``ValidationThreshold`` in its ``tools/converter.py``)."""

# ``runtime:`` of a model to a key of the thresholds; cpu+gpu means that it runs on both.
_THRESHOLD_KEYS = {
    "cpu": "CPU",
    "gpu": "GPU",
    "cpu+gpu": "GPU",
    "dsp": "HEXAGON",
    "hta": "HTA",
    "htp": "HTP",
    "apu": "APU",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model: its name, shape and how its values lie."""

    name: str
    shape: tuple[int, ...]
    data_type: str = "float32"
    data_format: str = "NHWC"
    value_range: tuple[float, float] | None = None
    """From where to where an input's values go, for inputs that are made up."""
    validation_data: Path | None = None
    alias: str | None = None
    """What the model's user calls it, if not by its name."""

    @property
    def element_count(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One entry of ``models:``."""

    name: str
    platform: str
    model_file: Path
    model_sha256: str | None
    weight_file: Path | None
    weight_sha256: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    runtime: str = "gpu"
    data_type: str = "fp16_fp32"
    limit_opencl_kernel_time: bool = False
    opencl_queue_window_size: int = 0
    obfuscate: bool = False
    winograd: int = 0
    cl_mem_type: str = "image"
    """How activations lie on the GPU: ``image`` or ``buffer``."""
    quantized: bool = False
    """Whether the file asks for 8-bit arithmetic (``quantize``, ``quantize_large_weights``)."""
    graph_name: str = "default_graph"
    """What the net is called in the model: the subgraph's name."""
    graph_file: Path | None = None
    """The converted MACE graph (``droidmace: models: NAME: graph_file``), if the file names one."""
    data_file: Path | None = None
    """The weights beside it."""
    validation_threshold: Mapping[str, float] = field(default_factory=dict)
    """Least cosine similarity to the reference as far as the file says, by the words of
    :data:`DEFAULT_THRESHOLDS`."""
    accuracy_validation_script: Path | None = None
    """MACE's accuracy plugin. It is code: nothing runs it unless the user allows it."""
    backend: str = "tensorflow"
    """What MACE's tools run ONNX models in; droidmace's reference is always onnxruntime."""

    @property
    def similarity_threshold(self) -> float:
        """The threshold that MACE's tools would take for this model (``tools/device.py``)."""
        key = self._threshold_key
        return self.validation_threshold.get(key, DEFAULT_THRESHOLDS[key])

    @property
    def asks_for_similarity(self) -> bool:
        """Whether that threshold is the file's own, and not MACE's default."""
        return self._threshold_key in self.validation_threshold

    @property
    def _threshold_key(self) -> str:
        quantized = self.quantized and self.runtime != "dsp"
        return "QUANTIZE" if quantized else _THRESHOLD_KEYS[self.runtime]


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How much to measure in one tuning run."""

    rounds: int = 50
    """Inferences per latency process."""
    blocks: int = 40
    """Blocks of four latency processes at most; a clear gain takes six."""
    startup_runs: int = 3
    """Fresh processes per start-up figure (cold and warm)."""
    timeout_s: float = 900.0
    """Deadline of one ``mace_run`` process."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A whole deployment file, checked."""

    path: Path
    library_name: str
    target_abis: tuple[str, ...]
    target_socs: tuple[str, ...]
    models: Mapping[str, ModelConfig]
    mace_run: Mapping[str, Path] = field(default_factory=dict)
    """abi to ``mace_run`` binary."""
    dataset: DatasetConfig | None = None
    tune: TuneConfig = TuneConfig()
    search: SearchConfig = field(default_factory=SearchConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
