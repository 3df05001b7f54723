"""One image file as pixels."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError
from droidmace.validation.pillow import pillow_image
from droidmace.validation.preprocess import MAX_PIXELS

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
"""What Pillow may take a file for: its rarer decoders are not needed, and less looked after."""

MAX_FILE_BYTES = 1 << 28
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_GRAY = {"1", "L", "LA"}
_LIMIT_HINT = f"images have at most {MAX_PIXELS:,} pixels"


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as uint8 (height, width, 3), or (height, width, 1) if its format has no colour.

    It is taken as it is stored: not turned by EXIF, transparency dropped, palettes and CMYK as
    Pillow's ``convert("RGB")`` has them.

    Raises ``FormatError`` naming the file: not an image, damaged, above 8 bits, or too large;
    ``MissingExtraError``.
    """
    library = pillow_image("reading images")
    where = str(path)
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                raise FormatError(f"has more than {MAX_FILE_BYTES} bytes", where=where)
            with library.open(stream, formats=FORMATS) as image:
                _check(image, where)
                if image.mode in {"P", "PA"} and "transparency" in image.info:
                    image = image.convert("RGBA")  # noqa: PLW2901 - the way Pillow asks for
                mode = "L" if image.mode in _GRAY else "RGB"
                pixels: NDArray[Any] = np.asarray(image.convert(mode))
    except (library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise FormatError(
            f"too large for an image: {error}", where=where, hint=_LIMIT_HINT
        ) from error
    except library.UnidentifiedImageError as error:
        raise FormatError(
            "not an image that can be read", where=where, hint=f"it must be {', '.join(FORMATS)}"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        # Pillow's decoders raise all of these for damaged files.
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(
            f"cannot be read as an image: {reason[:200]}",
            where=where,
            hint="replace it, or put it on the blacklist",
        ) from error
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _check(image: Any, where: str) -> None:  # noqa: ANN401 - Pillow is optional
    """What the header says, before anything is decoded."""
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise FormatError(
            f"{width}x{height} is too large for an image", where=where, hint=_LIMIT_HINT
        )
    if image.mode not in _EIGHT_BIT:
        raise FormatError(
            f"its pixels ({image.mode}) have not 8 bits",
            where=where,
            hint="convert it to 8 bits per channel",
        )
