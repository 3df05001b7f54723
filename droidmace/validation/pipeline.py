"""Samples prepared in order by several threads, a bounded number of them ahead.

Runs of samples of equal size are prepared as one array. Sources that decode images are read by
the threads themselves (Pillow lets go of the interpreter's lock while it decodes and resizes);
what only copies memory is done at once, without threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from droidmace.errors import InputError
from droidmace.validation.layouts import TensorLike
from droidmace.validation.preprocess import Preprocess
from droidmace.validation.samples import RawSample, Sample, SampleSource, Tensor, input_values

_RUN_SAMPLES = 256
_RUN_BYTES = 16 << 20

_Task = Callable[[], list[Sample]]


def prepared(
    source: SampleSource,
    preprocess: Preprocess,
    tensors: Sequence[TensorLike],
    begin: int,
    end: int,
    *,
    workers: int = 1,
) -> Iterator[Sample]:
    """Samples ``begin`` to ``end`` (exclusive) as the inputs ``tensors``, in order.

    At most ``workers + 1`` runs of samples, of some 16 MiB each, are in memory at a time. Closing
    the iterator ends the threads.

    Raises ``InputError`` (or ``FormatError``) that names the first sample that cannot be read, does
    not fit the model, or is missing; ``MissingExtraError``.
    """
    if not 0 <= begin <= end <= source.count:
        raise InputError(f"samples {begin} to {end} were asked for, there are {source.count}")
    prepare = partial(_prepare, preprocess=preprocess, tensors=tuple(tensors))
    if source.many_readers:
        reading = _read_tasks(source, prepare, _run_length(tensors), begin, end)
        return _in_order(reading, workers)
    runs = _runs(_all_of(source, begin, end), begin, _run_length(tensors))
    slow = preprocess.resize is not None
    tasks = (partial(prepare, raws, index) for index, raws in runs)
    return _in_order(tasks, workers if slow else 1)


def _run_length(tensors: Sequence[TensorLike]) -> int:
    sample_bytes = sum(4 * int(np.prod(tensor.shape)) for tensor in tensors)
    return max(1, min(_RUN_SAMPLES, _RUN_BYTES // max(1, sample_bytes)))


def _read_tasks(
    source: SampleSource,
    prepare: Callable[[list[RawSample], int], list[Sample]],
    length: int,
    begin: int,
    end: int,
) -> Iterator[_Task]:
    def work(first: int, last: int) -> list[Sample]:
        found: list[Sample] = []
        for index, raws in _runs(_all_of(source, first, last), first, length):
            found += prepare(raws, index)
        return found

    # Short ones: images differ in size, and nobody should wait for the last.
    length = min(length, 16)
    for first in range(begin, end, length):
        yield partial(work, first, min(first + length, end))


def _all_of(source: SampleSource, begin: int, end: int) -> Iterator[RawSample]:
    """What was asked for, or an error."""
    found = 0
    for raw in source.read(begin, end):
        found += 1
        yield raw
    if found != end - begin:
        raise InputError(
            f"the data set gave {found} of the samples {begin} to {end}",
            hint="the count of a data set must be the number of its samples",
        )


def _runs(
    raws: Iterator[RawSample], index: int, length: int
) -> Iterator[tuple[int, list[RawSample]]]:
    """Neighbours that are prepared together, with the index of the first."""
    run: list[RawSample] = []
    run_bytes = 0
    for raw in raws:
        if run and (len(run) >= length or run_bytes >= _RUN_BYTES or not _alike(run[-1], raw)):
            yield index, run
            index += len(run)
            run, run_bytes = [], 0
        run.append(raw)
        run_bytes += raw.pixels.nbytes if raw.pixels is not None else 0
    if run:
        yield index, run


def _alike(one: RawSample, other: RawSample) -> bool:
    if one.pixels is None or other.pixels is None:
        return one.pixels is other.pixels
    return one.pixels.shape == other.pixels.shape and one.pixels.dtype == other.pixels.dtype


def _prepare(
    raws: list[RawSample], index: int, *, preprocess: Preprocess, tensors: tuple[TensorLike, ...]
) -> list[Sample]:
    """Samples of a run; all of them hold pixels of one shape, or none does."""
    if raws[0].pixels is None:
        return [
            Sample(index + place, raw.name, raw.label, _given(raw, tensors))
            for place, raw in enumerate(raws)
        ]
    if len(tensors) != 1:
        raise InputError(
            f"an image makes one input, the model has {len(tensors)}",
            where=raws[0].name,
            hint="give one array per input: droidmace.dataset.arrays",
        )
    pixels = np.stack([raw.pixels for raw in raws if raw.pixels is not None])
    try:
        values = preprocess.inputs(pixels, tensors[0])
    except InputError as error:
        if error.where is None:
            error.where = raws[0].name
        raise
    name = tensors[0].name
    batch = values[:, np.newaxis]
    return [
        Sample(index + place, raw.name, raw.label, {name: batch[place]})
        for place, raw in enumerate(raws)
    ]


def _given(raw: RawSample, tensors: tuple[TensorLike, ...]) -> dict[str, Tensor]:
    """The inputs a source made itself, checked against the model's."""
    given = raw.tensors or {}
    names = [tensor.name for tensor in tensors]
    if set(given) != set(names):
        raise InputError(
            f"the inputs {sorted(given)} were given, the model has {sorted(names)}",
            where=raw.name,
            hint="name arrays as the deployment file names the model's inputs",
        )
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        values = given[tensor.name]
        if values.shape != tensor.shape:
            raise InputError(
                f"input {tensor.name!r} has shape {list(values.shape)} instead of "
                f"{list(tensor.shape)}",
                where=raw.name,
                hint="check input_shapes of the deployment file",
            )
        try:
            found[tensor.name] = input_values(values, tensor.data_type)
        except ValueError as error:
            raise InputError(
                f"input {tensor.name!r}: {error}",
                where=raw.name,
                hint="give numbers of the type that input_data_types of the deployment file says",
            ) from error
    return found


def _in_order(tasks: Iterator[_Task], workers: int) -> Iterator[Sample]:
    if workers <= 1:
        for task in tasks:
            yield from task()
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="samples")
    ahead: deque[Future[list[Sample]]] = deque()
    try:
        for task in tasks:
            ahead.append(pool.submit(task))
            if len(ahead) > workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
