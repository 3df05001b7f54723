"""Paths on a device: POSIX strings, checked before anything is done to them."""

from __future__ import annotations

import posixpath

from droidmace.errors import InputError

PHONE_ROOT = "/data/local/tmp"
"""The folder of an Android phone that the shell user may write to and run programs from."""

MAX_PATH_BYTES = 1024
"""adbd refuses longer ones (AOSP ``adb/SYNC.TXT``)."""


def checked_path(path: str) -> str:
    """Return ``path`` without ``.``, ``..`` and doubled slashes.

    Raises ``InputError`` if it is not absolute, too long, or holds control characters: those
    cannot be told apart in the output of the phone's tools.
    """
    if not path.startswith("/") or len(path.encode()) > MAX_PATH_BYTES:
        raise InputError(
            "not a path on a device: absolute and at most 1024 bytes is needed", where=repr(path)
        )
    if any(ord(character) < 0x20 or character in "\x7f\\" for character in path):
        raise InputError("control characters and backslashes are not allowed", where=repr(path))
    # A leading double slash would survive normpath.
    return posixpath.normpath("/" + path.lstrip("/"))


def inside(path: str, root: str) -> str:
    """Return the clean form of ``path`` if it lies below ``root``; else raise ``InputError``."""
    clean = checked_path(path)
    if not clean.startswith(checked_path(root).rstrip("/") + "/"):
        raise InputError(f"outside of {root}", where=repr(path))
    return clean
