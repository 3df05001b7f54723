"""Validations of the example's model, as a deployment file and options ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from droidmace.config import DatasetConfig, load_deployment
from droidmace.workflows.datasets import dataset_from_option
from droidmace.workflows.validate_request import ValidateRequest
from droidmace.workflows.workplace import PhoneRequest

ROOT = Path(__file__).resolve().parents[2]
NAME = "fashion_mnist"


def document() -> dict[str, Any]:
    """The example's deployment file, with paths that hold anywhere."""
    text = (ROOT / "configs" / f"{NAME}.yml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text.replace("../examples", str(ROOT / "examples")))
    return loaded


def subgraph() -> dict[str, Any]:
    """Its model's tensors, as that file has them."""
    (one,) = document()["models"][NAME]["subgraphs"]
    assert isinstance(one, dict)
    return one


def request(
    folder: Path,
    *,
    model: dict[str, Any] | None = None,
    samples: dict[str, Any] | None = None,
    validate: dict[str, Any] | None = None,
    against: str | None = None,
    dataset: Path | None = None,
) -> ValidateRequest:
    """A request whose deployment file, in ``folder``, differs from the example's.

    ``model`` is put over the model's settings; ``samples`` (droidmace.dataset) and ``validate``
    (droidmace.validate) stand in for the file's. ``against`` and ``dataset`` are options.
    """
    given = document()
    settings = given["models"][NAME]
    settings |= model or {}
    if "model_file_path" in (model or {}):
        del settings["model_sha256_checksum"]
    given["droidmace"]["validate"] = validate or {}
    if samples is not None:
        given["droidmace"]["dataset"] = samples
    path = folder / "model.yml"
    path.write_text(yaml.safe_dump(given))
    deployment = load_deployment(path)
    chosen: DatasetConfig | None = None
    if dataset is not None:
        chosen = dataset_from_option(dataset, None, deployment.dataset)
    return ValidateRequest(
        phone=PhoneRequest(serial="x", deployment=deployment, model_name=NAME),
        dataset=chosen,
        settings=deployment.validate,
        out_dir=folder,
        against=against,
        allow_plugin=True,
        cache=False,
    )
