"""What a search costs on an emulated phone: beside MACE's own tuner, and beside mace_run itself.

One ``droidmace tune`` after the other on the same driver; each brings a new phone of its own, so
nothing is left over for the next one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nets
import onnx

_TIMEOUT_S = 1800.0
_BRIEF = ("--rounds", "5", "--blocks", "2", "--startup-runs", "1")
"""The proof afterwards is not what is measured."""


class PhoneError(Exception):
    """A tune did not end well."""


def measure_phone(
    net: str, driver: str, searches: Sequence[str], repeats: int, folder: Path
) -> list[dict[str, Any]]:
    """A row for each tune, ``repeats`` of each kind in turns. Raises ``PhoneError``."""
    model = folder / f"{net}.onnx"
    graph = nets.load_net(net)
    onnx.save(graph, str(model))
    deployment = folder / f"{net}.yml"
    deployment.write_text(nets.deployment(graph, model), encoding="utf-8")
    _droidmace("convert", "-c", str(deployment))
    rows = []
    for _ in range(repeats):
        for search in searches:
            rows.append({"search": search, "driver": driver, **_tune(deployment, driver, search)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _tune(deployment: Path, driver: str, search: str) -> dict[str, Any]:
    """One tune: seconds of its parts."""
    out = deployment.parent / f"out_{search}_{time.monotonic_ns()}"
    begun_s = time.monotonic()
    printed = _droidmace(
        *("tune", "--emulate", "1", "--driver", driver, "-c", str(deployment)),
        *("--search", search, "--json", "--out", str(out), *_BRIEF),
    )
    command_s = time.monotonic() - begun_s
    document = json.loads(printed)
    row: dict[str, Any] = {
        "command_s": round(command_s, 1),
        "phones_tuner_s": document["tuning_s"],
        "run_ms": document["run_ms"],
    }
    summary = document.get("search")
    if summary is None:
        return row
    wall_s, mace_run_s = summary["wall_s"], summary["mace_run_s"]
    return row | {
        "search_s": wall_s,
        "mace_run_s": mace_run_s,
        "host_share": round(1.0 - mace_run_s / wall_s, 4) if wall_s else None,
        **{
            name: summary[name]
            for name in ("processes", "evaluations", "untuned_ms", "mace_ms", "best_ms")
        },
    }


def _droidmace(*arguments: str) -> str:
    """What it prints. Raises ``PhoneError``."""
    done = subprocess.run(
        [sys.executable, "-m", "droidmace", *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise PhoneError(f"{arguments[0]}: exit status {done.returncode}: {done.stderr[-800:]}")
    return done.stdout
