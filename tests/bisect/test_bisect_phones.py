"""What is wrong on purpose, on a phone with the real engine: is it named, in how few runs?"""

from __future__ import annotations

import functools
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from droidmace.config import load_deployment
from droidmace.devices.select import find_device
from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from droidmace.errors import ConfigError, InputError, MaceRunError
from droidmace.formats.netdef import DataType, DeviceType, parse_model, serialize_model
from droidmace.graphs.runtime import on_runtime
from droidmace.results.bisect import BisectResult, Cause
from droidmace.workflows.bisect import bisect
from droidmace.workflows.bisect_request import BisectRequest
from droidmace.workflows.convert import convert_deployment
from droidmace.workflows.workplace import PhoneRequest
from tests.bisect.planting import (
    deployment,
    logistic_map,
    mobile_net,
    near_difference,
    normalised,
    plain_convs,
    planted,
)
from tests.conftest import PhoneLab
from tests.e2e.conftest import FASHION

Bisect = Callable[..., BisectResult]
ROOT = "/data/local/tmp/mace_run"
# Only block4_project has 64 input and 4 x 4 x 24 output values.
WRONG_1X1 = (
    "  const int count = out_width - w;\n",
    "  const int count = out_width - w;\n"
    "  if (out_width == 4 && in_blocks == 16) out1 = out1 * (DATA4)(1.25f);\n",
)
CULPRIT = "block4_project"


@pytest.fixture(scope="module")
def phone(phone_lab: PhoneLab) -> Iterator[Phone]:
    phone = manager.start_phone("bisect", "adreno")
    yield phone
    manager.delete_phone(phone.name)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Deployment files of converted models, each made once."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def make(kind: str, data_type: str = "fp32_fp32", winograd: int = 0) -> Path:
        draw = {
            "mobile": mobile_net,
            "overflow": lambda path: plain_convs(path, [1, 1000, 1000, 1e-5]),
            "convs": lambda path: plain_convs(path, [1, 1, 1, 1]),
            "near": near_difference,
            "logistic": logistic_map,
            "normalised": normalised,
        }[kind]
        model = draw(folder / f"{kind}_{data_type}_{winograd}.onnx")
        config = deployment(model, data_type=data_type, winograd=winograd)
        convert_deployment(config)
        return config

    return make


@pytest.fixture
def run(phone_lab: PhoneLab, phone: Phone, tmp_path: Path) -> Bisect:
    def run(config: Path, mace_run: Path | None = None, **changes: object) -> BisectResult:
        loaded = load_deployment(config)
        request = BisectRequest(
            phone=PhoneRequest(
                serial=phone.serial,
                deployment=loaded,
                model_name=next(iter(loaded.models)),
                adb_port=phone_lab.adb_port,
                mace_run=mace_run,
            ),
            out_dir=tmp_path / "out",
            **changes,  # type: ignore[arg-type]
        )
        result = bisect(request, lambda _: None)
        assert len(result.runs) <= math.log2(result.op_count) + 3
        return result

    return run


def test_a_wrong_kernel_is_named_and_reproduced(
    run: Bisect, make: Callable[..., Path], phone_lab: PhoneLab, phone: Phone, tmp_path: Path
) -> None:
    program = planted(tmp_path / "program", kernels={"conv_2d_1x1.cl": WRONG_1X1})
    device = find_device(phone.serial, phone_lab.adb_port)
    device.remove(f"{ROOT}/planted_runs")
    result = run(make("mobile"), program)

    assert result.cause is Cause.KERNEL
    assert result.culprit is not None
    assert result.culprit.name == CULPRIT
    assert [op.name for op in result.ops if op.wrong] == [CULPRIT]
    assert CULPRIT in result.sentence
    assert "right in buffers" in result.sentence
    assert result.outputs[0].differs
    # Every process counts, also one that failed and was started again.
    count = device.run(f"wc -c < {ROOT}/planted_runs").text
    assert int(count) == len(result.runs) == 4
    assert device.stat(f"{ROOT}/bisect/planted") is None

    assert result.reproducer is not None
    assert_reproduces(Path(result.reproducer), phone_lab, phone)
    document = json.loads((Path(result.reproducer) / "bisect.json").read_text())
    assert document == result.as_document()


def assert_reproduces(folder: Path, lab: PhoneLab, phone: Phone) -> None:
    """The command line in the README gives what was found, and not what was expected."""
    text = (folder / "README.md").read_text()
    push, command = re.search(r"```sh\n(adb push [^\n]*)\n(adb shell .*)\n```", text, re.S).groups()
    target = shlex.split(push)[-1]
    pushed = lab.run_adb("-s", phone.serial, "push", f"{folder}/.", target)
    assert pushed.returncode == 0, pushed
    lab.output(phone, f"cp {ROOT}/mace_run {target}/mace_run")
    line = shlex.split(command.replace("\\\n", ""))[-1]
    assert "run_avg" in lab.output(phone, line)
    (output,) = lab.output(phone, f"ls {target}/output_*").split()
    device = find_device(phone.serial, lab.adb_port)
    device.pull(output, folder / "output")
    short = output.rpartition("output_")[2]
    got, found, expected = (
        np.fromfile(folder / name, "<f4")
        for name in ("output", f"found_{short}", f"expected_{short}")
    )
    np.testing.assert_array_equal(got, found)
    assert np.abs(got - expected).max() > 0.1 * np.abs(expected).max()
    device.remove(target)


def test_a_wrong_kernel_is_named_where_few_tensors_fit(
    run: Bisect, make: Callable[..., Path], tmp_path: Path
) -> None:
    program = planted(tmp_path / "program", kernels={"conv_2d_1x1.cl": WRONG_1X1})
    result = run(make("mobile"), program, memory_bytes=30_000)
    assert result.culprit is not None
    assert result.culprit.name == CULPRIT
    assert len(result.ops) < result.op_count / 4


def test_nothing_is_wrong_with_the_engine(run: Bisect, tmp_path: Path) -> None:
    result = run(FASHION, sample=3)
    assert result.cause is Cause.NOTHING
    assert not result.found
    assert len(result.runs) == 3
    assert len(result.ops) == result.op_count
    assert "[3]" in result.sample
    assert not (tmp_path / "out").exists()


def test_the_command_names_a_wrong_kernel_of_the_example(
    phone_lab: PhoneLab, phone: Phone, tmp_path: Path
) -> None:
    # Only /block3/project/conv has 96 input channels and 7 x 7 pixels.
    wrong = (WRONG_1X1[0], WRONG_1X1[1].replace("== 4", "== 7").replace("== 16", "== 24"))
    program = planted(tmp_path / "program", kernels={"conv_2d_1x1.cl": wrong})
    command = [sys.executable, "-m", "droidmace", "bisect", "--serial", phone.serial]
    options = ["-c", FASHION, "--mace-run", program, "-o", tmp_path / "out", "--json"]
    done = subprocess.run(
        [*command, *map(str, options)],
        capture_output=True,
        text=True,
        env=phone_lab.environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["cause"] == "kernel"
    assert document["culprit"]["name"] == "/block3/project/conv/Conv"
    assert len(document["runs"]) <= document["run_limit"] == 7
    assert (Path(document["reproducer"]) / "model.pb").exists()


def test_an_overflow_of_half_precision_is_named(run: Bisect, make: Callable[..., Path]) -> None:
    result = run(make("overflow", "fp16_fp32"))
    assert result.cause is Cause.OVERFLOW
    assert result.culprit is not None
    assert result.culprit.name == "conv2"
    assert result.culprit.error.cpu_peak > 65504
    assert "its output reaches" in result.sentence
    assert "65504" in result.sentence
    assert {one.name: one.right for one in result.suspects}["fp32"]


def test_the_same_net_in_fp32_does_not_overflow(run: Bisect, make: Callable[..., Path]) -> None:
    assert run(make("overflow")).cause is Cause.NOTHING


def test_a_difference_of_near_numbers_is_too_inexact_for_half_precision(
    run: Bisect, make: Callable[..., Path]
) -> None:
    result = run(make("near", "fp16_fp32"))
    assert result.cause is Cause.PRECISION
    assert result.culprit is not None
    assert result.culprit.name == "gap"


def test_rounding_that_adds_up_is_nobody_s_fault(run: Bisect, make: Callable[..., Path]) -> None:
    result = run(make("logistic", "fp16_fp32"))
    assert result.cause is Cause.ROUNDING
    assert result.culprit is None
    assert not any(op.wrong for op in result.ops)
    assert result.outputs[0].differs


def test_winograd_is_named(run: Bisect, make: Callable[..., Path], tmp_path: Path) -> None:
    program = planted(tmp_path / "program", winograd=True)
    result = run(make("convs", winograd=4), program)
    assert result.cause is Cause.WINOGRAD
    assert result.culprit is not None
    assert result.culprit.index == 0
    assert "winograd: 0" in result.sentence
    assert sum(op.wrong for op in result.ops) == 4


def test_what_is_wrong_only_between_ops_is_found_by_halving(
    run: Bisect, make: Callable[..., Path], tmp_path: Path
) -> None:
    program = planted(tmp_path / "program", inside="block3_project")
    result = run(make("mobile"), program)
    assert result.cause is Cause.IN_NET
    assert not any(op.wrong for op in result.ops)
    # Cut right behind it, the op is the last one, and right.
    assert result.culprit is not None
    assert result.culprit.name in {"block3_project", "block3_add"}
    assert result.reproducer is not None
    assert not list(Path(result.reproducer).glob("found_*"))


def test_the_phone_is_cleared_when_the_engine_fails(
    run: Bisect, make: Callable[..., Path], phone_lab: PhoneLab, phone: Phone, tmp_path: Path
) -> None:
    change = ("const int", "broken const int")
    program = planted(tmp_path / "program", kernels={"conv_2d_1x1.cl": change})
    with pytest.raises(MaceRunError, match=r"run 2 \(gpu, the net as it is\)") as caught:
        run(make("mobile"), program)
    assert caught.value.phase == "search"
    device = find_device(phone.serial, phone_lab.adb_port)
    assert device.stat(f"{ROOT}/bisect/planted") is None


def test_an_op_that_the_gpu_lacks_is_told_and_not_judged(
    run: Bisect, make: Callable[..., Path]
) -> None:
    result = run(make("normalised", "fp16_fp32"))
    assert result.cause is Cause.NOTHING
    assert result.on_cpu == ("lrn",)
    assert [op.name for op in result.ops if op.on_cpu] == ["lrn"]
    assert "2 of 3 ops are right by themselves (MACE runs 'lrn' on the CPU)" in result.sentence


def test_what_no_gpu_runs_is_refused(run: Bisect, make: Callable[..., Path]) -> None:
    config = make("normalised")
    graph = config.with_suffix(".pb")
    content = graph.read_bytes()
    model = parse_model(content)
    half = replace(model, nets=(replace(model.nets[0], data_type=DataType.DT_FLOAT16),))
    try:
        for other, message in (
            (on_runtime(model, DeviceType.CPU), "converted for the CPU"),
            (half, "no ops of fp16_fp16"),
        ):
            graph.write_bytes(serialize_model(other))
            with pytest.raises(ConfigError, match=message):
                run(config)
    finally:
        graph.write_bytes(content)


def test_a_net_no_op_of_which_was_judged_is_no_success(phone_lab: PhoneLab, phone: Phone) -> None:
    command = [sys.executable, "-m", "droidmace", "bisect", "--serial", phone.serial]
    done = subprocess.run(
        [*command, "-c", str(FASHION), "--memory", "1"],
        capture_output=True,
        text=True,
        env=phone_lab.environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "not judged: " in done.stdout
    assert "at least --memory 2" in done.stdout


@pytest.mark.parametrize(
    ("sample", "message"), [(-1, "no sample has the number"), (1000, "1,000 samples, no number")]
)
def test_a_sample_that_is_not_there_is_refused(run: Bisect, sample: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(FASHION, sample=sample)
