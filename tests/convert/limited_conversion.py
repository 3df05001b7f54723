"""Convert models in a process with little memory; one line of JSON for each.

``python limited_conversion.py``: reads a JSON list of ``[name, path, inputs, outputs]`` from stdin.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx_models import declare

from droidmace.convert import convert_model
from droidmace.errors import DroidmaceError

ROOM_BYTES = 400 << 20
"""What a conversion may take besides what the interpreter has already."""


def limit_memory() -> None:
    """Whatever wants more than a little gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    room = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


def main() -> None:
    """Convert all of them."""
    cases = json.load(sys.stdin)
    # Whatever is imported late is there before memory is counted.
    onnx.checker.check_model(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])))
    np.ones(1).astype("<f2")
    limit_memory()
    for name, path, inputs, outputs in cases:
        config = declare(
            Path(path),
            {key: tuple(shape) for key, shape in inputs.items()},
            {key: tuple(shape) for key, shape in outputs.items()},
        )
        try:
            convert_model(config)
            result = ["converted", "", ""]
        except DroidmaceError as error:
            result = [type(error).__name__, str(error), error.hint or ""]
        except Exception as exc:
            result = ["crash", f"{type(exc).__name__}: {exc}", ""]
        sys.stdout.write(json.dumps([name, *result]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
