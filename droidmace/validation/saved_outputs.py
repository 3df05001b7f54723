"""Outputs as a file for later: what another phone, or another release, is held against."""

from __future__ import annotations

import contextlib
import os
import secrets
import zipfile
from collections.abc import Sequence
from pathlib import Path

from numpy.lib import format as npy_format

from droidmace.errors import InputError
from droidmace.validation.layouts import (
    ChannelOrder,
    TensorLike,
    element_count,
    permutation,
    turned,
)
from droidmace.validation.store import OutputStore

_ROWS = 1024


def save_outputs(
    store: OutputStore,
    outputs: Sequence[TensorLike],
    count: int,
    path: Path,
    *,
    order: ChannelOrder = "NCHW",
) -> None:
    """Write the outputs of samples 0 to ``count`` as ``.npz``: by name, (count, elements).

    Images lie in it as in the original model, whose ``order`` is: so does
    :class:`~droidmace.validation.stored_outputs.StoredOutputs` read values without a shape of their
    own, whatever ``output_data_formats`` says by then. The file appears whole or not at all.

    Raises ``InputError`` if it cannot be written, ``ValueError`` if some are missing.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                kinds = {name: values.dtype for name, values in store.read(0, 1).items()}
                for tensor in outputs:
                    axes = permutation(tensor.shape, tensor.data_format, (), order)
                    assert axes is not None  # Only a shape that is there can contradict.
                    name, elements = tensor.name, element_count(tensor.shape)
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        npy_format.write_array_header_1_0(
                            member,
                            {
                                "descr": npy_format.dtype_to_descr(kinds[name]),
                                "fortran_order": False,
                                "shape": (count, elements),
                            },
                        )
                        for first in range(0, count, _ROWS):
                            rows = store.read(first, min(_ROWS, count - first))[name]
                            samples = rows.reshape(-1, *tensor.shape)
                            member.write(
                                turned(samples, (0, *(1 + axis for axis in axes))).tobytes()
                            )
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
