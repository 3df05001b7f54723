"""What an app would ship of a bundle, for runs on a phone that shall be like the app's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from droidmace.bundle.reader import Bundle, read_bundle
from droidmace.errors import InputError
from droidmace.files import sha256_of_file
from droidmace.workflows.models import ModelFiles


@dataclass(frozen=True, slots=True)
class ShippedFiles:
    """A verified bundle, and those of its files that its verdict says to ship."""

    bundle: Bundle
    program: Path | None
    parameters: Path | None


def shipped_files(folder: Path, model_files: ModelFiles) -> ShippedFiles:
    """Read the bundle in ``folder``.

    Raises ``FormatError`` for a damaged bundle, ``InputError`` for one of another model or with
    nothing worth shipping.
    """
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    pairs = ((manifest.model_graph, model_files.graph), (manifest.model_data, model_files.data))
    for record, path in pairs:
        if record.sha256 != sha256_of_file(path):
            raise InputError(
                f"was made from another {path.name} than the deployment file's",
                where=str(folder),
                hint="give the model that was tuned, or tune this one",
            )
    shipped = manifest.worth_shipping
    if not shipped:
        raise InputError(
            f"holds nothing worth shipping: its verdict is {manifest.verdict.value}",
            where=str(folder),
            hint="leave --bundle out: an app would run without it",
        )
    program, parameters = (
        bundle.paths.folder / record.name if record is not None and record in shipped else None
        for record in (manifest.compiled_program, manifest.tuned_parameters)
    )
    return ShippedFiles(bundle, program, parameters)
