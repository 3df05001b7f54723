"""The story of ``droidmace convert``: check the model file, convert it, write graph and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from droidmace.config import Deployment, ModelConfig, load_deployment
from droidmace.convert import ConversionSummary, ConvertedModel, convert_model
from droidmace.errors import ConfigError, InputError
from droidmace.files import write_atomically
from droidmace.workflows.models import check_checksums


@dataclass(frozen=True, slots=True)
class Conversion:
    """One converted model: where it lies and what it is."""

    model: str
    source: Path
    graph_file: Path
    data_file: Path
    graph_bytes: int
    data_bytes: int
    graph_sha256: str
    data_sha256: str
    summary: ConversionSummary

    def as_document(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "model": self.model,
            "source": str(self.source),
            "graph_file": str(self.graph_file),
            "data_file": str(self.data_file),
            "graph_bytes": self.graph_bytes,
            "data_bytes": self.data_bytes,
            "graph_sha256": self.graph_sha256,
            "data_sha256": self.data_sha256,
            "runtime": self.summary.runtime,
            "data_type": self.summary.data_type,
            "ops": dict(self.summary.ops),
            "parameters": self.summary.parameters,
            "multiply_adds": self.summary.multiply_adds,
        }


def convert_deployment(
    config: Path, *, model_name: str | None = None, output: Path | None = None
) -> tuple[Conversion, ...]:
    """Convert every model of a deployment file, or the one called ``model_name``.

    The files go to ``output`` as ``NAME.pb`` and ``NAME.data``; without it to where the
    deployment file's ``graph_file`` and ``data_file`` point; without those to
    ``build/LIBRARY/model/`` beside it. Nothing is written unless every model converts. Raises
    ``ConfigError``, ``ModelError``, ``MissingExtraError``, and ``InputError`` when a file cannot
    be written.
    """
    deployment = load_deployment(config, check_files=False)
    models = _chosen(deployment, model_name)
    for model in models:
        _check_source(model, deployment.path)
    converted = [(model, convert_model(model)) for model in models]
    return tuple(
        _write(model, result, *_target(deployment, model, output)) for model, result in converted
    )


def _check_source(model: ModelConfig, config: Path) -> None:
    if not model.model_file.is_file():
        raise ConfigError(
            f"models.{model.name}.model_file_path: no such file: {model.model_file}",
            where=str(config),
            hint="paths are relative to the deployment file",
        )
    check_checksums(model)


def _chosen(deployment: Deployment, model_name: str | None) -> tuple[ModelConfig, ...]:
    if model_name is None:
        return tuple(deployment.models.values())
    model = deployment.models.get(model_name)
    if model is None:
        raise ConfigError(
            f"there is no model {model_name!r}",
            where=f"{deployment.path}: models",
            hint="models there: " + ", ".join(deployment.models),
        )
    return (model,)


def _target(deployment: Deployment, model: ModelConfig, output: Path | None) -> tuple[Path, Path]:
    if output is None and model.graph_file is not None and model.data_file is not None:
        return model.graph_file, model.data_file
    folder = output or deployment.path.parent / "build" / deployment.library_name / "model"
    return folder / f"{model.name}.pb", folder / f"{model.name}.data"


def _write(
    model: ModelConfig, result: ConvertedModel, graph_file: Path, data_file: Path
) -> Conversion:
    _write_together({data_file: result.data, graph_file: result.graph})
    return Conversion(
        model=model.name,
        source=model.model_file,
        graph_file=graph_file,
        data_file=data_file,
        graph_bytes=len(result.graph),
        data_bytes=len(result.data),
        graph_sha256=hashlib.sha256(result.graph).hexdigest(),
        data_sha256=hashlib.sha256(result.data).hexdigest(),
        summary=result.summary,
    )


def _write_together(contents: Mapping[Path, bytes]) -> None:
    """Write all of these files, or leave every one of them as it was.

    A graph beside another conversion's weights would compute nonsense.
    """
    before: dict[Path, bytes | None] = {}
    try:
        for path, content in contents.items():
            with _os_errors_named(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                previous = path.read_bytes() if path.exists() else None
                write_atomically(path, content)
                before[path] = previous
    except BaseException:
        for path, previous in before.items():
            with _os_errors_named(path):
                if previous is None:
                    path.unlink()
                else:
                    write_atomically(path, previous)
        raise


@contextmanager
def _os_errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InputError(
            f"cannot be written: {exc.strerror or exc}",
            where=str(path),
            hint="choose another folder with --output",
        ) from exc
