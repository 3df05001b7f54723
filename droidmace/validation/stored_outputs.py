"""Outputs that lie in files, as the reference: ``validation_outputs_data``, or what a user stored.

A file holds one output of all samples: ``.npy`` (n, …), or raw little-endian values one sample
behind the other; an ``.npz`` holds several outputs by name. Rows are read when they are needed.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import FormatError, InputError
from droidmace.files import sha256_of_file
from droidmace.formats.tensor_values import Values, value_type
from droidmace.validation.layouts import ChannelOrder, TensorLike, element_count, permutation
from droidmace.validation.npy import NpzArray, open_npz, read_header, translated

_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z]")


class _File:
    """Values of a plain file, from ``begin`` on, one sample behind the other."""

    def __init__(self, path: Path, begin: int, dtype: np.dtype[Any], elements: int) -> None:
        self._path, self._begin, self._dtype, self._elements = path, begin, dtype, elements

    def read(self, first: int, count: int) -> NDArray[Any]:
        """Samples ``first`` and on, (count, elements)."""
        row_bytes = self._dtype.itemsize * self._elements
        with translated(str(self._path)), self._path.open("rb") as stream:
            stream.seek(self._begin + first * row_bytes)
            data = stream.read(count * row_bytes)
            if len(data) != count * row_bytes:
                raise FormatError("ends before its last sample")
        return np.frombuffer(data, dtype=self._dtype).reshape(count, self._elements)


class _Member:
    """Values of an array in an ``.npz``: rows are samples, or all of it is one."""

    def __init__(self, array: NpzArray, elements: int) -> None:
        self._array, self._elements = array, elements
        self._is_one = math.prod(array.shape) == elements

    def read(self, first: int, count: int) -> NDArray[Any]:
        """Samples ``first`` and on, (count, elements)."""
        end = self._array.shape[0] if self._is_one else first + count
        begin = 0 if self._is_one else first
        return self._array.read(begin, end).reshape(count, self._elements)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where one output's samples lie, and how."""

    path: Path
    values: _File | _Member
    count: int
    tensor: TensorLike
    axes: tuple[int, ...]
    """How a sample of the tensor is turned to lie as in the file."""

    def read(self, first: int, count: int) -> Values:
        """Samples ``first`` and on, (count, elements), as the phone would write them."""
        shape = [self.tensor.shape[axis] for axis in self.axes]
        stored = self.values.read(first, count).reshape(count, *shape)
        back = [1 + int(axis) for axis in np.argsort(self.axes)]
        values: Values = (
            stored.transpose(0, *back).reshape(count, -1).astype(value_type(self.tensor.data_type))
        )
        return values


class StoredOutputs:
    """Outputs of samples 0 to ``count`` (exclusive), in files."""

    def __init__(self, rows: Mapping[str, _Rows], archive: zipfile.ZipFile | None = None) -> None:
        self._rows = dict(rows)
        self._archive = archive
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
            (path,) = files
            archive, arrays = open_npz(path)
            try:
                found = {
                    tensor.name: _rows_of_member(path, _named(path, arrays, tensor), tensor, order)
                    for tensor in outputs
                }
            except BaseException:
                archive.close()
                raise
            return cls(found, archive)
        if len(files) != len(outputs):
            raise InputError(
                f"{len(files)} files for {len(outputs)} outputs",
                where=", ".join(map(str, files)) or None,
                hint="give one file for each output, in the order of output_tensors, or one .npz",
            )
        return cls(
            {
                tensor.name: _rows_of_file(path, tensor, order)
                for tensor, path in zip(outputs, files, strict=True)
            }
        )

    def close(self) -> None:
        """Close what is open."""
        if self._archive is not None:
            self._archive.close()

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


def _named(path: Path, arrays: Mapping[str, NpzArray], tensor: TensorLike) -> NpzArray:
    """The array that holds an output: by its name, or as ``mace_run`` names its file."""
    for name in (tensor.name, _NOT_IN_NAMES.sub("_", tensor.name)):
        if name in arrays:
            return arrays[name]
    raise InputError(
        f"holds no array {tensor.name!r}, only {', '.join(arrays) or 'none at all'}",
        where=str(path),
        hint="store each output under its name: numpy.savez(FILE, NAME=array)",
    )


def _rows_of_member(path: Path, array: NpzArray, tensor: TensorLike, order: ChannelOrder) -> _Rows:
    count, axes = _arrangement(array.where, array.shape, tensor, order)
    return _Rows(path, _Member(array, element_count(tensor.shape)), count, tensor, axes)


def _rows_of_file(path: Path, tensor: TensorLike, order: ChannelOrder) -> _Rows:
    elements = element_count(tensor.shape)
    where = str(path)
    with translated(where), path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if path.suffix == ".npy":
            header = read_header(stream)
            begin, dtype, shape = header.size, header.dtype, header.shape
            if size != begin + header.values_bytes:
                raise FormatError(
                    f"announces {header.values_bytes} bytes of values, but {size - begin} follow",
                    offset=begin,
                )
        else:
            begin, dtype = 0, value_type(tensor.data_type)
            if size == 0 or size % (elements * dtype.itemsize):
                raise FormatError(
                    f"holds {size} bytes; a sample of {tensor.name!r} has "
                    f"{elements * dtype.itemsize}",
                    hint="give raw little-endian float32 (int32 for int32 outputs), .npy or .npz",
                )
            shape = (size // dtype.itemsize // elements, elements)
    count, axes = _arrangement(where, shape, tensor, order)
    return _Rows(path, _File(path, begin, dtype, elements), count, tensor, axes)


def _arrangement(
    where: str, shape: tuple[int, ...], tensor: TensorLike, order: ChannelOrder
) -> tuple[int, tuple[int, ...]]:
    """How many samples an array of ``shape`` holds, and how they lie in it."""
    elements, values = element_count(tensor.shape), element_count(shape)
    count = shape[0] if shape and values != elements else 1
    if values == 0 or values != count * elements:
        raise FormatError(
            f"holds {list(shape)}; a sample of {tensor.name!r} has {elements} values",
            where=where,
            hint="give one row for each sample: shape (n, …)",
        )
    # Without a shape of its own, a sample lies as the platform has it.
    there: tuple[int, ...] = ()
    if len(shape) == len(tensor.shape) and shape[1:] != (elements,):
        there = (tensor.shape[0], *shape[1:])
    elif count == 1 and len(shape) == len(tensor.shape) - 1:
        there = (tensor.shape[0], *shape)
    axes = permutation(tensor.shape, tensor.data_format, there, order)
    if axes is None:
        raise FormatError(
            f"holds {list(shape)}; {tensor.name!r} is {list(tensor.shape)} ({tensor.data_format})",
            where=where,
            hint="check output_shapes and output_data_formats in the deployment file",
        )
    return count, axes
