"""What a bundle says about itself: what it was made from, with what, on which device.

A manifest is read from disk, so everything in it is checked before it is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from droidmace.errors import FormatError
from droidmace.files import sha256_of_file
from droidmace.results import DeviceInfo, Verdict

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# One path component on every system; in particular no separator and no drive letter.
_PLAIN_NAME = re.compile(r"[^/\\:\x00-\x1f]{1,255}\Z")
# Narrower for what droidmace names itself: the same file on every system, whatever its case rules.
_EXTRA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,98}[A-Za-z0-9]\Z")
# Windows opens devices by these names, with any ending.
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)
_MAX_EXTRAS = 64
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file by content: its name (without folder), SHA-256 and size."""

    name: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Record a file of this computer. Raises ``OSError``."""
        return cls(path.name, sha256_of_file(path), path.stat().st_size)


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The kind of device that a bundle was made on; its serial is no part of that.

    ``platform_info`` is MACE's: CL_PLATFORM_NAME, _PROFILE, _VERSION and the MACE version.
    """

    model: str
    device_name: str
    soc: str
    abi: str
    gpu: str
    platform_info: str
    android_release: str = ""

    @classmethod
    def of(cls, device: DeviceInfo, *, platform_info: str) -> DeviceRecord:
        """Record a probed device."""
        return cls(
            model=device.model,
            device_name=device.device_name,
            soc=device.soc,
            abi=device.abi,
            gpu=device.gpu,
            platform_info=platform_info,
            android_release=device.android_release,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``manifest.json``. An artefact that is not shipped is None."""

    model_name: str
    model_graph: FileRecord
    model_data: FileRecord
    binary: FileRecord
    mace_version: str
    device: DeviceRecord
    compiled_program: FileRecord | None
    tuned_parameters: FileRecord | None
    results: FileRecord
    created_utc: str
    """ISO 8601 with a trailing Z."""
    droidmace_version: str
    verdict: Verdict
    extras: tuple[FileRecord, ...] = ()
    """Files beside the artefacts that say how they came about; older bundles list none."""
    schema_version: int = SCHEMA_VERSION

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """The files that lie beside the manifest."""
        shipped = (self.compiled_program, self.tuned_parameters, self.results, *self.extras)
        return tuple(record for record in shipped if record is not None)

    @property
    def worth_shipping(self) -> tuple[FileRecord, ...]:
        """The artefacts that the verdict found worth shipping."""
        shipped = {
            Verdict.SHIP: (self.compiled_program, self.tuned_parameters),
            Verdict.PROGRAM_ONLY: (self.compiled_program,),
            Verdict.PARAMS_ONLY: (self.tuned_parameters,),
        }.get(self.verdict, ())
        return tuple(record for record in shipped if record is not None)

    def to_json(self) -> str:
        """The content of ``manifest.json``."""
        ordered = {"schema_version": self.schema_version} | asdict(self)
        ordered["worth_shipping"] = [record.name for record in self.worth_shipping]
        return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read and check a manifest; raises ``FormatError`` naming the key."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise FormatError(f"not JSON: {error.msg}", offset=error.pos) from error
        except (ValueError, RecursionError) as error:  # not UTF-8, a huge number, too deep
            raise FormatError(f"not JSON: {error}") from error
        record = _object(document, "manifest")
        version = record.get("schema_version")
        if version != SCHEMA_VERSION:
            raise FormatError(
                f"schema_version is {version!r}, this droidmace reads {SCHEMA_VERSION}",
                hint="use the droidmace version that wrote the bundle",
            )
        _refuse_keys(record, {field.name for field in fields(cls)} | {"worth_shipping"}, "")
        manifest = cls(
            model_name=_text(record, "model_name"),
            model_graph=_file(record, "model_graph"),
            model_data=_file(record, "model_data"),
            binary=_file(record, "binary"),
            mace_version=_text(record, "mace_version"),
            device=_device(record),
            compiled_program=_optional_file(record, "compiled_program"),
            tuned_parameters=_optional_file(record, "tuned_parameters"),
            results=_file(record, "results"),
            created_utc=_date(record, "created_utc"),
            droidmace_version=_text(record, "droidmace_version"),
            verdict=_verdict(record),
            extras=_extras(record),
        )
        names = [MANIFEST_NAME, *(file.name for file in manifest.files)]
        if len({name.casefold() for name in names}) < len(names):
            raise FormatError(f"two of its files have one name: {', '.join(names)}")
        if record.get("worth_shipping") != [one.name for one in manifest.worth_shipping]:
            raise FormatError("worth_shipping does not follow from the verdict")
        return manifest


def is_extra_name(name: str) -> bool:
    """Whether an extra may be called so: a plain name that means one file on every system."""
    return bool(_EXTRA_NAME.match(name)) and not _WINDOWS_DEVICE.match(name)


def _object(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{key} is not an object")
    return value


def _refuse_keys(record: Mapping[str, Any], known: set[str], prefix: str) -> None:
    if unknown := sorted(set(record) - known):
        raise FormatError(f"unknown key {prefix}{unknown[0]}")


def _text(record: Mapping[str, Any], key: str, prefix: str = "") -> str:
    value = record.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise FormatError(f"{prefix}{key} is not a text")
    return value


def _date(record: Mapping[str, Any], key: str) -> str:
    text = _text(record, key)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FormatError(f"{key} is not a date: {text!r}") from error
    if moment.utcoffset() != timedelta(0):
        raise FormatError(f"{key} is not in UTC: {text!r}")
    return text


def _verdict(record: Mapping[str, Any]) -> Verdict:
    text = _text(record, "verdict")
    try:
        return Verdict(text)
    except ValueError as error:
        raise FormatError(f"verdict is {text!r}, not one of {', '.join(Verdict)}") from error


def _extras(record: Mapping[str, Any]) -> tuple[FileRecord, ...]:
    entries = record.get("extras", [])
    if not isinstance(entries, list):
        raise FormatError("extras is not a list")
    if len(entries) > _MAX_EXTRAS:
        raise FormatError(f"extras has {len(entries)} files, more than {_MAX_EXTRAS}")
    extras = tuple(_file_entry(entry, f"extras[{index}]") for index, entry in enumerate(entries))
    for index, extra in enumerate(extras):
        if not is_extra_name(extra.name):
            raise FormatError(f"extras[{index}].name is not fit for a file: {extra.name!r}")
    return extras


def _file(record: Mapping[str, Any], key: str) -> FileRecord:
    return _file_entry(record.get(key), key)


def _file_entry(value: object, key: str) -> FileRecord:
    entry = _object(value, key)
    _refuse_keys(entry, {"name", "sha256", "size_bytes"}, f"{key}.")
    name = _text(entry, "name", f"{key}.")
    if not _PLAIN_NAME.match(name) or name.startswith("."):
        raise FormatError(f"{key}.name is not a plain file name: {name!r}")
    sha256 = _text(entry, "sha256", f"{key}.")
    if not _SHA256.match(sha256):
        raise FormatError(f"{key}.sha256 is not a SHA-256 in hexadecimal")
    size_bytes = entry.get("size_bytes")
    if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 0:
        raise FormatError(f"{key}.size_bytes is not a size")
    return FileRecord(name, sha256, size_bytes)


def _optional_file(record: Mapping[str, Any], key: str) -> FileRecord | None:
    if key not in record:
        raise FormatError(f"{key} is missing")
    return None if record[key] is None else _file(record, key)


def _device(record: Mapping[str, Any]) -> DeviceRecord:
    entry = _object(record.get("device"), "device")
    names = [field.name for field in fields(DeviceRecord)]
    _refuse_keys(entry, set(names), "device.")
    return DeviceRecord(**{name: _text(entry, name, "device.") for name in names})
