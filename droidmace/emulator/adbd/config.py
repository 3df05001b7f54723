"""The daemon's configuration: a JSON file that the phone's manager writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from droidmace.emulator.adbd.errors import DaemonConfigError
from droidmace.emulator.adbd.sync_files import DEFAULT_TMP_SUFFIX
from droidmace.emulator.adbd.wire import MIN_MAX_PAYLOAD_BYTES

FEATURES = (
    "shell_v2",
    "cmd",
    "stat_v2",
    "ls_v2",
    "fixed_push_mkdir",
    "fixed_push_symlink_timestamp",
    "sendrecv_v2",
)
"""What the banner offers: the newest forms of everything here, and no compression, which only
costs time on a loopback wire."""

_DEFAULT_PATH = "/product/bin:/system/bin:/system/xbin:/vendor/bin:/usr/bin:/bin"
_MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What the daemon needs to know about its phone.

    ``banner_properties`` are shown by ``adb devices -l``; ``environment`` is what commands get
    (``TERM`` comes from the host); ``home`` is their working folder; ``sweep`` names the folders
    in which abandoned pushes are cleared at the start; ``link_bytes_per_s`` is how fast the phone's
    cable is when no fault slows it down (None: as fast as it goes).
    """

    banner_properties: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = FEATURES
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": _DEFAULT_PATH})
    shell: str = "/system/bin/sh"
    home: str = "/"
    tmp_suffix: str = DEFAULT_TMP_SUFFIX
    sweep: tuple[str, ...] = ("/data/local/tmp", "/sdcard")
    link_bytes_per_s: float | None = None

    def banner(self) -> bytes:
        """How the phone introduces itself in its CONNECT packet."""
        parts = [f"{key}={value};" for key, value in self.banner_properties.items()]
        return f"device::{''.join(parts)}features={','.join(self.features)}".encode()


def read_config(path: Path) -> DaemonConfig:
    """Read the file. Raises ``DaemonConfigError`` that names the file and the key."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_CONFIG_BYTES + 1)
        if len(text) > _MAX_CONFIG_BYTES:
            raise DaemonConfigError("the file is far too large", where=str(path))
        value = json.loads(text)
    except (OSError, ValueError) as exc:
        raise DaemonConfigError(f"cannot be read: {exc}", where=str(path)) from exc
    return parse_config(value, where=str(path))


def parse_config(value: object, *, where: str = "configuration") -> DaemonConfig:
    """Check a configuration. Raises ``DaemonConfigError`` that names the key."""
    if not isinstance(value, dict):
        raise DaemonConfigError("a JSON object is expected", where=where)
    readers = {
        "banner_properties": _texts,
        "environment": _texts,
        "features": _list_of_texts,
        "sweep": _list_of_texts,
        "shell": _absolute_path,
        "home": _absolute_path,
        "tmp_suffix": _suffix,
        "link_bytes_per_s": _rate,
    }
    fields: dict[str, Any] = {}
    for key, item in value.items():
        if key not in readers:
            raise DaemonConfigError(
                f"unknown key {key!r}", where=where, hint=f"known keys: {', '.join(readers)}"
            )
        try:
            fields[key] = readers[key](item)
        except ValueError as exc:
            raise DaemonConfigError(f"{key}: {exc}", where=where) from exc
    config = DaemonConfig(**fields)
    if len(config.banner()) > MIN_MAX_PAYLOAD_BYTES:
        raise DaemonConfigError("the banner gets too long", where=where)
    if any(set(";=\0") & set(text) for pair in config.banner_properties.items() for text in pair):
        raise DaemonConfigError("banner_properties: ';', '=' and NUL cannot be sent", where=where)
    return config


def _texts(item: object) -> Mapping[str, str]:
    if not isinstance(item, dict) or not all(isinstance(text, str) for text in item.values()):
        raise ValueError("an object of strings is expected")
    return dict(item)


def _list_of_texts(item: object) -> tuple[str, ...]:
    if not isinstance(item, list) or not all(isinstance(text, str) for text in item):
        raise ValueError("a list of strings is expected")
    return tuple(item)


def _absolute_path(item: object) -> str:
    if not isinstance(item, str) or not item.startswith("/"):
        raise ValueError("an absolute path is expected")
    return item


def _rate(item: object) -> float | None:
    if item is None:
        return None
    if isinstance(item, bool) or not isinstance(item, (int, float)) or not 1 <= item <= 1e15:
        raise ValueError("a number from 1 to 1e15, or null, is expected")
    return float(item)


def _suffix(item: object) -> str:
    if not isinstance(item, str) or not item or "/" in item or len(item) > 64:
        raise ValueError("a short name without '/' is expected")
    return item
