"""Runs a batch on a phone as a program of its own, so that it can be killed like one.

    python batch_entry.py JSON

with serial, store, count, chunk, and optionally sample_s (what one sample takes). Outputs that are
in the store already are not computed again. Prints a line of JSON for each chunk that is in the
store, and last one with what went wrong, if anything did.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from droidmace.devices.base import Device
from droidmace.devices.lock import DeviceLock
from droidmace.devices.select import find_device
from droidmace.errors import DroidmaceError
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import DEFAULT_ROOT, MaceRunSession
from droidmace.validation.store import OutputStore
from droidmace.workflows.batch import BatchRunner, Chunk

STAND_IN = Path(__file__).parents[1] / "macerun" / "batch_stand_in.py"
ELEMENTS = 10


def say(**document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def runner(device: Device, sample_s: float = 0.0) -> BatchRunner:
    """A runner whose mace_run is a stand-in that is on the phone afterwards."""
    device.push(STAND_IN, f"{DEFAULT_ROOT}/mace_run", mode=0o755)
    invocation = Invocation(
        cwd=DEFAULT_ROOT,
        model_name="tiny",
        model_file="tiny.pb",
        model_data_file="tiny.data",
        inputs=(TensorArg("image", (1, 3)),),
        outputs=(TensorArg("scores", (1, ELEMENTS)),),
        input_file="in",
        output_file="out",
        extra_environment={"X_SAMPLE_S": str(sample_s)},
    )
    session = MaceRunSession(device, DEFAULT_ROOT)
    return BatchRunner(device, session, DEFAULT_ROOT, invocation, storage_share=1.0, timeout_s=60.0)


def chunks(store: OutputStore, count: int, size: int) -> Iterator[Chunk]:
    """Samples whose outputs are not known; each has its number as its first value."""
    for gap in store.missing(count):
        for first in range(gap.start, gap.stop, size):
            numbers = range(first, min(first + size, gap.stop))
            yield Chunk(first, [{"image": np.array([n, 1, 2], "<f4").tobytes()} for n in numbers])


def run(
    device: Device,
    store: OutputStore,
    count: int,
    size: int,
    sample_s: float = 0.0,
    on_start: Callable[[], None] = lambda: None,
) -> int:
    """Run what is missing; return how many samples were computed."""

    def started() -> Iterator[Chunk]:
        on_start()
        yield from chunks(store, count, size)

    computed = 0
    for outputs in runner(device, sample_s).run(started()):
        store.append(outputs)
        computed += outputs.count
        say(first=outputs.first, count=outputs.count)
    return computed


def main(task: dict[str, Any]) -> None:
    device = find_device(task["serial"], None)
    with DeviceLock(device), OutputStore(Path(task["store"]), {"model": "tiny"}) as store:
        run(device, store, task["count"], task["chunk"], task.get("sample_s", 0.0))


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except DroidmaceError as error:
        say(error=type(error).__name__, message=str(error), hint=error.hint)
        sys.exit(2)
