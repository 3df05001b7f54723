"""A data set that a Python function gives: ``package.module:function``.

The function takes nothing and returns something with ``len()`` whose entries, by number, are
``(value, label)``: the value is an array (height, width) or (height, width, channels) to be
prepared, or inputs by name that are ready; the label counts from 0 and may be None. PyTorch's
data sets are of this kind. It may have ``classes``, a sequence of names, and ``identity``, a text
that changes when its samples do.

It is code that runs here: it is loaded only if that was asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from droidmace.errors import InputError
from droidmace.files import sha256_of_file
from droidmace.validation.labels import MAX_LABEL
from droidmace.validation.samples import RawSample, Tensor
from droidmace.validation.sources.plugin import MAX_SAMPLES, refuse_code


class EntryPointSource:
    """Samples of the data set that ``function`` returns.

    Modules are looked for where Python does, and in ``folder``. ``identity`` of a data set that
    has none of its own is that of the module's file and the number of samples: it does not see
    data change.

    Raises ``InputError`` that names the function: not allowed, not there, raises, empty, or an
    entry of a wrong kind.
    """

    many_readers = False

    def __init__(self, function: str, folder: Path | None, *, allow: bool) -> None:
        if not allow:
            raise refuse_code("the entry point", function)
        self._where = function
        module_name, _, name = function.partition(":")
        with self._guarded("its import"), _importable(folder):
            module = importlib.import_module(module_name)
            make = getattr(module, name)
        with self._guarded("the call"):
            self._data: Any = make()
        with self._guarded("len()"):
            self._count = len(self._data)
        if not 1 <= self._count <= MAX_SAMPLES:
            raise InputError(
                f"gives {self._count} samples", where=function, hint="give at least one"
            )
        classes = getattr(self._data, "classes", ())
        self._classes = tuple(str(name) for name in classes)
        own = getattr(self._data, "identity", None)
        code = module.__file__ and Path(module.__file__)
        basis = own or (sha256_of_file(code) if code and code.is_file() else "")
        described = f"{function} {self._count} {basis}"
        self._identity = hashlib.sha256(described.encode()).hexdigest()

    @property
    def count(self) -> int:
        """``len()`` of the data set."""
        return self._count

    @property
    def classes(self) -> tuple[str, ...]:
        """Its ``classes``; empty if it has none."""
        return self._classes

    @property
    def identity(self) -> str:
        """A hash of its ``identity``, or of the module."""
        return self._identity

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        """Entries ``begin`` to ``end`` (exclusive)."""
        for index in range(begin, end):
            name = f"{self._where}[{index}]"
            with self._guarded(f"entry {index}"):
                entry = self._data[index]
            if not isinstance(entry, tuple) or len(entry) != 2:
                raise self._wrong(index, f"is {type(entry).__name__}, not (value, label)")
            value, label = entry
            if isinstance(value, Mapping):
                tensors = {str(key): self._numbers(index, item) for key, item in value.items()}
                yield RawSample(name, self._label(index, label), tensors=tensors)
                continue
            pixels = self._numbers(index, value)
            if pixels.ndim == 2:
                pixels = pixels[..., np.newaxis]
            if pixels.ndim != 3 or 0 in pixels.shape:
                raise self._wrong(index, f"has shape {list(pixels.shape)}, not that of an image")
            yield RawSample(name, self._label(index, label), pixels=pixels)

    def _numbers(self, index: int, value: object) -> Tensor:
        with self._guarded(f"entry {index}"):
            array = np.asarray(value)
        if array.dtype.kind not in "uif" or array.dtype.itemsize > 8:
            raise self._wrong(index, f"holds {array.dtype}, not numbers")
        return array

    def _label(self, index: int, label: object) -> int | None:
        if label is None:
            return None
        with self._guarded(f"the label of entry {index}"):
            number = int(label)  # type: ignore[call-overload]
        top = len(self._classes) or MAX_LABEL
        if not 0 <= number < top:
            raise self._wrong(index, f"has the label {number}, not 0 to {top - 1}")
        return int(number)

    def _wrong(self, index: int, what: str) -> InputError:
        return InputError(
            f"entry {index} {what}",
            where=self._where,
            hint="entries are (value, label); see docs/datasets.md",
        )

    @contextmanager
    def _guarded(self, step: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{step} raised {type(error).__name__}: {str(error)[:500]}",
                where=self._where,
                hint="write package.module:function, and see that it can be imported",
            ) from error


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """``folder`` is the last place where modules are looked for."""
    if folder is None:
        yield
        return
    place = str(folder.resolve())
    sys.path.append(place)
    try:
        yield
    finally:
        sys.path.remove(place)
