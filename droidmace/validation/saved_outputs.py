"""Outputs as a file for later: what another phone, or another release, is held against."""

from __future__ import annotations

import contextlib
import os
import secrets
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from droidmace.errors import InputError
from droidmace.validation.store import OutputStore

_ROWS = 1024


def save_outputs(store: OutputStore, count: int, path: Path) -> None:
    """Write the outputs of samples 0 to ``count`` as ``.npz``: by name, (count, elements).

    :class:`~droidmace.validation.stored_outputs.StoredOutputs` reads it. The file appears whole or
    not at all. Raises ``InputError`` if it cannot be written, ``ValueError`` if some are missing.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                for name, sample in store.read(0, 1).items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        npy_format.write_array_header_1_0(
                            member,
                            {
                                "descr": npy_format.dtype_to_descr(sample.dtype),
                                "fortran_order": False,
                                "shape": (count, sample.shape[1]),
                            },
                        )
                        for first in range(0, count, _ROWS):
                            rows = store.read(first, min(_ROWS, count - first))[name]
                            member.write(np.ascontiguousarray(rows).tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            hint="give another file with --save-outputs",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
