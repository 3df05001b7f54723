"""The reference: the original ONNX model in onnxruntime on the host's CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import InputError, ModelError
from droidmace.formats.tensor_values import Values, value_type
from droidmace.validation.layouts import (
    ChannelOrder,
    TensorLike,
    element_count,
    permutation,
    turned,
    turned_back,
)
from droidmace.validation.onnx_bytes import sha256_of_model
from droidmace.validation.onnx_session import OnnxSession
from droidmace.validation.reference_cache import ReferenceCache
from droidmace.validation.reference_inputs import MatchedInput, matched_inputs, matched_names

REFERENCE_BATCH = 16
"""Samples per inference where the model takes several; more of them gain nothing on one thread."""
_DIGEST_BYTES = 16
_SAME_WITHIN = 1e-3
"""How far a sample's outputs may depend on being computed with others, by their largest value."""


class ReferenceOutputs(Protocol):
    """What a phone's outputs are held against."""

    @property
    def identity(self) -> str:
        """A SHA-256 that changes when the outputs may."""
        ...

    @property
    def description(self) -> str:
        """What it is, for people."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]], *, first: int = 0) -> dict[str, Values]:
        """Outputs (n, elements) of samples ``first`` and on, as the phone would write them."""
        ...


class Reference:
    """An ONNX model that answers for samples as they are made for the phone.

    Inputs come, and outputs go, in the layout and type that the deployment file gives; what the
    ONNX model wants (NCHW, int64, float16) is done here.
    """

    def __init__(
        self,
        model: Path,
        session: OnnxSession,
        inputs: Sequence[MatchedInput],
        outputs: Mapping[str, TensorLike],
        order: ChannelOrder,
        cache: ReferenceCache | None,
    ) -> None:
        self._model, self._session, self._inputs = model, session, tuple(inputs)
        self._outputs = dict(outputs)
        self._order = order
        self._cache = cache
        self._batch = REFERENCE_BATCH if all(item.takes_batches for item in self._inputs) else 1
        self._batch_proved = False
        self._noted = False
        self._identity = self._describe()
        self.cached = self.computed = 0
        """Samples that came from the cache, and that were computed."""

    @classmethod
    def open(
        cls,
        model: Path,
        inputs: Sequence[TensorLike],
        outputs: Sequence[TensorLike],
        *,
        order: ChannelOrder = "NCHW",
        cache: ReferenceCache | None = None,
        threads: int = 1,
    ) -> Reference:
        """Load ``model``, an ONNX file, for tensors as the deployment file declares them.

        ``order`` is how it has images; where its shapes tell another order, those decide. Outputs
        may be any tensor of it. Without ``cache`` everything is computed.

        Raises ``MissingExtraError``, and ``ModelError`` naming the tensor that does not fit.
        """
        session = OnnxSession(model, threads=threads)
        names = matched_names([tensor.name for tensor in outputs], session.outputs)
        session.need(names)
        return cls(
            model,
            session,
            matched_inputs(model, inputs, session.inputs, order),
            dict(zip(names, outputs, strict=True)),
            order,
            cache,
        )

    @property
    def identity(self) -> str:
        """SHA-256 of all that the outputs depend on, but the inputs."""
        return self._identity

    @property
    def description(self) -> str:
        """What it is, for people."""
        return f"onnxruntime {self._session.version} on {self._model.name}"

    def run(self, inputs: Mapping[str, NDArray[Any]], *, first: int = 0) -> dict[str, Values]:
        """Outputs by name, (n, elements), for ``inputs`` (n, …) by name.

        ``first`` has no meaning here: the answer depends on the inputs alone. Raises ``ModelError``
        if onnxruntime fails or gives another number of values than declared, ``InputError`` for
        inputs that are not those of the model.
        """
        del first
        samples = self._checked(inputs)
        count = len(next(iter(samples.values())))
        rows: list[bytes | None] = [None] * count
        keys: list[bytes] = []
        if self._cache is not None:
            keys = _digests(samples)
            found = self._cache.get(self._identity, keys)
            rows = [self._of_right_size(found.get(key)) for key in keys]
        missing = [index for index, row in enumerate(rows) if row is None]
        if self._cache is not None and len(missing) < count and not self._noted:
            self._noted = True
            self._cache.used(self._identity)
        fresh: dict[bytes, bytes] = {}
        begin = 0
        while begin < len(missing):
            # How many go together may change once the first have been tried.
            chosen = missing[begin : begin + self._batch]
            begin += len(chosen)
            for index, row in zip(chosen, self._compute(samples, chosen), strict=True):
                rows[index] = row
                if keys:
                    fresh[keys[index]] = row
        if self._cache is not None:
            self._cache.put(self._identity, fresh)
        self.computed += len(missing)
        self.cached += count - len(missing)
        return self._split(b"".join(row for row in rows if row is not None), count)

    def _checked(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs as (n, *shape of one sample), little endian, all of the same n."""
        samples: dict[str, NDArray[Any]] = {}
        counts = set()
        for item in self._inputs:
            tensor = item.tensor
            if tensor.name not in inputs:
                raise InputError(f"there is no input {tensor.name!r} among {sorted(inputs)}")
            values = np.ascontiguousarray(inputs[tensor.name], dtype=value_type(tensor.data_type))
            count = len(values) if values.ndim else 0
            if values.size != count * element_count(tensor.shape):
                raise InputError(
                    f"samples of shape {list(values.shape[1:])} for the input {tensor.name!r} of "
                    f"shape {list(tensor.shape)}"
                )
            samples[tensor.name] = values.reshape(count, *tensor.shape)
            counts.add(count)
        if len(counts) != 1:
            raise InputError(f"the inputs are for {sorted(counts)} samples")
        return samples

    def _compute(self, samples: Mapping[str, NDArray[Any]], chosen: Sequence[int]) -> list[bytes]:
        if len(chosen) == 1:
            return [self._one(samples, chosen[0])]
        values = self._together(samples, chosen) if self._batch > 1 else None
        if values is not None and not self._batch_proved:
            alone = self._split(self._one(samples, chosen[-1]), 1)
            self._batch_proved = all(
                _is_same(whole[-1:], alone[name]) for name, whole in values.items()
            )
            if not self._batch_proved:
                values = None
        if values is None:
            # The model mixes its samples, or gives one answer for all of them.
            self._batch = 1
            return [self._one(samples, index) for index in chosen]
        return [
            b"".join(values[tensor.name][row].tobytes() for tensor in self._outputs.values())
            for row in range(len(chosen))
        ]

    def _one(self, samples: Mapping[str, NDArray[Any]], index: int) -> bytes:
        """One sample's outputs, one behind the other."""
        feeds = {
            item.onnx.name: turned(samples[item.tensor.name][index], item.axes).astype(
                item.onnx.dtype, copy=False
            )
            for item in self._inputs
        }
        results = self._session.run(list(self._outputs), feeds)
        return b"".join(
            self._as_declared(tensor, result, tensor.shape).tobytes()
            for tensor, result in zip(self._outputs.values(), results, strict=True)
        )

    def _together(
        self, samples: Mapping[str, NDArray[Any]], chosen: Sequence[int]
    ) -> dict[str, Values] | None:
        """Several samples' outputs (n, elements); None if they do not come sample by sample."""
        count = len(chosen)
        feeds = {
            item.onnx.name: turned(samples[item.tensor.name][chosen, 0], item.axes).astype(
                item.onnx.dtype, copy=False
            )
            for item in self._inputs
        }
        try:
            results = self._session.run(list(self._outputs), feeds)
        except ModelError:
            if self._batch_proved:
                raise
            # A batch dimension that is open in the file need not be open in the graph.
            return None
        values: dict[str, Values] = {}
        for tensor, result in zip(self._outputs.values(), results, strict=True):
            if (
                result.ndim == 0
                or len(result) != count
                or result.size != count * element_count(tensor.shape)
            ):
                return None
            values[tensor.name] = self._as_declared(
                tensor, result, (count, *tensor.shape[1:])
            ).reshape(count, -1)
        return values

    def _as_declared(
        self, tensor: TensorLike, result: NDArray[Any], shape: tuple[int, ...]
    ) -> Values:
        """A result of onnxruntime in the layout and type of the deployment file."""
        if result.size != element_count(shape):
            raise ModelError(
                f"its output {tensor.name!r} is {list(result.shape)}, the deployment file says "
                f"{list(tensor.shape)}",
                where=str(self._model),
                hint="check output_shapes in the deployment file",
            )
        # Of another number of dimensions, as (1, 10) is for (1, 10, 1, 1): the same values in line.
        axes = None
        if result.ndim == len(shape):
            axes = permutation(shape, tensor.data_format, result.shape, self._order)
        values: Values = (turned_back(result, axes) if axes else result).astype(
            value_type(tensor.data_type)
        )
        return values

    def _of_right_size(self, row: bytes | None) -> bytes | None:
        size = sum(
            element_count(tensor.shape) * value_type(tensor.data_type).itemsize
            for tensor in self._outputs.values()
        )
        return row if row is not None and len(row) == size else None

    def _split(self, rows: bytes, count: int) -> dict[str, Values]:
        """Outputs by name out of rows in which they lie one behind the other."""
        table = np.frombuffer(rows, dtype=np.uint8).reshape(count, -1)
        values: dict[str, Values] = {}
        begin = 0
        for tensor in self._outputs.values():
            dtype = value_type(tensor.data_type)
            end = begin + element_count(tensor.shape) * dtype.itemsize
            values[tensor.name] = np.ascontiguousarray(table[:, begin:end]).view(dtype)
            begin = end
        return values

    def _describe(self) -> str:
        parts = [
            "1",
            sha256_of_model(self._model),
            self._session.version,
            self._order,
            *(f"{i.tensor.name} {i.tensor.shape} {i.tensor.data_format}" for i in self._inputs),
            *(
                f"{name} {tensor.name} {tensor.shape} {tensor.data_format} {tensor.data_type}"
                for name, tensor in self._outputs.items()
            ),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digests(samples: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """One digest for each sample's inputs."""
    count = len(next(iter(samples.values())))
    digests = []
    for index in range(count):
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for values in samples.values():
            digest.update(values[index].data)
        digests.append(digest.digest())
    return digests


def _is_same(one: Values, other: Values) -> bool:
    """Whether a sample's outputs are the same, but for the order of additions."""
    a, b = one.astype(np.float64), other.reshape(one.shape).astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    largest = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(a, b, rtol=0.0, atol=_SAME_WITHIN * largest, equal_nan=True))
