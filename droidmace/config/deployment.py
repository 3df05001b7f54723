"""A whole deployment file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from droidmace.config.dataset import DatasetConfig
from droidmace.config.gate import GateConfig
from droidmace.config.models import read_model
from droidmace.config.paths import beside, existing
from droidmace.config.search import SearchConfig
from droidmace.config.validate import ValidateConfig
from droidmace.config.values import ABIS, Deployment, TuneConfig
from droidmace.yamltree import YamlNode, load_yaml

# Keys of MACE's own tools that mean nothing to this one.
_IGNORED = (
    "model_graph_format",
    "model_data_format",
    "docker_image_tag",
    "dockerfile_path",
    "embed_model_data",
    "build_type",
    "linkshared",
)


def load_deployment(path: Path, *, check_files: bool = True) -> Deployment:
    """Read and check a deployment file.

    ``check_files``: the files of the ``droidmace:`` section must be there; who does not need them
    (a conversion) leaves it out.

    Raises ``ConfigError`` that names the file, the line, the key path and what was expected.
    """
    root = load_yaml(path).mapping()
    ours = root.get("droidmace")
    section = _Section.read(ours, path, existing if check_files else beside) if ours else _Section()
    models_node = root.need("models")
    models = {
        name: read_model(name, node, path, section.model_files.get(name))
        for name, node in models_node.mapping().each()
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
        search=section.search,
        gate=section.gate,
        validate=section.validate,
    )
    root.ignore(*_IGNORED)
    root.done()
    return deployment


@dataclass(frozen=True, slots=True)
class _Section:
    """The ``droidmace:`` section."""

    mace_run: Mapping[str, Path] = field(default_factory=dict)
    dataset: DatasetConfig | None = None
    tune: TuneConfig = field(default_factory=TuneConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
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
                    beside(files.need("graph_file"), path),
                    beside(files.need("data_file"), path),
                )
                model_nodes[name] = entry
                files.done()
        dataset = section.get("dataset")
        tune, search = section.get("tune"), section.get("search")
        gate, validate = section.get("gate"), section.get("validate")
        section.done()
        return cls(
            mace_run=mace_run,
            dataset=DatasetConfig.read(dataset, path, file_at) if dataset else None,
            tune=_tune(tune) if tune else TuneConfig(),
            search=SearchConfig.read(search) if search else SearchConfig(),
            gate=GateConfig.read(gate) if gate else GateConfig(),
            validate=(
                ValidateConfig.read(validate, path, file_at) if validate else ValidateConfig()
            ),
            model_files=model_files,
            model_nodes=model_nodes,
        )


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


def _texts(node: YamlNode | None) -> tuple[str, ...]:
    return tuple(item.text() for item in node.items()) if node else ()
