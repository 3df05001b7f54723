"""Measures every legal local size of a net's kernels, and keeps it as the journal of a search.

The groups are shared out to processes of two cores each (``worker.py``); what they have when the
time is up is what is kept. A line of the journal is what one process of ``mace_run`` would have
told: one candidate of every group at once, the ``i``-th of each in run ``i``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
from drivers import Driver
from machine import describe_machine
from rivals.droidmace_engine import ConvertedNet, convert

from droidmace.tuning import journal_lines
from droidmace.tuning.journal_lines import GroupFacts, JournalRun, KeyFacts
from droidmace.tuning.search import Choice, RunRecord, RunStatus

WORKER = Path(__file__).resolve().parent / "worker.py"
FASHION_MNIST = WORKER.parents[2] / "examples/fashion_mnist/fashion_mnist.onnx"
_START_TIMEOUT_S = 300.0
_POCL_COMPILE_MS = 150.0
_WINDOW = 31
"""Samples over which drift is judged; odd."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: seconds for everything, passes at most; and on which cores."""

    seconds: float
    passes: int
    cores: Sequence[int]
    cores_per_process: int = 2
    rounds: int = 1
    """Runs that a sample is the mean of."""
    powers_only: bool = False
    """Leave out what is neither MACE's own nor made of powers of two."""

    @property
    def shares(self) -> list[list[int]]:
        """The cores of each process."""
        width = min(self.cores_per_process, len(self.cores))
        starts = range(0, len(self.cores) - width + 1, width)
        return [list(self.cores[start : start + width]) for start in starts]


class RecordError(Exception):
    """Nothing could be measured."""


def prepare_net(name: str, folder: Path) -> dict[str, Any]:
    """The net in image memory, its weights seeded (what they are changes no time)."""
    model = folder / f"{name}.onnx"
    if name == "fashion_mnist":
        model = FASHION_MNIST
    elif not model.exists():
        onnx.save(nets.load_net(name), str(model))
    converted: ConvertedNet = convert(model, "image", folder)
    batch, channels, height, width = converted.input_shape
    return {
        "graph": str(converted.graph),
        "data": str(converted.data),
        "input_name": converted.input_name,
        "output_name": converted.output_name,
        "input_shape": (batch, height, width, channels),
    }


def record(driver: Driver, net: str, effort: Effort, folder: Path) -> Iterator[bytes]:
    """The lines of the journal. Raises ``RecordError``."""
    model = prepare_net(net, folder)
    environ = _environ(driver, effort, folder)
    request: dict[str, Any] = {"model": model, "cores": effort.shares[0]}
    survey = _survey(request, environ, folder)
    groups = survey["groups"]
    compiles = driver.name == "pocl"
    request |= {
        "passes": effort.passes,
        "rounds": effort.rounds,
        "most_rank": 1 if effort.powers_only else 2,
        "compiles_per_size": compiles,
        "seconds": effort.seconds,
    }
    costs = [
        len(one["choices"]) * (one["default_ms"] + (_POCL_COMPILE_MS if compiles else 0.05))
        for one in groups
    ]
    workers = []
    for index, (cores, share) in enumerate(
        zip(effort.shares, _shared_out(costs, len(effort.shares)), strict=True)
    ):
        workers.append(
            _Worker(
                {**request, "cores": cores, "groups": share, "seed": index},
                environ,
                folder / f"{driver.name}_{net}_{index}",
            )
        )
    until_s = time.time() + effort.seconds + _START_TIMEOUT_S
    samples: dict[tuple[int, int], list[float]] = {}
    refused: dict[tuple[int, int], str] = {}
    for worker in workers:
        series: list[tuple[tuple[int, int], float]] = []
        for group, candidate, found in worker.lines(until_s):
            if isinstance(found, str):
                refused[group, candidate] = found
            else:
                series.append(((group, candidate), found))
        for (pair, _), time_ms in zip(series, without_drift(series), strict=True):
            samples.setdefault(pair, []).append(float(f"{time_ms:.4g}"))
    if not samples:
        raise RecordError(workers[0].last_words())
    yield from journal(_identity(driver, net, survey, effort), survey, samples, refused)


def without_drift(series: Sequence[tuple[tuple[int, int], float]]) -> list[float]:
    """Times (ms) of one process, in their order, as if the machine had been as fast all the while.

    A clock that changes or a neighbour slows everything for some seconds. So each sample is divided
    by how much slower than usual those just before and after it were: the median of their ratios to
    their own candidates' medians. Candidates come in random order, so no group's own time is in
    that. Twice, since the medians know less drift the second time.
    """
    if not series:
        return []
    times = np.array([time_ms for _, time_ms in series])
    places: dict[tuple[int, int], list[int]] = {}
    for place, (pair, _) in enumerate(series):
        places.setdefault(pair, []).append(place)
    logs = np.log(np.maximum(times, 1e-9))
    drift = np.zeros(len(times))
    for _ in range(2):
        usual = np.empty(len(times))
        for where in places.values():
            usual[where] = np.median(logs[where] - drift[where])
        padded = np.pad(
            logs - usual, _WINDOW // 2, mode="reflect" if len(times) > _WINDOW else "edge"
        )
        windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
        drift = np.median(windows, axis=1)[: len(times)]
    corrected: list[float] = (times / np.exp(drift - np.median(drift))).tolist()
    return corrected


def journal(
    identity: Mapping[str, str],
    survey: Mapping[str, Any],
    samples: Mapping[tuple[int, int], Sequence[float]],
    refused: Mapping[tuple[int, int], str],
) -> Iterator[bytes]:
    """Lines of the journal; samples and refusals by group and candidate."""
    facts = [
        GroupFacts(
            one["key"],
            (
                KeyFacts(
                    one["key"],
                    gws=tuple(one["gws"]),
                    kwg_size=one["kwg_size"],
                    max_lws=tuple(survey["device"]["max_lws"]),
                ),
            ),
            tuple(one["ops"]),
        )
        for one in survey["groups"]
    ]
    choices: list[list[Choice]] = [
        [(None if choice is None else tuple(choice),) for choice in one["choices"]]
        for one in survey["groups"]
    ]
    yield journal_lines.dump(journal_lines.header_document(identity, identity["date"]))
    yield journal_lines.dump(journal_lines.groups_document(facts))
    for index in range(max(map(len, choices))):
        found = {g: samples[g, index] for g in range(len(facts)) if (g, index) in samples}
        for repeat in range(max(map(len, found.values()), default=0)):
            measured = {g: times[repeat] for g, times in found.items() if len(times) > repeat}
            run = RunRecord(
                plan={facts[g].name: choices[g][index] for g in measured},
                status=RunStatus.OK,
                rounds=int(identity["rounds"]),
                group_ms={facts[g].name: time_ms for g, time_ms in measured.items()},
            )
            yield _line(JournalRun(index, repeat, run), facts)
    for (group, index), reason in sorted(refused.items()):
        name = facts[group].name
        run = RunRecord(
            {name: choices[group][index]}, RunStatus.REFUSED, 1, guilty=name, reason=reason
        )
        yield _line(JournalRun(index, 0, run), facts)


def write_journal(path: Path, lines: Iterator[bytes]) -> None:
    """Write them, compressed, the same bytes for the same lines."""
    content = b"".join(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(content)


def _line(run: JournalRun, facts: Sequence[GroupFacts]) -> bytes:
    return journal_lines.dump(journal_lines.run_document(run, facts))


def _environ(driver: Driver, effort: Effort, folder: Path) -> dict[str, str]:
    width = str(len(effort.shares[0]))
    own = Path(tempfile.mkdtemp(dir=folder))
    # what one net's kernels were compiled to serves the next net
    cache = folder / "pocl_cache"
    cache.mkdir(exist_ok=True)
    # both drivers would else start a thread for every core of the machine
    threads = {"POCL_MAX_PTHREAD_COUNT": width, "CL_CONFIG_CPU_TBB_NUM_WORKERS": width}
    return {**os.environ, **driver.environ(own), **threads, "POCL_CACHE_DIR": str(cache)}


def _survey(request: dict[str, Any], environ: dict[str, str], folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out, ask = Path(scratch) / "survey.json", Path(scratch) / "request.json"
        ask.write_text(json.dumps({**request, "out": str(out)}))
        try:
            done = subprocess.run(
                [sys.executable, str(WORKER), str(ask)],
                env=environ,
                capture_output=True,
                text=True,
                timeout=_START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise RecordError(f"no survey within {_START_TIMEOUT_S:.0f} s") from exc
        if not out.exists():
            said = (done.stdout + done.stderr)[-2000:]
            raise RecordError(f"exit status {done.returncode}: {said}")
        survey: dict[str, Any] = json.loads(out.read_text())
        return survey


def _shared_out(costs: Sequence[float], count: int) -> list[list[int]]:
    """Indices for each of ``count`` processes, the dearest first to whoever has least."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += costs[index]
    return shares


class _Worker:
    """A process that measures, and the file it writes."""

    def __init__(self, request: dict[str, Any], environ: dict[str, str], path: Path) -> None:
        self._out = path.with_suffix(".samples")
        self._out.unlink(missing_ok=True)
        ask = path.with_suffix(".json")
        ask.write_text(json.dumps({**request, "out": str(self._out)}))
        self._log = path.with_suffix(".log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(ask)],
            env=environ,
            stdout=self._log,
            stderr=self._log,
        )

    def lines(self, until_s: float) -> Iterator[list[Any]]:
        """What it measured, once it is done or the time (``time.time()``) is up."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(until_s - time.time(), 1.0))
        if self._process.poll() is None:
            self._process.kill()
        if self._process.wait():
            print(f"a worker ended with {self._process.returncode}: {self.last_words()}")
        if not self._out.exists():
            return
        for text in self._out.read_text(encoding="utf-8").split("\n")[:-1]:
            yield json.loads(text)

    def last_words(self) -> str:
        """The end of its log."""
        self._log.seek(0)
        return self._log.read()[-1000:].decode("utf-8", "replace")


def _identity(
    driver: Driver, net: str, survey: Mapping[str, Any], effort: Effort
) -> dict[str, str]:
    machine = describe_machine()
    device = {name: str(value) for name, value in survey["device"].items()}
    return {
        "net": net,
        "memory": "image",
        "opencl": driver.name,
        **device,
        "cpu": machine["cpu"],
        "gpu": machine["gpu"] or "",
        "cores_per_process": str(len(effort.shares[0])),
        "processes": str(len(effort.shares)),
        "rounds": str(effort.rounds),
        "space": "powers of two, and MACE's own" if effort.powers_only else "all",
        "revision": machine["revision"] or "",
        "date": machine["date"],
    }
