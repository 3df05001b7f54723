"""Which images a folder holds, and nothing from outside of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from droidmace.errors import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")
"""What names of images end in, in small or capital letters."""

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a folder; ``name`` is its path there, with ``/``."""

    name: str
    size_bytes: int
    modified_ns: int


def list_images(folder: Path) -> tuple[ImageFile, ...]:
    """All images in ``folder`` and below, sorted by name; hidden files and folders are left out.

    The folder may itself be a link, and so may a file, to another file in the folder.

    Raises ``InputError`` for what cannot be listed, a link that leads out, a link to a folder, a
    name that is not UTF-8, and for an image's name on what is no file.
    """
    try:
        root = folder.resolve(strict=True)
        return tuple(sorted(_below(folder, root, "", 0), key=lambda file: file.name))
    except (OSError, RuntimeError) as error:
        # RuntimeError: a link that leads back to itself.
        where = str(getattr(error, "filename", None) or folder)
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot be listed: {reason}", where=where, hint="check the path"
        ) from error


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return name.lower().endswith(SUFFIXES)


def inner_name(text: str, where: str) -> str:
    """A name that a text gives, as :class:`ImageFile` writes it.

    Raises ``InputError`` at ``where`` if it leads out of the folder.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text or "\\" in text:
        raise InputError(
            f"{text[:200]!r} does not name a file in the folder of images",
            where=where,
            hint="names are relative to droidmace.dataset.images, with / between folders",
        )
    return path.as_posix()


def _below(folder: Path, root: Path, prefix: str, depth: int) -> Iterator[ImageFile]:
    if depth > _MAX_DEPTH:
        raise InputError(f"has folders more than {_MAX_DEPTH} deep", where=str(folder))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            if not _is_text(name):
                # Neither a list of labels nor a result could hold it.
                shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
                raise InputError(
                    "has a name that is not UTF-8", where=shown, hint="rename it, as with convmv"
                )
            if entry.is_dir():
                if entry.is_symlink():
                    raise _refused(entry.path, "is a link to a folder")
                yield from _below(Path(entry.path), root, f"{name}/", depth + 1)
            elif is_image_name(entry.name):
                # What a link leads to is looked at; all others cost one call each.
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                    raise _refused(entry.path, "is a link that leads out of the folder of images")
                status = entry.stat()
                if not stat.S_ISREG(status.st_mode):
                    raise _refused(entry.path, "is no file")
                yield ImageFile(name, status.st_size, status.st_mtime_ns)


def _is_text(name: str) -> bool:
    """Whether a name is text: bytes that are none come from the system as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(path: str, what: str) -> InputError:
    return InputError(what, where=path, hint="copy the images into the folder")
