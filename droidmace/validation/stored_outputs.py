"""Outputs that lie in files, as the reference: ``validation_outputs_data``, or what a user stored.

A file holds one output of all samples: ``.npy`` (n, …), or raw little-endian values one sample
behind the other; an ``.npz`` holds several outputs by name. Rows are read when they are needed.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from droidmace.errors import FormatError, InputError
from droidmace.files import sha256_of_file
from droidmace.validation.layouts import (
    ChannelOrder,
    TensorLike,
    element_count,
    permutation,
    value_type,
)
from droidmace.validation.reference import Values

_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z]")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where one output's rows lie: from ``begin`` of the file, or of a member of an archive."""

    path: Path
    member: str
    """Empty for a file that is no archive."""
    begin: int
    dtype: np.dtype[Any]
    count: int
    tensor: TensorLike
    axes: tuple[int, ...]
    """How a sample of the tensor is turned to lie as in the file."""

    def read(self, first: int, count: int) -> Values:
        """Rows ``first`` and on, (count, elements), as the phone would write them."""
        shape = [self.tensor.shape[axis] for axis in self.axes]
        row_bytes = self.dtype.itemsize * element_count(shape)
        with _opened(self.path, self.member) as stream:
            stream.seek(self.begin + first * row_bytes)
            data = stream.read(count * row_bytes)
        if len(data) != count * row_bytes:
            raise FormatError("ends before its last sample", where=str(self.path))
        stored = np.frombuffer(data, dtype=self.dtype).reshape(count, *shape)
        back = [1 + int(axis) for axis in np.argsort(self.axes)]
        values: Values = (
            stored.transpose(0, *back).reshape(count, -1).astype(value_type(self.tensor))
        )
        return values


class StoredOutputs:
    """Outputs of samples 0 to ``count`` (exclusive), in files."""

    def __init__(self, rows: Mapping[str, _Rows]) -> None:
        self._rows = dict(rows)
        self._paths = sorted({rows.path for rows in self._rows.values()})

    @classmethod
    def open(
        cls,
        files: Sequence[Path],
        outputs: Sequence[TensorLike],
        *,
        order: ChannelOrder = "NCHW",
    ) -> StoredOutputs:
        """One file for each of ``outputs``, in their order, or one ``.npz`` with all of them.

        ``order`` is how images lie in them where both ways fit: MACE's ``validation_outputs_data``
        come from the training platform (:func:`~droidmace.validation.layouts.order_of_platform`).

        Raises ``FormatError`` or ``InputError`` naming the file: not readable, a type that is no
        number, rows of another size than the output.
        """
        if len(files) == 1 and files[0].suffix == ".npz":
            sources = [(files[0], _member_of(files[0], tensor)) for tensor in outputs]
        elif len(files) == len(outputs):
            sources = [(path, "") for path in files]
        else:
            raise InputError(
                f"{len(files)} files for {len(outputs)} outputs",
                where=", ".join(map(str, files)) or None,
                hint="give one file for each output, in the order of output_tensors, or one .npz",
            )
        return cls(
            {
                tensor.name: _open_rows(path, member, tensor, order)
                for tensor, (path, member) in zip(outputs, sources, strict=True)
            }
        )

    @property
    def count(self) -> int:
        """Samples that all outputs are there for."""
        return min(rows.count for rows in self._rows.values())

    @property
    def identity(self) -> str:
        """SHA-256 of the files' content."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(sha256_of_file(path).encode())
        return digest.hexdigest()

    @property
    def description(self) -> str:
        """What it is, for people."""
        return f"stored outputs in {', '.join(path.name for path in self._paths)}"

    def run(self, inputs: Mapping[str, NDArray[Any]], *, first: int = 0) -> dict[str, Values]:
        """Outputs (n, elements) of samples ``first`` and on; ``inputs`` say how many.

        Raises ``InputError`` if there are not as many.
        """
        wanted = {len(values) for values in inputs.values()}
        if len(wanted) != 1:
            raise InputError(f"the inputs are for {sorted(wanted)} samples")
        (count,) = wanted
        found: dict[str, Values] = {}
        for name, rows in self._rows.items():
            if first + count > rows.count:
                raise InputError(
                    f"holds {rows.count} samples of {name!r}, but {first + count} are asked for",
                    where=str(rows.path),
                    hint="store outputs of as many samples, or ask for fewer with --limit",
                )
            found[name] = rows.read(first, count)
        return found


@contextmanager
def _opened(path: Path, member: str) -> Iterator[IO[bytes]]:
    try:
        if member:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FormatError(f"cannot be read: {error}", where=str(path)) from error


def _member_of(path: Path, tensor: TensorLike) -> str:
    """The member of an archive that holds an output: by its name, or as ``mace_run`` writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"cannot be read: {error}", where=str(path)) from error
    for name in (tensor.name, _NOT_IN_NAMES.sub("_", tensor.name)):
        if f"{name}.npy" in members:
            return f"{name}.npy"
    raise InputError(
        f"holds no array {tensor.name!r}, only "
        f"{', '.join(name.removesuffix('.npy') for name in members) or 'none at all'}",
        where=str(path),
        hint="store each output under its name: numpy.savez(FILE, NAME=array)",
    )


def _open_rows(path: Path, member: str, tensor: TensorLike, order: ChannelOrder) -> _Rows:
    with _opened(path, member) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if member or path.suffix == ".npy":
            begin, dtype, shape = _npy_header(stream, path)
        else:
            begin, dtype = 0, value_type(tensor)
            shape = (size // dtype.itemsize,)
    elements = element_count(tensor.shape)
    values = element_count(shape)
    if values == 0 or values % elements or size < begin + values * dtype.itemsize:
        raise FormatError(
            f"holds {size - begin} bytes of {dtype} {list(shape)}; a sample of {tensor.name!r} has "
            f"{elements} values",
            where=str(path),
            hint="give one row for each sample: .npy of shape (n, …), or raw little-endian float32 "
            "(int32 for int32 outputs)",
        )
    # Without a shape of its own, a sample lies as the platform has it.
    there = (tensor.shape[0], *shape[1:]) if len(shape) == len(tensor.shape) else ()
    axes = permutation(tensor.shape, tensor.data_format, there, order)
    if axes is None:
        raise FormatError(
            f"holds {list(shape)}; {tensor.name!r} is {list(tensor.shape)} ({tensor.data_format})",
            where=str(path),
            hint="check output_shapes and output_data_formats in the deployment file",
        )
    return _Rows(path, member, begin, dtype, values // elements, tensor, axes)


def _npy_header(stream: IO[bytes], path: Path) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
    """Where the values begin, their type and shape.

    The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    try:
        version = npy_format.read_magic(stream)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format")
        shape, by_columns, dtype = read(stream)
    except ValueError as error:
        raise FormatError(f"no array that can be read: {error}", where=str(path)) from error
    if by_columns or dtype.kind not in "fiub" or any(length < 0 for length in shape):
        raise FormatError(
            f"holds {dtype} {list(shape)}{' by columns' if by_columns else ''} instead of numbers, "
            "row by row",
            where=str(path),
            hint="store numpy.ascontiguousarray(outputs, dtype=numpy.float32)",
        )
    return stream.tell(), dtype, tuple(int(length) for length in shape)
