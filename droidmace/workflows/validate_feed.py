"""Samples on their way to the phone and their outputs on the way back, held against the reference.

Chunks are taken by whoever runs them, on any thread; the reference of a chunk is computed on a
thread of its own as soon as its samples are there, while the phone is busy with them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from droidmace.validation.classification import ClassTally
from droidmace.validation.reference import ReferenceOutputs
from droidmace.validation.samples import Sample, input_bytes
from droidmace.validation.similarity import SimilarityTally
from droidmace.workflows.batch import Chunk

Outputs = Mapping[str, NDArray[Any]]
"""Output name to values (n, elements)."""
Read = Callable[[int, int], Iterator[Sample]]
"""Prepared samples ``begin`` to ``end``, in order."""


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A chunk whose outputs are not back yet."""

    labels: list[int]
    """-1 without one."""
    reference: Future[Outputs] | None


class _Inputs(Sequence[Mapping[str, bytes]]):
    """Samples' inputs as files, made when they are asked for: the arrays are there only once."""

    def __init__(self, stacked: Mapping[str, NDArray[Any]], count: int) -> None:
        self._stacked = stacked
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Mapping[str, bytes]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, bytes]]: ...

    def __getitem__(
        self, place: int | slice
    ) -> Mapping[str, bytes] | Sequence[Mapping[str, bytes]]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return {name: input_bytes(values[place]) for name, values in self._stacked.items()}


class Feed:
    """Turns samples into chunks, and what comes back into tallies."""

    def __init__(
        self,
        read: Read,
        reference: ReferenceOutputs | None,
        classes: ClassTally | None,
        similarity: Mapping[str, SimilarityTally],
    ) -> None:
        self._read = read
        self._reference = reference
        self._classes = classes
        self._similarity = similarity
        self._awaited: dict[int, _Awaited] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "reference")
        self.reference_s = 0.0
        """Time that the reference took, on its own thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def chunks(self, ranges: Iterable[range], chunk_size: Callable[[], int]) -> Iterator[Chunk]:
        """Chunks of the samples in ``ranges``; each as large as is wanted by then."""
        for wanted in ranges:
            first = wanted.start
            while first < wanted.stop:
                inputs = self._await(first, min(wanted.stop, first + chunk_size()))
                yield Chunk(first, inputs)
                first += len(inputs)

    def known(self, begin: int, end: int) -> None:
        """Outputs of these samples are there already: only their labels and inputs are needed."""
        self._await(begin, end)

    def take(self, first: int, outputs: Outputs) -> None:
        """Tally the outputs of the chunk that began with sample ``first``."""
        with self._lock:
            awaited = self._awaited.pop(first)
        reference = awaited.reference.result() if awaited.reference is not None else None
        if self._classes is not None:
            (name,) = outputs
            self._classes.add(
                awaited.labels, outputs[name], None if reference is None else reference[name]
            )
        if reference is not None:
            for name, tally in self._similarity.items():
                tally.add(outputs[name], reference[name])

    def _await(self, first: int, end: int) -> _Inputs:
        """Read samples ``first`` to ``end``; their outputs will come."""
        stacked: dict[str, NDArray[Any]] = {}
        labels: list[int] = []
        for place, sample in enumerate(self._read(first, end)):
            for name, values in sample.inputs.items():
                if place == 0:
                    stacked[name] = np.empty((end - first, *values.shape), values.dtype)
                stacked[name][place] = values
            labels.append(-1 if sample.label is None else sample.label)
        future = None
        if self._reference is not None:
            future = self._pool.submit(self._timed, self._reference, first, stacked)
        with self._lock:
            self._awaited[first] = _Awaited(labels, future)
        return _Inputs(stacked, len(labels))

    def _timed(self, reference: ReferenceOutputs, first: int, inputs: Outputs) -> Outputs:
        began_s = time.monotonic()
        try:
            return reference.run(inputs, first=first)
        finally:
            self.reference_s += time.monotonic() - began_s
