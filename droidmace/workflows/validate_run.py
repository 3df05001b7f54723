"""All samples of a validation through one model on the phone, from where an earlier call ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from droidmace.results.validation import ValidationTimings
from droidmace.validation.store import OutputStore
from droidmace.workflows.batch import BatchRunner
from droidmace.workflows.measure import Progress
from droidmace.workflows.validate_feed import Feed
from droidmace.workflows.validate_plan import Plan

_KNOWN_PIECE = 256
"""Samples whose outputs are read back from the store at a time."""


def run_samples(
    runner: BatchRunner,
    store: OutputStore,
    feed: Feed,
    plan: Plan,
    progress: Progress,
    *,
    chunk_samples: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ValidationTimings:
    """Tally the outputs of all samples of ``plan``; those that are not in ``store`` are run first.

    Raises what the runner raises; what came back until then is in the store.
    """
    count = plan.count
    missing = store.missing(count)
    resumed = count - sum(len(gap) for gap in missing)
    for known in store.done:
        for first in range(known.start, min(known.stop, count), _KNOWN_PIECE):
            last = min(known.stop, count, first + _KNOWN_PIECE)
            feed.known(first, last)
            feed.take(first, store.read(first, last - first))
            progress(f"{last:,} of {count:,} were there already", last, count)

    def chunk_size(left: int) -> int:
        return runner.chunk_size(plan.input_bytes, plan.output_bytes, left, wanted=chunk_samples)

    began_s = clock()
    run_s, chunks, done = 0.0, 0, resumed
    for chunk in runner.run(feed.chunks(missing, chunk_size)):
        store.append(chunk)
        feed.take(chunk.first, chunk.outputs)
        done += chunk.count
        run_s, chunks = run_s + chunk.run_s, chunks + 1
        rate = (done - resumed) / max(clock() - began_s, 1e-9)
        left_s = (count - done) / rate
        progress(f"{done:,} of {count:,}, {rate:,.0f} a second, {left_s:.0f} s left", done, count)
    if done != count:
        raise AssertionError(f"{done} of {count} samples came back")
    return ValidationTimings(
        wall_s=clock() - began_s,
        run_s=run_s,
        chunks=chunks,
        samples=count,
        resumed=resumed,
        reference_s=feed.reference_s or None,
    )
