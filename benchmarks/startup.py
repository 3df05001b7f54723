"""Cold and warm starts: real engine processes, timed by the table they print.

Cold has no compiled program; warm has the one that the cold process left. Both find the driver's
own cache empty, or it would do the engine's work: a folder of its own for PoCL and for NVIDIA;
Intel's CPU runtime keeps none. MACE reuses no program of a GPU whose name it does not know, so the
driver is given a phone's, as an emulated phone does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from drivers import Driver
from rivals.droidmace_engine import ConvertedNet

# the claims of configs/phones/mali.yml that the rule looks at
_IDENTITY = {"platform_name": "ARM Platform", "device_name": "Mali-G78 r0p1"}
_TABLE = re.compile(r"^time +([0-9.]+) +([0-9.]+) +([0-9.]+) +([0-9.]+)", re.MULTILINE)
_TIMEOUT_S = 120.0
_ROOT = Path(__file__).resolve().parents[1]


def measure_starts(
    model: ConvertedNet, image: npt.NDArray[np.float32], driver: Driver, rounds: int
) -> dict[str, Any]:
    """``rounds`` cold and warm starts in turn.

    Returns ``{"cold": [{"init_ms": …, "warmup_ms": …}, …], "warm": …}``, or ``{"failed": why}``.
    """
    starts: dict[str, Any] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="start_") as folder:
            storage = Path(folder) / "interior"
            storage.mkdir()
            (Path(folder) / "identity.json").write_text(json.dumps(_IDENTITY))
            image.tofile(Path(folder) / f"input_{model.input_name}")
            for kind in ("cold", "warm"):
                output = _run(model, driver, Path(folder), kind)
                match = _TABLE.search(output)
                if match is None:
                    return {"failed": _reason(output)}
                times = {"init_ms": float(match[2]), "warmup_ms": float(match[3])}
                starts[kind].append(times)
    return starts


def _reason(output: str) -> str:
    """The errors that a process logged, else its last line."""
    lines = output.strip().splitlines()
    errors = [line for line in lines if line.startswith(("E ", "F "))]
    return "; ".join(errors[-2:]) or (lines[-1] if lines else "it printed nothing")


def _run(model: ConvertedNet, driver: Driver, folder: Path, kind: str) -> str:
    environ = {
        **os.environ,
        **driver.environ(folder / kind),
        "DROIDMACE_GPU_IDENTITY": str(folder / "identity.json"),
        "MACE_INTERNAL_STORAGE_PATH": str(folder / "interior"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
    }
    command = [
        *(sys.executable, "-m", "droidmace.engine"),
        f"--model_file={model.graph}",
        f"--model_data_file={model.data}",
        f"--input_node={model.input_name}",
        f"--input_shape={','.join(map(str, model.input_shape))}",
        "--input_data_format=NCHW",
        f"--output_node={model.output_name}",
        f"--output_shape={','.join(map(str, model.output_shape))}",
        f"--output_data_format={'NCHW' if len(model.output_shape) == 4 else 'NONE'}",
        f"--input_file={folder / 'input'}",
        f"--output_file={folder / 'output'}",
        "--round=1",
    ]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(_TIMEOUT_S, process.kill)
        watchdog.start()
        for line in process.stdout:
            lines.append(line)
            if "retry ..." in line:  # mace_run would go on like that for ever
                process.kill()
                break
        watchdog.cancel()
    return "".join(lines)
