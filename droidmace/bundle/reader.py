"""Reads a bundle and believes nothing of it before the hashes agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from droidmace.bundle.manifest import MANIFEST_NAME, FileRecord, Manifest
from droidmace.bundle.writer import (
    MAX_MANIFEST_BYTES,
    BundlePaths,
    bundle_paths,
)
from droidmace.errors import FormatError
from droidmace.files import sha256_of_file

MAX_RESULTS_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are those that its manifest describes."""

    paths: BundlePaths
    manifest: Manifest
    results: Mapping[str, Any]


def read_bundle(path: Path) -> Bundle:
    """Read the bundle folder ``path`` (or its ``manifest.json``) and verify every hash.

    Raises ``FormatError`` naming the file: missing, of another size or content, or not readable.
    """
    folder = path.parent if path.name == MANIFEST_NAME else path
    manifest_path = folder / MANIFEST_NAME
    try:
        manifest = Manifest.from_json(_read(manifest_path, MAX_MANIFEST_BYTES))
    except FormatError as error:
        raise FormatError(
            error.message, where=error.where or str(manifest_path), hint=error.hint
        ) from error
    for record in manifest.files:
        _verify(folder / record.name, record)
    paths = bundle_paths(folder, manifest)
    return Bundle(paths, manifest, _results(paths.results))


def _verify(path: Path, record: FileRecord) -> None:
    hint = "copy the bundle again, or make it anew"
    try:
        if not path.is_file():
            raise FormatError("is missing from the bundle", where=str(path), hint=hint)
        size = path.stat().st_size
        if size != record.size_bytes:
            raise FormatError(
                f"has {size} bytes, the manifest says {record.size_bytes}",
                where=str(path),
                hint=hint,
            )
        if sha256_of_file(path) != record.sha256:
            raise FormatError(
                "has another content than the manifest says", where=str(path), hint=hint
            )
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _results(path: Path) -> Mapping[str, Any]:
    try:
        results = json.loads(_read(path, MAX_RESULTS_BYTES))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", where=str(path)) from error
    if not isinstance(results, dict):
        raise FormatError("is not a JSON object", where=str(path))
    return results


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise FormatError(
            f"cannot be read: {error.strerror or error}",
            where=str(path),
            hint="give the folder that `droidmace tune --out` wrote",
        ) from error
    if len(data) > max_bytes:
        raise FormatError(f"is longer than {max_bytes} bytes", where=str(path))
    return data
