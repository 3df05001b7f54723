"""One rival in a process of its own: gets a net ready, then runs it whenever it is told to.

Its own process, so that no rival's idle threads, crash or environment touches another. One JSON
object a line; stdout is for those alone, whatever a library prints goes to stderr.

    {"run": "resident" | "io", "count": N}  ->  {"ms": [...]}
    {"output": PATH}                        ->  {}            the output is stored there as .npy
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from rivals.base import Runner, Task, UnavailableError

# this checkout's engine, installed or not
sys.path.append(str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Serve the parent until it closes the pipe."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.argv[1])
    start = time.perf_counter()
    try:
        runner, options = _ready(request)
    except (UnavailableError, ImportError) as exc:
        _say(replies, {"unavailable": str(exc)})
        return
    except Exception as exc:
        _say(replies, {"unavailable": f"{type(exc).__name__}: {exc}"[:500]})
        raise
    _say(
        replies,
        {
            "versions": runner.versions,
            "notes": runner.notes,
            "options": options,
            "prepare_s": round(time.perf_counter() - start, 3),
        },
    )
    gc.collect()
    gc.freeze()
    gc.disable()
    for line in sys.stdin:
        command = json.loads(line)
        if "output" in command:
            np.save(command["output"], runner.run_with_io())
            _say(replies, {})
        else:
            function = runner.run if command["run"] == "resident" else runner.run_with_io
            _say(replies, {"ms": _timed(function, command["count"])})
            gc.collect()
    # drivers that hang or crash while they are unloaded have nothing to lose any more
    replies.flush()
    os._exit(0)


def _ready(request: dict[str, Any]) -> tuple[Runner, dict[str, Any]]:
    options = dict(request["options"])
    task = Task(
        model=Path(request["model"]),
        image=np.load(request["image"]),
        scratch=Path(request["scratch"]),
        threads=request["threads"],
        options=options,
    )
    with contextlib.suppress(AttributeError):  # Linux has it
        os.sched_setaffinity(0, request["cores"])
    runner = importlib.import_module(f"rivals.{request['module']}").make(task)
    return runner, options


def _timed(function: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of ``count`` calls. One more call before them is not counted: it finds caches
    that another rival left cold.
    """
    function()
    clock = time.perf_counter_ns
    stamps = [0] * (2 * count)
    for index in range(0, 2 * count, 2):
        stamps[index] = clock()
        function()
        stamps[index + 1] = clock()
    return [round((stamps[i + 1] - stamps[i]) / 1e6, 5) for i in range(0, 2 * count, 2)]


def _say(replies: IO[str], message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
