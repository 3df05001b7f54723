"""The story of ``droidmace convert``: check the model file, convert it, write graph and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from droidmace.config import ABIS, Board, Deployment, ModelConfig, load_boards, load_deployment
from droidmace.convert import ConversionSummary, ConvertedModel, convert_model
from droidmace.errors import ConfigError, InputError
from droidmace.files import write_atomically
from droidmace.workflows.models import check_checksums


@dataclass(frozen=True, slots=True)
class Targets:
    """What models are converted for. The files are the same for every abi and soc."""

    abis: tuple[str, ...]
    socs: tuple[str, ...]
    boards: tuple[Board, ...] = ()
    """Those of the device file that have one of the abis and one of the socs."""

    def as_document(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "target_abis": list(self.abis),
            "target_socs": list(self.socs),
            "boards": [board.name for board in self.boards],
        }


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
    targets: Targets

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
            "warnings": list(self.summary.warnings),
            **self.targets.as_document(),
        }


def convert_deployment(
    config: Path,
    *,
    model_name: str | None = None,
    output: Path | None = None,
    target_abi: str | None = None,
    target_socs: str | None = None,
    device_conf: Path | None = None,
) -> tuple[Conversion, ...]:
    """Convert every model of a deployment file, or the one called ``model_name``.

    The files go to ``OUTPUT/NAME/model/`` as ``NAME.pb`` and ``NAME.data``, where MACE's
    ``convert.py`` puts them too; without ``output`` to where the deployment file's ``graph_file``
    and ``data_file`` point; without those to ``build/LIBRARY/model/`` beside it. Nothing is
    written unless every model converts. ``target_abi`` and ``target_socs`` (several by comma) stand
    in for what the file says; ``device_conf`` is MACE's device file, of which the boards that fit
    are named. Raises ``ConfigError``, ``ModelError``, ``MissingExtraError``, and ``InputError``
    when a file cannot be written.
    """
    deployment = load_deployment(config, check_files=False)
    targets = _targets(deployment, target_abi, target_socs, device_conf)
    models = _chosen(deployment, model_name)
    for model in models:
        _check_source(model, deployment.path)
    converted = [(model, convert_model(model)) for model in models]
    return tuple(
        _write(model, result, targets, *_target(deployment, model, output))
        for model, result in converted
    )


def _targets(
    deployment: Deployment, abis: str | None, socs: str | None, device_conf: Path | None
) -> Targets:
    chosen_abis = _words(abis) or deployment.target_abis
    for abi in chosen_abis:
        if abi not in ABIS:
            raise InputError(f"unknown abi {abi!r}", hint="--target_abi: " + ", ".join(ABIS))
    chosen_socs = _words(socs) or deployment.target_socs
    if "random" in chosen_socs:
        # Any one of the connected phones, in MACE's tools.
        chosen_socs = ("all",)
    boards = load_boards(device_conf) if device_conf else ()
    return Targets(
        abis=chosen_abis,
        socs=chosen_socs,
        boards=tuple(board for board in boards if board.fits(chosen_abis, chosen_socs)),
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _check_source(model: ModelConfig, config: Path) -> None:
    for key, path in (
        ("model_file_path", model.model_file),
        ("weight_file_path", model.weight_file),
    ):
        if path is not None and not path.is_file():
            raise ConfigError(
                f"models.{model.name}.{key}: no such file: {path}",
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
    if output is not None:
        folder = output / model.name / "model"
    elif model.graph_file is not None and model.data_file is not None:
        return model.graph_file, model.data_file
    else:
        folder = deployment.path.parent / "build" / deployment.library_name / "model"
    return folder / f"{model.name}.pb", folder / f"{model.name}.data"


def _write(
    model: ModelConfig,
    result: ConvertedModel,
    targets: Targets,
    graph_file: Path,
    data_file: Path,
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
        targets=targets,
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
