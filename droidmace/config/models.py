"""The entries of ``models:`` in a deployment file.

What stands in a model's only subgraph goes before what stands at the model's own level, as in
MACE's ``normalize_model_config``.
"""

from __future__ import annotations

from pathlib import Path

from droidmace.config.paths import beside
from droidmace.config.tensors import read_tensors
from droidmace.config.values import DEFAULT_THRESHOLDS, ModelConfig
from droidmace.yamltree import YamlMapping, YamlNode

PLATFORMS = ("tensorflow", "caffe", "onnx", "pytorch", "megengine", "keras")
RUNTIMES = ("cpu", "gpu", "cpu+gpu", "dsp", "hta", "htp", "apu")
DATA_TYPES = ("fp16_fp32", "fp32_fp32", "fp16_fp16", "bf16_fp32")
MEMORY_TYPES = ("image", "buffer")
_DEFAULT_GRAPH = "default_graph"
_QUANTIZING = ("quantize", "quantize_large_weights")

# Keys of MACE's own tools that mean nothing to this one.
_IGNORED = (
    "nnlib_graph_mode",
    "quantize_range_file",
    "quantize_stat",
    "quantize_schema",
    "change_concat_ranges",
    "graph_optimize_options",
    "default_graph",
    "order",
    "apu_version_with_no_device",
    "accelerator_api",
    "check_tensors",
    "check_shapes",
)


def read_model(
    name: str, node: YamlNode, path: Path, files: tuple[Path, Path] | None
) -> ModelConfig:
    """One model; ``files`` are the graph and the weights that it was converted to, if named."""
    _check_name(name, node)
    model = node.mapping()
    graph_name, graph = _subgraph(model)
    entry = model if graph is None else graph.over(model)
    runtime, data_type = entry.get("runtime"), entry.get("data_type")
    memory, winograd = entry.get("cl_mem_type"), entry.get("winograd")
    limit, window = entry.get("limit_opencl_kernel_time"), entry.get("opencl_queue_window_size")
    obfuscate = entry.get("obfuscate")
    quantizing = [entry.get(key) for key in _QUANTIZING]
    weight, weight_hash = entry.get("weight_file_path"), entry.get("weight_sha256_checksum")
    if weight_hash and not weight:
        raise weight_hash.error(
            "a checksum of no file", hint="name the file: weight_file_path, or leave it out"
        )
    model_hash = entry.get("model_sha256_checksum")
    threshold, backend = entry.get("validation_threshold"), entry.get("backend")
    script = entry.get("accuracy_validation_script")
    config = ModelConfig(
        name=name,
        platform=entry.need("platform").one_of(PLATFORMS),
        model_file=beside(entry.need("model_file_path"), path),
        model_sha256=_sha256(model_hash) if model_hash else None,
        weight_file=beside(weight, path) if weight else None,
        weight_sha256=_sha256(weight_hash) if weight_hash else None,
        inputs=read_tensors(entry, "input", path),
        outputs=read_tensors(entry, "output", path),
        runtime=runtime.one_of(RUNTIMES) if runtime else "gpu",
        data_type=data_type.one_of(DATA_TYPES) if data_type else "fp16_fp32",
        limit_opencl_kernel_time=limit.flag() if limit else False,
        opencl_queue_window_size=window.integer(0, 1 << 20) if window else 0,
        obfuscate=obfuscate.flag() if obfuscate else False,
        winograd=_winograd(winograd) if winograd else 0,
        cl_mem_type=memory.one_of(MEMORY_TYPES) if memory else "image",
        quantized=any(switch.flag() for switch in quantizing if switch),
        graph_name=graph_name,
        graph_file=files[0] if files else None,
        data_file=files[1] if files else None,
        validation_threshold=_thresholds(threshold),
        accuracy_validation_script=_script(script, path) if script else None,
        backend=backend.text() if backend else "tensorflow",
    )
    for mapping in (model, graph):
        if mapping is not None:
            mapping.ignore(*_IGNORED)
            mapping.done()
    return config


def _check_name(name: str, node: YamlNode) -> None:
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


def _subgraph(model: YamlMapping) -> tuple[str, YamlMapping | None]:
    """The only subgraph and its name: of a list (MACE's Bazel tools) or of a mapping (CMake).

    None where the tensors stand at the model's own level.
    """
    node = model.get("subgraphs")
    if node is None:
        model.refuse_misspelt("subgraphs")
        return _DEFAULT_GRAPH, None
    graphs = [(_DEFAULT_GRAPH, item) for item in node.items()]
    if not node.is_list:
        graphs = list(node.mapping().each())
    if len(graphs) != 1:
        raise node.error(f"exactly one subgraph is supported, found {len(graphs)}")
    name, graph = graphs[0]
    return name, graph.mapping()


def _thresholds(node: YamlNode | None) -> dict[str, float]:
    """What the file says, per runtime."""
    thresholds: dict[str, float] = {}
    for key, child in node.mapping().each() if node else ():
        name = "HEXAGON" if key.upper() == "DSP" else key.upper()
        if name not in DEFAULT_THRESHOLDS:
            raise child.error(
                f"unknown runtime {key!r}", hint="one of DSP, " + ", ".join(DEFAULT_THRESHOLDS)
            )
        thresholds[name] = child.number(-1.0, 1.0)
    return thresholds


def _script(node: YamlNode, path: Path) -> Path:
    items = node.items()
    if len(items) != 1:
        raise node.error(f"one script, found {len(items)}")
    return beside(items[0], path)


def _winograd(node: YamlNode) -> int:
    value = node.integer(0, 4)
    if value not in {0, 2, 4}:
        raise node.error(f"{value} is not one of 0, 2, 4")
    return value


def _sha256(node: YamlNode) -> str:
    value = node.text().lower()
    if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
        raise node.error("expected a SHA-256: 64 hexadecimal digits")
    return value
