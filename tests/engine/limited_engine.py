"""Make and run nets in a process with little memory; one line of JSON for each.

``python limited_engine.py``: reads a JSON list of ``[name, graph file, weights file]`` from stdin.
OpenCL's driver is the one that the environment names.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import numpy as np

from droidmace.engine.create import EngineRequest, create_net
from droidmace.engine.flags import parse_flags
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.tuner import Tuner
from droidmace.errors import EngineError

ROOM_BYTES = 600 << 20
"""What the engine may take besides what interpreter and driver have already."""
INPUT = np.linspace(-1, 1, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)


class AbortedError(Exception):
    """Where the engine would have aborted."""


def _abort() -> NoReturn:
    raise AbortedError


def make_and_run(graph: Path, weights: Path, storage: str, log: MaceLog) -> None:
    """What ``mace_run`` does between its files, with an input of ordinary size."""
    request = EngineRequest(
        graph=graph.read_bytes(),
        weights=weights.read_bytes(),
        input_names=["input"],
        output_names=["output"],
        flags=parse_flags([]),
        environ={"MACE_INTERNAL_STORAGE_PATH": storage},
        tuner=Tuner(log, {}, ""),
        log=log,
    )
    create_net(request).run({"input": INPUT})


def limit_memory() -> None:
    """Whatever wants more than a little gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    room = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


def main() -> None:
    """The first case is a good one: after it everything is loaded, and memory is limited."""
    storage = tempfile.TemporaryDirectory()
    for index, (name, graph, weights) in enumerate(json.load(sys.stdin)):
        with tempfile.NamedTemporaryFile() as lines:
            log = MaceLog(StdioStream(os.dup(lines.fileno())), abort=_abort)
            try:
                make_and_run(Path(graph), Path(weights), storage.name, log)
                result = ["ran", ""]
            except EngineError as error:
                result = ["EngineError", error.message]
            except AbortedError:
                log.flush()
                text = Path(lines.name).read_text("utf-8", "replace")
                fatal = [line for line in text.splitlines() if line.startswith("F ")]
                result = ["aborted", fatal[-1] if fatal else "aborted without a word"]
            except Exception as exc:
                result = ["crash", f"{type(exc).__name__}: {exc}"]
        if index == 0:
            limit_memory()
        sys.stdout.write(json.dumps([name, *result]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
