"""Pillow, which decodes and resizes images: an optional package, loaded when it is needed."""

from __future__ import annotations

from types import ModuleType

from droidmace.errors import MissingExtraError


def pillow_image(purpose: str) -> ModuleType:
    """``PIL.Image``. Raises ``MissingExtraError`` that says what ``purpose`` needs it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "images", purpose) from error
    return Image
