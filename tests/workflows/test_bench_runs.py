"""What a measured process of a bench session must have run with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from droidmace.devices.local import LocalDevice
from droidmace.errors import MaceRunOutputError
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession
from droidmace.results import MaceRunResult, ProgramSources, RunTimes
from droidmace.workflows.bench_request import BenchFiles, BenchSettings
from droidmace.workflows.bench_runs import BenchRuns
from droidmace.workflows.measure import Layout

Start = Callable[..., BenchRuns]
SOURCE = ProgramSources(source=("conv",))
CACHE = ProgramSources(cache=("conv",))
REFUSED = "Build program conv from Cache failed: x"


def result(programs: ProgramSources, *warnings: str) -> MaceRunResult:
    return MaceRunResult(
        times=RunTimes(10.0, 5.0, 1.0),
        mace_version="v1",
        runtimes="GPU",
        programs=programs,
        warnings=warnings,
    )


class ScriptedSession:
    """Answers each run with the next of ``results``."""

    def __init__(self, *results: MaceRunResult) -> None:
        self._results = deque(results)

    def run(self, *_: object, **__: object) -> MaceRunResult:
        return self._results.popleft()


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Runs, prepared by the first results, that give the others."""

    def make(*results: MaceRunResult) -> BenchRuns:
        layout = Layout(str(tmp_path), "mace_run", "net")
        base = Invocation(
            cwd=str(tmp_path),
            model_name="net",
            model_file="net.pb",
            model_data_file="net.data",
            inputs=(TensorArg("in", (1,)),),
            outputs=(TensorArg("out", (1,)),),
            input_file="in",
            output_file="out",
        )
        session = cast(MaceRunSession, ScriptedSession(*results))
        runs = BenchRuns(LocalDevice(tmp_path), layout, base, BenchSettings(), session)
        files = BenchFiles(model=None, inputs={}, bundle=None)  # type: ignore[arg-type]
        runs.prepare(files)
        return runs

    return make


def test_a_start_that_is_partly_cold_does_not_count_as_warm(start: Start) -> None:
    runs = start(result(SOURCE), result(CACHE), result(CACHE), result(CACHE, REFUSED))
    assert runs.latency().init_ms == 10.0
    with pytest.raises(MaceRunOutputError, match="went on without"):
        runs.latency()


def test_where_every_start_is_cold_it_is_measured_as_that(start: Start) -> None:
    runs = start(result(SOURCE), result(SOURCE, REFUSED), result(SOURCE, REFUSED))
    assert runs.latency().init_ms == 10.0
