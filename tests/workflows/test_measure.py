"""What a measured process must prove before its figures count."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from droidmace.config import ModelConfig, TensorSpec, TuneConfig
from droidmace.devices.local import LocalDevice
from droidmace.errors import InputError, MaceRunOutputError, MaceRunRetryError
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.invocation import CACHE_FILE_NAME, Invocation
from droidmace.results import MaceRunResult, ProgramSources, RunTimes
from droidmace.workflows.artefacts import Artefacts
from droidmace.workflows.measure import (
    Layout,
    Measurer,
    base_invocation,
    batch_invocation,
    programs_text,
)

WINNERS = {"conv_1_2_3": (4, 4, 1, 0), "arg_buffer_to_image_[16, 3]": (16, 1, 0)}
FROM_CACHE = ProgramSources(cache=("conv -DX",))
FROM_SOURCE = ProgramSources(source=("conv -DX",))


class ScriptedSession:
    """Answers each run with the next of ``results``, and remembers what was asked."""

    def __init__(self, *results: MaceRunResult | Exception) -> None:
        self.results = deque(results)
        self.asked: list[Invocation] = []

    def run(self, invocation: Invocation, *, timeout_s: float) -> MaceRunResult:
        assert timeout_s > 0
        self.asked.append(invocation)
        result = self.results.popleft()
        if isinstance(result, Exception):
            raise result
        return result

    def run_batch(
        self, invocation: Invocation, suffixes: list[str], *, timeout_s: float
    ) -> MaceRunResult:
        assert suffixes
        return self.run(invocation, timeout_s=timeout_s)


def result(
    programs: ProgramSources = FROM_CACHE,
    applied: dict[str, tuple[int, ...]] | None = None,
    *warnings: str,
) -> MaceRunResult:
    return MaceRunResult(
        times=RunTimes(10.0, 5.0, 1.0),
        mace_version="v1",
        runtimes="GPU",
        programs=programs,
        applied=applied or {},
        warnings=warnings,
    )


def model(*inputs: str) -> ModelConfig:
    return ModelConfig(
        name="net",
        platform="onnx",
        model_file=Path("net.onnx"),
        model_sha256=None,
        weight_file=None,
        weight_sha256=None,
        inputs=tuple(TensorSpec(name, (1, 2)) for name in inputs),
        outputs=(TensorSpec("y", (1, 2)),),
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "mace_run"), "/vendor/bin/mace_run", "net")


def measurer(
    layout: Layout,
    *results: MaceRunResult | Exception,
    session: ScriptedSession | None = None,
    blocks: int = 1,
    startup_runs: int = 1,
) -> Measurer:
    session = session or ScriptedSession(*results)
    return Measurer(
        LocalDevice(Path(layout.root).parent),
        session,  # type: ignore[arg-type]
        layout,
        base_invocation(layout, model("x")),
        TuneConfig(rounds=3, blocks=blocks, startup_runs=startup_runs),
    )


def test_a_baseline_is_untuned_and_from_source(layout: Layout) -> None:
    assert measurer(layout, result(FROM_SOURCE)).baseline().programs == FROM_SOURCE


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (result(FROM_SOURCE, {"conv_1_2_3": (1, 1, 1, 0)}), "of its own"),
        (result(ProgramSources(source=("a",), precompiled=("b",))), "of its own"),
        (result(ProgramSources(source=("a",), cache=("b",))), "of its own"),
        (result(ProgramSources()), "built no OpenCL program"),
    ],
)
def test_a_baseline_that_is_none(layout: Layout, found: MaceRunResult, complaint: str) -> None:
    with pytest.raises(MaceRunOutputError, match=complaint):
        measurer(layout, found).baseline()


def test_tuned_parameters_are_proved_by_the_fresh_process(layout: Layout) -> None:
    one = measurer(layout, result(applied=WINNERS))
    assert one.prove_parameters(one.load_fresh(), WINNERS) == 2


@pytest.mark.parametrize(
    ("applied", "complaint"),
    [({}, "does not run with"), ({"conv_1_2_3": (1, 1, 1, 0)}, "conv_1_2_3 with other parameters")],
)
def test_parameters_that_do_not_reach_the_kernels(
    layout: Layout, applied: dict[str, tuple[int, ...]], complaint: str
) -> None:
    one = measurer(layout, result(applied=applied))
    with pytest.raises(MaceRunOutputError, match=complaint):
        one.prove_parameters(one.load_fresh(), WINNERS)


def test_a_program_that_makes_the_engine_retry_does_not_survive(layout: Layout) -> None:
    one = measurer(layout, MaceRunRetryError("would retry for ever"), result(applied=WINNERS))
    load = one.load_fresh()
    assert not load.survives
    assert "retry" in load.why_not
    # The parameters are then proved without it.
    assert one.prove_parameters(load, WINNERS) == 2


def test_latencies_differ_in_the_parameters_alone(layout: Layout) -> None:
    session = ScriptedSession(*[result()] * 4)
    one = measurer(layout, session=session)
    one.program_usable = True
    for is_tuned in (False, True, True, False):
        assert one.latency_ms(is_tuned) > 0
    given = [asked.opencl_parameter_file for asked in session.asked]
    with_file = layout.tuned_parameters
    assert given == ["", with_file, with_file, ""]
    assert {asked.storage_dir for asked in session.asked} == {layout.storage("shipped")}
    plain = [replace(asked, opencl_parameter_file="") for asked in session.asked]
    assert all(asked == plain[0] for asked in plain)
    assert (plain[0].rounds, plain[0].tuning, plain[0].parameter_path) == (3, False, "")


def test_cold_is_cold_and_warm_has_what_would_be_shipped(layout: Layout) -> None:
    found: list[tuple[bool, bool]] = []

    class Looking(ScriptedSession):
        def run(self, invocation: Invocation, *, timeout_s: float) -> MaceRunResult:
            store = Path(invocation.storage_dir) / CACHE_FILE_NAME
            found.append((store.exists(), bool(invocation.opencl_parameter_file)))
            store.write_bytes(b"what this process compiled")
            return super().run(invocation, timeout_s=timeout_s)

    session = Looking(*[result()] * 6)
    one = measurer(layout, session=session, startup_runs=3)
    one.program_usable = True
    shipped = Path(layout.compiled_program("shipped"))
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes(b"the compiled program")
    one.startup_pairs(lambda *_: None)
    cold, warm = (False, False), (True, True)
    assert found == [cold, warm, warm, cold, cold, warm]


def test_without_a_usable_program_every_run_starts_from_nothing(layout: Layout) -> None:
    session = ScriptedSession(*[result()] * 2)
    one = measurer(layout, session=session)
    one.latency_ms(False)
    one.latency_ms(True)
    assert {asked.storage_dir for asked in session.asked} == {layout.storage("unshipped")}


DAMAGED = "CRC value of /x/tuned_parametersis invalid"
REFUSED = "Build program conv from Cache failed: x"


def test_latency_of_a_tuned_run_without_parameters_does_not_count(layout: Layout) -> None:
    one = measurer(layout, result(FROM_CACHE, None, DAMAGED))
    with pytest.raises(MaceRunOutputError, match="went on without"):
        one.latency_ms(True)


def test_a_warm_start_that_is_partly_cold_does_not_count(layout: Layout) -> None:
    one = measurer(layout, result(FROM_SOURCE, None, REFUSED), result(FROM_CACHE, None, REFUSED))
    one.program_usable = True
    with pytest.raises(MaceRunOutputError, match="went on without"):
        one.startup_pairs(lambda *_: None)


def test_answers_of_a_tuned_run_without_parameters_do_not_count(layout: Layout) -> None:
    one = measurer(layout, result(FROM_CACHE, None, DAMAGED))
    with pytest.raises(MaceRunOutputError, match="went on without"):
        one.run_batch("samples", ["_0"], tuned=True)


def test_a_program_that_was_written_anew_is_noticed(layout: Layout) -> None:
    device = LocalDevice(Path(layout.root).parent)
    parameters = TunedParameters.build(WINNERS)
    program = CompiledProgram.build(platform_info="a, b, c, d", device_name="g", programs=())
    artefacts = Artefacts(program.serialize(), parameters.serialize(), program, parameters)
    artefacts.put_back(device, layout)
    artefacts.check_unchanged(device, layout)
    device.push(b"another", layout.compiled_program("shipped"))
    with pytest.raises(MaceRunOutputError, match=r"mace_cl_compiled_program\.bin changed"):
        artefacts.check_unchanged(device, layout)


def test_inputs_that_batch_mode_mixes_up_are_refused_before_the_work(layout: Layout) -> None:
    base = base_invocation(layout, model("x", "x_mask"))
    with pytest.raises(InputError, match="x_mask"):
        batch_invocation(base, "samples", layout)


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (FROM_SOURCE, "1 program from source, 0 from the compiled program"),
        (ProgramSources(source=("a", "b")), "2 programs from source, 0 from the compiled program"),
        (FROM_CACHE, "0 programs from source, 1 from the compiled program"),
    ],
)
def test_where_programs_came_from_in_words(sources: ProgramSources, text: str) -> None:
    assert programs_text(result(sources)) == text
