"""What of the host a phone sees, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ReadOnlyBind:
    """A host file or folder that stands, read-only, at ``target`` on the phone."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class WritableFile:
    """A host file whose content the phone may change; its folder it may not, nor what it is."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Mask:
    """An empty read-only folder over a path that a wider bind would show."""

    target: str
