"""Paths in a YAML file: relative to that file."""

from __future__ import annotations

import os
from pathlib import Path

from droidmace.yamltree import YamlNode


def beside(node: YamlNode, path: Path) -> Path:
    """The path written at ``node`` of the file ``path``; it need not exist yet."""
    text = node.text()
    if text.lower().startswith(("http://", "https://")):
        raise node.error("a URL; nothing is downloaded", hint="download it, and give its path")
    # Without the detours (a/../b): these paths are shown in messages.
    return Path(os.path.normpath(path.parent / text))


def existing(node: YamlNode, path: Path) -> Path:
    """As :func:`beside`; the file must be there."""
    file = beside(node, path)
    if not file.is_file():
        raise node.error(f"no such file: {file}", hint="paths are relative to the deployment file")
    return file
