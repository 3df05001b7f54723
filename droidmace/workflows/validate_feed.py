"""Samples on their way to the phone and their outputs on the way back, held against the reference.

Chunks are taken by whoever runs them, on any thread; the reference of a chunk is computed on a
thread of its own as soon as its samples are there, while the phone is busy with them. Samples wait
on the disk: memory depends neither on their number nor on the size of a chunk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from droidmace.validation.classification import ClassTally
from droidmace.validation.reference import REFERENCE_BATCH, ReferenceOutputs
from droidmace.validation.samples import Sample
from droidmace.validation.similarity import SimilarityTally
from droidmace.validation.spool import InputSpool
from droidmace.workflows.batch import Chunk

Outputs = Mapping[str, NDArray[Any]]
"""Output name to values (n, elements)."""
Read = Callable[[int, int], Iterator[Sample]]
"""Prepared samples ``begin`` to ``end``, in order."""
_REFERENCE_BYTES = 1 << 20
"""Of inputs that the reference is given at a time."""


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A chunk whose outputs are not back yet."""

    labels: list[int]
    """-1 without one."""
    names: list[str]
    inputs: InputSpool
    reference: Future[Outputs] | None


class Feed:
    """Turns samples into chunks, and what comes back into tallies."""

    def __init__(
        self,
        read: Read,
        reference: ReferenceOutputs | None,
        classes: ClassTally | None,
        similarity: Mapping[str, SimilarityTally],
        folder: Path,
    ) -> None:
        """``folder``: on a disk with room for the samples that are on their way."""
        self._read = read
        self._folder = folder
        self._reference = reference
        self._classes = classes
        self._similarity = similarity
        self._awaited: dict[int, _Awaited] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "reference")
        self._ended = threading.Event()
        self.reference_s = 0.0
        """Time that the reference took, on its own thread."""
        self.not_finite = 0
        """Samples whose inputs hold NaN or infinity."""
        self.first_not_finite = ""
        self.worst_names: dict[str, str] = {}
        """By output, what the sample is called that is least like the reference's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for awaited in self._awaited.values():
                awaited.inputs.close()
            self._awaited.clear()

    def chunks(self, ranges: Sequence[range], chunk_size: Callable[[int], int]) -> Iterator[Chunk]:
        """Chunks of the samples in ``ranges``; each as large as is wanted by then.

        ``chunk_size`` is told how many samples are still to be sent.
        """
        left = sum(map(len, ranges))
        for wanted in ranges:
            first = wanted.start
            while first < wanted.stop:
                inputs = self._await(first, min(wanted.stop, first + chunk_size(left)))
                yield Chunk(first, inputs)
                first += len(inputs)
                left -= len(inputs)

    def known(self, begin: int, end: int) -> None:
        """Outputs of these samples are there already: only their labels and inputs are needed."""
        self._await(begin, end)

    def take(self, first: int, outputs: Outputs) -> None:
        """Tally the outputs of the chunk that began with sample ``first``."""
        with self._lock:
            awaited = self._awaited.pop(first)
        with closing(awaited.inputs):
            reference = awaited.reference.result() if awaited.reference is not None else None
        if self._classes is not None:
            (name,) = outputs
            self._classes.add(
                awaited.labels, outputs[name], None if reference is None else reference[name]
            )
        if reference is not None:
            for name, tally in self._similarity.items():
                before = tally.samples
                tally.add(outputs[name], reference[name])
                if tally.worst_sample >= before:
                    self.worst_names[name] = awaited.names[tally.worst_sample - before]

    def _await(self, first: int, end: int) -> InputSpool:
        """Read samples ``first`` to ``end``; their outputs will come."""
        inputs = InputSpool(self._folder)
        try:
            labels: list[int] = []
            names: list[str] = []
            for sample in self._read(first, end):
                inputs.append(sample.inputs)
                if not sample.finite:
                    self.not_finite += 1
                    self.first_not_finite = self.first_not_finite or sample.name
                labels.append(-1 if sample.label is None else sample.label)
                names.append(sample.name)
        except BaseException:
            inputs.close()
            raise
        future = None
        if self._reference is not None:
            future = self._pool.submit(self._timed, self._reference, first, inputs)
        with self._lock:
            self._awaited[first] = _Awaited(labels, names, inputs, future)
        return inputs

    def _timed(self, reference: ReferenceOutputs, first: int, inputs: InputSpool) -> Outputs:
        began_s = time.monotonic()
        pieces: list[Outputs] = []
        for place, arrays in inputs.arrays(_REFERENCE_BYTES, least=REFERENCE_BATCH):
            if self._ended.is_set():
                raise CancelledError
            pieces.append(reference.run(arrays, first=first + place))
        self.reference_s += time.monotonic() - began_s
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
