"""What a measured process must prove before its figures count."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from droidmace.config import ModelConfig, TensorSpec, TuneConfig
from droidmace.devices.local import LocalDevice
from droidmace.errors import InputError, MaceRunOutputError, MaceRunRetryError
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.invocation import Invocation
from droidmace.results import MaceRunResult, ProgramSources, RunTimes
from droidmace.workflows.artefacts import Artefacts
from droidmace.workflows.measure import Layout, Measurer, base_invocation, batch_invocation

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


def measurer(layout: Layout, *results: MaceRunResult | Exception) -> Measurer:
    session = ScriptedSession(*results)
    return Measurer(
        LocalDevice(Path(layout.root).parent),
        session,  # type: ignore[arg-type]
        layout,
        base_invocation(layout, model("x")),
        TuneConfig(rounds=3, blocks=1, startup_runs=1),
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


DAMAGED = "CRC value of /x/tuned_parametersis invalid"
REFUSED = "Build program conv from Cache failed: x"


def test_latency_of_a_tuned_run_without_parameters_does_not_count(layout: Layout) -> None:
    one = measurer(layout, result(), result(FROM_CACHE, None, DAMAGED))
    with pytest.raises(MaceRunOutputError, match="went on without"):
        one.latency_pairs(lambda *_: None)


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
