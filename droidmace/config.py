"""MACE deployment files (YAML) as checked values.

The keys are MACE's own (its ``docs`` and ``tools/python/utils/config_parser.py``) plus one section
of ours, ``droidmace:``. Unknown keys are errors: a typing mistake must not be silently ignored.
Paths in a file are relative to that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model: its name, shape and how its values lie."""

    name: str
    shape: tuple[int, ...]
    data_type: str = "float32"
    data_format: str = "NHWC"
    value_range: tuple[float, float] | None = None
    validation_data: Path | None = None

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
    graph_file: Path | None = None
    """The converted MACE graph (``droidmace: models: NAME: graph_file``), if the file names one."""
    data_file: Path | None = None
    """The weights beside it."""


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """Labelled images: IDX files (plain or gzip) and how a pixel becomes an input value.

    ``value = (pixel - mean) / scale`` in float32.
    """

    images: Path
    labels: Path
    mean: float = 0.0
    scale: float = 1.0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How much to measure in one tuning run."""

    rounds: int = 50
    """Inferences per latency process."""
    blocks: int = 5
    """Interleaved pairs of untuned and tuned processes."""
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


def load_deployment(path: Path) -> Deployment:
    """Read and check a deployment file.

    Raises ``ConfigError`` that names the file, the key path and what was expected.
    """
    raise NotImplementedError(path)
