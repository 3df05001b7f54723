"""Read the tensors of a ``.pth`` file without PyTorch, and without running what the file says.

A pickle is a program. This reader lets it build what a dictionary of tensors is built from and
nothing else. The layout is that of ``torch.save`` before PyTorch 1.6 (``torch/serialization.py``,
``_legacy_save``): five pickles — a magic number, a protocol version, facts about the machine, the
object, the storages' keys — and then each storage as its number of elements (8 bytes) and its
values, all little-endian.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_MAX_ELEMENTS = 1 << 28

Array = npt.NDArray[Any]


class WeightsError(ValueError):
    """The file is no dictionary of tensors, or holds more than that."""


class _Storage:
    """Elements that tensors are views of; read after the pickle that names it."""

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.dtype, self.size = dtype, size
        self.values: Array = np.empty(0, dtype)


class _Tensor:
    """A view of a storage, in elements."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self._storage, self._offset, self._shape, self._strides = storage, offset, shape, strides

    def values(self) -> Array:
        if len(self._shape) != len(self._strides) or min(self._shape, default=1) < 0:
            raise WeightsError(f"a tensor of shape {self._shape} with strides {self._strides}")
        reach = sum((n - 1) * s for n, s in zip(self._shape, self._strides, strict=True))
        if min((self._offset, *self._strides)) < 0 or self._offset + reach >= self._storage.size:
            raise WeightsError(f"a tensor of shape {self._shape} reaches beyond its storage")
        item = self._storage.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            self._storage.values[self._offset :],
            self._shape,
            [stride * item for stride in self._strides],
        )
        return view.copy()


def _rebuild_tensor(
    storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise WeightsError("a tensor without a storage")
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Knows ordered dictionaries, tensors and storages, and no other global."""

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> object:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        }
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) not in known:
            raise WeightsError(f"refused to load {module}.{name}: only tensors are read")
        return known[module, name]

    def persistent_load(self, pid: tuple[Any, ...]) -> _Storage:
        kind, type_name, key, _location, size, view = pid
        if kind != "storage" or view is not None or not 0 <= size <= _MAX_ELEMENTS:
            raise WeightsError(f"a storage of kind {kind!r} with {size} elements")
        return self._storages.setdefault(key, _Storage(_DTYPES[type_name], size))


def read_weights(content: bytes) -> dict[str, Array]:
    """The tensors of a ``.pth`` file by name. Raises ``WeightsError``."""
    try:
        return _read(io.BytesIO(content))
    except WeightsError:
        raise
    except (pickle.UnpicklingError, struct.error, EOFError, LookupError) as exc:
        raise WeightsError(f"not a dictionary of tensors: {exc!r}") from exc
    except (TypeError, ValueError, AttributeError) as exc:  # what a crooked pickle ends in
        raise WeightsError(f"not a dictionary of tensors: {exc!r}") from exc


def _read(file: BinaryIO) -> dict[str, Array]:
    storages: dict[str, _Storage] = {}

    def load() -> Any:  # noqa: ANN401 - whatever the file holds; checked where it is used
        return _Unpickler(file, storages).load()

    if (load(), load()) != (_MAGIC, _PROTOCOL):
        raise WeightsError("not written by torch.save before PyTorch 1.6")
    if not load()["little_endian"]:
        raise WeightsError("written on a big-endian machine")
    tensors = load()
    for key in load():
        storage = storages[key]
        (size,) = struct.unpack("<q", file.read(8))
        if size != storage.size:
            raise WeightsError(f"storage {key} has {size} elements, not {storage.size}")
        content = file.read(size * storage.dtype.itemsize)
        if len(content) != size * storage.dtype.itemsize:
            raise WeightsError(f"storage {key} is cut off")
        storage.values = np.frombuffer(content, storage.dtype)
    if not isinstance(tensors, dict) or not all(isinstance(t, _Tensor) for t in tensors.values()):
        raise WeightsError("the object is no dictionary of tensors")
    return {str(name): tensor.values() for name, tensor in tensors.items()}
