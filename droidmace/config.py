"""MACE deployment files (YAML) as checked values.

The keys are MACE's own (its ``docs`` and ``tools/python/utils/config_parser.py``) plus one section
of ours, ``droidmace:``. Unknown keys are errors: a typing mistake must not be silently ignored.
Paths in a file are relative to that file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from droidmace.yamltree import YamlMapping, YamlNode, load_yaml


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
    blocks: int = 9
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
PLATFORMS = ("tensorflow", "caffe", "onnx", "pytorch", "megengine", "keras")
RUNTIMES = ("cpu", "gpu", "cpu+gpu", "dsp", "hta", "htp", "apu")
DATA_TYPES = ("fp16_fp32", "fp32_fp32", "fp16_fp16", "bf16_fp32")
TENSOR_TYPES = ("float32", "int32", "float16", "bfloat16", "int16", "uint8")
DATA_FORMATS = ("NHWC", "NCHW", "OIHW", "NONE")

MAX_RANK = 8
MAX_DIM = 1 << 20
MAX_ELEMENTS = 1 << 28

# Keys of MACE's own tools that mean nothing to this one.
_IGNORED_TOP = (
    "model_graph_format",
    "model_data_format",
    "docker_image_tag",
    "dockerfile_path",
    "embed_model_data",
    "build_type",
    "linkshared",
)
_IGNORED_MODEL = (
    "nnlib_graph_mode",
    "quantize",
    "quantize_large_weights",
    "quantize_range_file",
    "quantize_stat",
    "quantize_schema",
    "change_concat_ranges",
    "graph_optimize_options",
    "cl_mem_type",
    "default_graph",
    "order",
    "apu_version_with_no_device",
    "accelerator_api",
)
_IGNORED_SUBGRAPH = (
    "check_tensors",
    "check_shapes",
    "input_aliases",
    "output_aliases",
    "accuracy_validation_script",
    "validation_threshold",
    "backend",
    "runtime",
)


def load_deployment(path: Path, *, check_files: bool = True) -> Deployment:
    """Read and check a deployment file.

    ``check_files``: the files of the ``droidmace:`` section must be there; who does not need them
    (a conversion) leaves it out.

    Raises ``ConfigError`` that names the file, the line, the key path and what was expected.
    """
    root = load_yaml(path).mapping()
    ours = root.get("droidmace")
    section = (
        _Section.read(ours, path, _existing if check_files else _beside) if ours else _Section()
    )
    models_node = root.need("models")
    models = {
        name: _model(name, node, path, section) for name, node in models_node.mapping().each()
    }
    if not models:
        raise models_node.error("at least one model is needed")
    for name, node in section.model_nodes.items():
        if name not in models:
            raise node.error(
                f"no model of the name {name!r} under 'models'",
                hint="names there: " + ", ".join(models),
            )
    abis_node = root.need("target_abis")
    deployment = Deployment(
        path=path,
        library_name=root.need("library_name").text(),
        target_abis=tuple(item.one_of(ABIS) for item in abis_node.items()),
        target_socs=_texts(root.get("target_socs")) or ("all",),
        models=models,
        mace_run=section.mace_run,
        dataset=section.dataset,
        tune=section.tune,
    )
    root.ignore(*_IGNORED_TOP)
    root.done()
    return deployment


@dataclass(frozen=True, slots=True)
class _Section:
    """The ``droidmace:`` section."""

    mace_run: Mapping[str, Path] = field(default_factory=dict)
    dataset: DatasetConfig | None = None
    tune: TuneConfig = TuneConfig()
    model_files: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    model_nodes: Mapping[str, YamlNode] = field(default_factory=dict)

    @classmethod
    def read(
        cls, node: YamlNode, path: Path, file_at: Callable[[YamlNode, Path], Path]
    ) -> _Section:
        section = node.mapping()
        mace_run: dict[str, Path] = {}
        if binaries := section.get("mace_run"):
            for abi, binary in binaries.mapping().each():
                if abi not in ABIS:
                    raise binary.error(f"unknown abi {abi!r}", hint="one of " + ", ".join(ABIS))
                mace_run[abi] = file_at(binary, path)
        model_files: dict[str, tuple[Path, Path]] = {}
        model_nodes: dict[str, YamlNode] = {}
        if models := section.get("models"):
            for name, entry in models.mapping().each():
                files = entry.mapping()
                model_files[name] = (
                    _beside(files.need("graph_file"), path),
                    _beside(files.need("data_file"), path),
                )
                model_nodes[name] = entry
                files.done()
        dataset = section.get("dataset")
        tune = section.get("tune")
        section.done()
        return cls(
            mace_run=mace_run,
            dataset=_dataset(dataset, path, file_at) if dataset else None,
            tune=_tune(tune) if tune else TuneConfig(),
            model_files=model_files,
            model_nodes=model_nodes,
        )


def _dataset(
    node: YamlNode, path: Path, file_at: Callable[[YamlNode, Path], Path]
) -> DatasetConfig:
    entry = node.mapping()
    mean, scale, limit = entry.get("mean"), entry.get("scale"), entry.get("limit")
    dataset = DatasetConfig(
        images=file_at(entry.need("images"), path),
        labels=file_at(entry.need("labels"), path),
        mean=mean.number(-1e6, 1e6) if mean else 0.0,
        scale=scale.number(1e-6, 1e6) if scale else 1.0,
        limit=limit.integer(1, 10_000_000) if limit else None,
    )
    entry.done()
    return dataset


def _tune(node: YamlNode) -> TuneConfig:
    entry = node.mapping()
    default = TuneConfig()

    def whole(key: str, fallback: int, maximum: int) -> int:
        child = entry.get(key)
        return child.integer(1, maximum) if child else fallback

    timeout = entry.get("timeout_s")
    tune = TuneConfig(
        rounds=whole("rounds", default.rounds, 100_000),
        blocks=whole("blocks", default.blocks, 1_000),
        startup_runs=whole("startup_runs", default.startup_runs, 1_000),
        timeout_s=timeout.number(1, 86_400) if timeout else default.timeout_s,
    )
    entry.done()
    return tune


def _model(name: str, node: YamlNode, path: Path, section: _Section) -> ModelConfig:
    # It becomes part of paths on the phone and of file names here: never "..", never a flag.
    if (
        not name
        or len(name) > 100
        or name[0] in "-."
        or not all(c.isalnum() or c in "_-." for c in name)
    ):
        raise node.error(
            "a model's name is 1 to 100 letters, digits, '_', '-' or '.', the first not '-' or '.'"
        )
    entry = node.mapping()
    subgraphs = entry.get("subgraphs")
    if subgraphs is None:
        # MACE's CMake tools let the tensors stand at the model's own level.
        inputs, outputs = _tensors(entry, path)
    else:
        graphs = subgraphs.items()
        if len(graphs) != 1:
            raise subgraphs.error(f"exactly one subgraph is supported, found {len(graphs)}")
        graph = graphs[0].mapping()
        inputs, outputs = _tensors(graph, path)
        graph.ignore(*_IGNORED_SUBGRAPH)
        graph.done()
    graph_file, data_file = section.model_files.get(name, (None, None))
    runtime, data_type = entry.get("runtime"), entry.get("data_type")
    limit, window = entry.get("limit_opencl_kernel_time"), entry.get("opencl_queue_window_size")
    obfuscate, winograd = entry.get("obfuscate"), entry.get("winograd")
    weight, weight_hash = entry.get("weight_file_path"), entry.get("weight_sha256_checksum")
    model_hash = entry.get("model_sha256_checksum")
    model = ModelConfig(
        name=name,
        platform=entry.need("platform").one_of(PLATFORMS),
        model_file=_beside(entry.need("model_file_path"), path),
        model_sha256=_sha256(model_hash) if model_hash else None,
        weight_file=_beside(weight, path) if weight else None,
        weight_sha256=_sha256(weight_hash) if weight_hash else None,
        inputs=inputs,
        outputs=outputs,
        runtime=runtime.one_of(RUNTIMES) if runtime else "gpu",
        data_type=data_type.one_of(DATA_TYPES) if data_type else "fp16_fp32",
        limit_opencl_kernel_time=limit.flag() if limit else False,
        opencl_queue_window_size=window.integer(0, 1 << 20) if window else 0,
        obfuscate=obfuscate.flag() if obfuscate else False,
        winograd=_winograd(winograd) if winograd else 0,
        graph_file=graph_file,
        data_file=data_file,
    )
    entry.ignore(*_IGNORED_MODEL, *_IGNORED_SUBGRAPH)
    entry.done()
    return model


def _winograd(node: YamlNode) -> int:
    value = node.integer(0, 4)
    if value not in {0, 2, 4}:
        raise node.error(f"{value} is not one of 0, 2, 4")
    return value


def _tensors(
    entry: YamlMapping, path: Path
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs that stand in ``entry``."""
    return _side(entry, "input", path), _side(entry, "output", path)


def _side(entry: YamlMapping, side: str, path: Path) -> tuple[TensorSpec, ...]:
    names_node = entry.need(f"{side}_tensors")
    names = [item.text() for item in names_node.items()]
    if not names:
        raise names_node.error("at least one tensor is needed")
    if len(set(names)) != len(names):
        raise names_node.error("a tensor is named twice")
    shapes_node = entry.need(f"{side}_shapes")
    shapes = _shapes(shapes_node, len(names))
    types = _spread(entry.get(f"{side}_data_types"), len(names), TENSOR_TYPES, "float32")
    formats = _spread(entry.get(f"{side}_data_formats"), len(names), DATA_FORMATS, "NHWC")
    ranges_node = entry.get("input_ranges") if side == "input" else None
    ranges = [_range(item) for item in ranges_node.items()] if ranges_node else []
    if ranges_node and len(ranges) != len(names):
        raise ranges_node.error(f"expected {len(names)} ranges, found {len(ranges)}")
    data_node = entry.get(f"validation_{side}s_data")
    data = [_beside(item, path) for item in data_node.items()] if data_node else []
    if data_node and len(data) != len(names):
        raise data_node.error(f"expected {len(names)} files, found {len(data)}")
    return tuple(
        TensorSpec(
            name=name,
            shape=shapes[index],
            data_type=types[index],
            data_format=formats[index],
            value_range=ranges[index] if ranges else None,
            validation_data=data[index] if data else None,
        )
        for index, name in enumerate(names)
    )


def _shapes(node: YamlNode, count: int) -> list[tuple[int, ...]]:
    items = node.items()
    # ``[1, 28, 28, 1]`` for a single tensor is a shape too, not four shapes.
    if node.is_list and count == 1 and len(items) > 1:
        return [_shape(node, [item.text() for item in items])]
    if len(items) != count:
        raise node.error(f"expected {count} shapes, found {len(items)}")
    return [_shape(item, item.text().split(",")) for item in items]


def _shape(node: YamlNode, words: list[str]) -> tuple[int, ...]:
    try:
        shape = tuple(int(word.strip().strip("[]")) for word in words)
    except ValueError as exc:
        raise node.error("expected whole numbers separated by commas, like 1,224,224,3") from exc
    if not 1 <= len(shape) <= MAX_RANK:
        raise node.error(f"a shape has 1 to {MAX_RANK} dimensions, found {len(shape)}")
    elements = 1
    for dim in shape:
        if not 1 <= dim <= MAX_DIM:
            raise node.error(f"a dimension of {dim} is not between 1 and {MAX_DIM}")
        elements *= dim
    if elements > MAX_ELEMENTS:
        raise node.error(f"{elements} elements are more than {MAX_ELEMENTS}")
    return shape


def _spread(node: YamlNode | None, count: int, allowed: tuple[str, ...], default: str) -> list[str]:
    """One word per tensor; a single word goes for all, as in MACE's tools."""
    if node is None:
        return [default] * count
    words = [item.one_of(allowed) for item in node.items()]
    if len(words) == 1:
        return words * count
    if len(words) != count:
        raise node.error(f"expected {count} values, found {len(words)}")
    return words


def _range(node: YamlNode) -> tuple[float, float]:
    words = node.text().split(",")
    try:
        low, high = (float(word) for word in words)
    except ValueError as exc:
        raise node.error("expected two numbers separated by a comma, like -1.0,1.0") from exc
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise node.error(f"{low:g} to {high:g} is not a range: finite numbers, lower one first")
    return low, high


def _sha256(node: YamlNode) -> str:
    value = node.text().lower()
    if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
        raise node.error("expected a SHA-256: 64 hexadecimal digits")
    return value


def _texts(node: YamlNode | None) -> tuple[str, ...]:
    return tuple(item.text() for item in node.items()) if node else ()


def _beside(node: YamlNode, path: Path) -> Path:
    """A path relative to the YAML file; it need not exist yet."""
    # Without the detours (a/../b): these paths are shown in messages.
    return Path(os.path.normpath(path.parent / node.text()))


def _existing(node: YamlNode, path: Path) -> Path:
    file = _beside(node, path)
    if not file.is_file():
        raise node.error(f"no such file: {file}", hint="paths are relative to the deployment file")
    return file
