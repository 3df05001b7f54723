"""Writes a bundle: the whole folder at once, or nothing.

The folder is built beside its place under a hidden name, synced, and renamed. An older bundle is
moved aside for that moment and put back if the rename fails.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from droidmace import __version__
from droidmace.bundle.manifest import (
    MANIFEST_NAME,
    DeviceRecord,
    FileRecord,
    Manifest,
    is_extra_name,
)
from droidmace.errors import FormatError, InputError
from droidmace.results import Verdict

RESULTS_NAME = "results.json"
MAX_MANIFEST_BYTES = 1 << 20

REQUIRED_RESULTS = (
    "serial",
    "model",
    "verdict",
    "init_ms",
    "warmup_ms",
    "run_ms",
    "top1",
    "samples",
    "programs",
    "tuned_entries",
)

_MAX_NAME_PART = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a bundle was made from, and where."""

    model_name: str
    model_graph: FileRecord
    model_data: FileRecord
    binary: FileRecord
    mace_version: str
    device: DeviceRecord


@dataclass(frozen=True, slots=True)
class BundlePaths:
    """Where the files of a written bundle are."""

    folder: Path
    manifest: Path
    results: Path
    compiled_program: Path | None
    tuned_parameters: Path | None
    extras: tuple[Path, ...] = ()


def name_part(text: str) -> str:
    """``text`` made fit for a file name on any system: a device's word is not trusted.

    Blanks are dropped as MACE drops them from device names; never empty, no separators, no leading
    dot or dash, at most 64 characters.
    """
    cleaned = _NOT_IN_NAMES.sub("_", "".join(text.split())).lstrip(".-")[:_MAX_NAME_PART]
    return cleaned.rstrip(".") or "unknown"


def artefact_name(kind: str, model_name: str, device_name: str, soc: str) -> str:
    """MACE's name for a pulled file; ``kind`` is ``compiled_opencl_kernel`` or
    ``tuned_opencl_parameter``.
    """
    return f"{name_part(model_name)}_{kind}.{name_part(device_name)}.{name_part(soc)}.bin"


def write_bundle(
    out_dir: Path,
    *,
    provenance: Provenance,
    compiled_program: bytes | None,
    tuned_parameters: bytes | None,
    results: Mapping[str, object],
    extras: Mapping[str, bytes] = MappingProxyType({}),
    created: datetime | None = None,
) -> BundlePaths:
    """Write the bundle folder ``out_dir``; an older bundle there is replaced.

    ``results`` is any JSON-able mapping with at least :data:`REQUIRED_RESULTS`. An artefact that
    is not worth shipping is None. ``extras``: further files by name, such as a search's journal.

    Raises ``InputError`` if ``out_dir`` holds anything but a bundle or cannot be written: it is
    then as it was.
    """
    if missing := [key for key in REQUIRED_RESULTS if key not in results]:
        raise ValueError(f"results lack {', '.join(missing)}")
    if unfit := [name for name in extras if not is_extra_name(name)]:
        raise ValueError(f"no name for a file of a bundle: {unfit[0]!r}")
    device = provenance.device
    contents: dict[str, bytes] = {}

    def record(name: str, data: bytes) -> FileRecord:
        if name.casefold() in {other.casefold() for other in (MANIFEST_NAME, *contents)}:
            raise ValueError(f"two files of the bundle have the name {name}")
        contents[name] = data
        return FileRecord(name, hashlib.sha256(data).hexdigest(), len(data))

    def artefact(kind: str, data: bytes | None) -> FileRecord | None:
        name = artefact_name(kind, provenance.model_name, device.device_name, device.soc)
        return None if data is None else record(name, data)

    results_json = json.dumps(dict(results), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    moment = (created or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    manifest = Manifest(
        model_name=provenance.model_name,
        model_graph=provenance.model_graph,
        model_data=provenance.model_data,
        binary=provenance.binary,
        mace_version=provenance.mace_version,
        device=device,
        compiled_program=artefact("compiled_opencl_kernel", compiled_program),
        tuned_parameters=artefact("tuned_opencl_parameter", tuned_parameters),
        results=record(RESULTS_NAME, results_json.encode()),
        created_utc=moment.isoformat().replace("+00:00", "Z"),
        droidmace_version=__version__,
        verdict=Verdict(str(results["verdict"])),
        extras=tuple(record(name, data) for name, data in extras.items()),
    )
    contents[MANIFEST_NAME] = manifest.to_json().encode()

    out_dir = out_dir.absolute()
    with _os_errors_named(out_dir):
        _refuse_foreign_folder(out_dir)
        _write_folder(out_dir, contents)
    return bundle_paths(out_dir, manifest)


def bundle_paths(folder: Path, manifest: Manifest) -> BundlePaths:
    """Where the files of ``manifest`` lie in ``folder``."""
    program, parameters = manifest.compiled_program, manifest.tuned_parameters
    return BundlePaths(
        folder=folder,
        manifest=folder / MANIFEST_NAME,
        results=folder / manifest.results.name,
        compiled_program=folder / program.name if program else None,
        tuned_parameters=folder / parameters.name if parameters else None,
        extras=tuple(folder / extra.name for extra in manifest.extras),
    )


def check_place(out_dir: Path) -> None:
    """Refuse now what :func:`write_bundle` would refuse after the work; makes nothing.

    Raises ``InputError`` if ``out_dir`` holds anything but a bundle or cannot be made.
    """
    out_dir = out_dir.absolute()
    with _os_errors_named(out_dir):
        _refuse_foreign_folder(out_dir)
        parent = out_dir.parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


@contextlib.contextmanager
def _os_errors_named(out_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the bundle cannot be written: {error.strerror or error}",
            where=str(out_dir),
            hint="choose another folder with --out, or free space there",
        ) from error


def _refuse_foreign_folder(out_dir: Path) -> None:
    """Only a bundle (or nothing) is replaced: everything in the folder goes."""
    if not out_dir.exists() and not out_dir.is_symlink():
        return
    hint = "choose another folder with --out"
    if out_dir.is_symlink() or not out_dir.is_dir():
        raise InputError("is there already and is not a folder", where=str(out_dir), hint=hint)
    present = {path.name for path in out_dir.iterdir()}
    if not present:
        return
    own = {MANIFEST_NAME}
    if MANIFEST_NAME in present:
        with (out_dir / MANIFEST_NAME).open("rb") as stream:
            text = stream.read(MAX_MANIFEST_BYTES)
        # An unreadable manifest vouches for nothing: the folder then counts as foreign.
        with contextlib.suppress(FormatError):
            own |= {file.name for file in Manifest.from_json(text).files}
    if foreign := sorted(present - own):
        raise InputError(
            f"holds files that are not a bundle's, such as {foreign[0]!r}; they would be lost",
            where=str(out_dir),
            hint=f"{hint}, or move them away",
        )


def _write_folder(out_dir: Path, contents: Mapping[str, bytes]) -> None:
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    unique = secrets.token_hex(6)
    building = out_dir.with_name(f".{out_dir.name}.{unique}.new")
    older = out_dir.with_name(f".{out_dir.name}.{unique}.old")
    building.mkdir()
    try:
        for name, data in contents.items():
            with (building / name).open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        _sync_folder(building)
        _put_in_place(building, out_dir, older)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _sync_folder(out_dir.parent)
    # The new bundle stands; that an old file is still open somewhere (Windows) is no failure.
    shutil.rmtree(older, ignore_errors=True)


def _put_in_place(building: Path, out_dir: Path, older: Path) -> None:
    if not out_dir.exists():
        building.rename(out_dir)
        return
    out_dir.rename(older)
    try:
        building.rename(out_dir)
    except BaseException:
        older.rename(out_dir)
        raise


def _sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable; Windows has no such call for folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
