"""``mace_run``'s command line: built from data, read back by a real shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import InputError
from droidmace.macerun.invocation import (
    CacheReusePolicy,
    Invocation,
    TensorArg,
    formatted_name,
    sample_file_name,
)
from droidmace.macerun.supervision import supervised_shell

ECHO = (
    "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:], "
    "{k: v for k, v in os.environ.items() if k.startswith(('MACE_', 'LD_L', 'X_'))}]))"
)


def make(**changes: object) -> Invocation:
    settings: dict[str, object] = {
        "cwd": "/data/local/tmp/mace_run",
        "model_name": "m",
        "model_file": "m.pb",
        "model_data_file": "m.data",
        "inputs": (TensorArg("image:0", (1, 3, 32, 32), data_format="NCHW"),),
        "outputs": (TensorArg("prob", (1, 10), data_format="NONE"),),
        "input_file": "in/m",
        "output_file": "out/m",
    }
    return Invocation(**(settings | changes))  # type: ignore[arg-type]


def test_default_command_line_passes_only_what_every_release_knows() -> None:
    assert make().argv() == (
        "./mace_run",
        "--model_name=m",
        "--model_file=m.pb",
        "--model_data_file=m.data",
        "--input_node=image:0",
        "--input_shape=1,3,32,32",
        "--input_data_format=NCHW",
        "--output_node=prob",
        "--output_shape=1,10",
        "--output_data_format=NONE",
        "--input_file=in/m",
        "--output_file=out/m",
        "--round=1",
    )
    assert make().environment() == {"MACE_TUNING": "0"}


def test_everything_set() -> None:
    invocation = make(
        binary="/x/mace_run",
        inputs=(TensorArg("a", (1, 2)), TensorArg("b", (3,), data_type="int32")),
        rounds=0,
        restart_rounds=2,
        gpu_perf_hint=1,
        gpu_priority_hint=0,
        num_threads=4,
        cpu_affinity_policy=0,
        benchmark=True,
        opencl_cache_full_path="c.bin",
        opencl_binary_file="b.bin",
        opencl_parameter_file="p.bin",
        cache_reuse_policy=CacheReusePolicy.NONE,
        tuning=True,
        parameter_path="tuned",
        storage_dir="interior",
        vlog_level=3,
        library_path=(".", "/vendor/lib64"),
        limit_opencl_kernel_time=True,
        opencl_queue_window_size=8,
        extra_environment={"X_Y": "1"},
    )
    argv = invocation.argv()
    assert argv[0] == "/x/mace_run"
    assert {
        "--input_node=a,b",
        "--input_shape=1,2:3",
        "--input_data_type=float32,int32",
        "--input_data_format=NHWC,NHWC",
        "--opencl_cache_full_path=c.bin",
        "--opencl_binary_file=b.bin",
        "--opencl_parameter_file=p.bin",
        "--opencl_cache_reuse_policy=0",
        "--round=0",
        "--restart_round=2",
        "--gpu_perf_hint=1",
        "--gpu_priority_hint=0",
        "--num_threads=4",
        "--cpu_affinity_policy=0",
        "--benchmark=true",
    } <= set(argv)
    assert invocation.environment() == {
        "MACE_TUNING": "1",
        "LD_LIBRARY_PATH": ".:/vendor/lib64",
        "MACE_RUN_PARAMETER_PATH": "tuned",
        "MACE_INTERNAL_STORAGE_PATH": "interior",
        "MACE_CPP_MIN_VLOG_LEVEL": "3",
        "MACE_LIMIT_OPENCL_KERNEL_TIME": "1",
        "MACE_OPENCL_QUEUE_WINDOW_SIZE": "8",
        "X_Y": "1",
    }


def test_expected_outputs_are_absolute_and_sized() -> None:
    invocation = make(outputs=(TensorArg("a/b:0", (1, 10)), TensorArg("ids", (7,), "int32")))
    assert invocation.expected_outputs() == {
        "/data/local/tmp/mace_run/out/m_a_b_0": 40,
        "/data/local/tmp/mace_run/out/m_ids": 28,
    }
    assert list(invocation.input_paths()) == ["/data/local/tmp/mace_run/in/m_image_0"]


def test_batch_outputs_are_named_by_suffix() -> None:
    invocation = make(input_dir="batch/in", output_dir="batch/out")
    assert invocation.batch
    assert invocation.expected_outputs(["_0001", "_0002"]) == {
        "/data/local/tmp/mace_run/batch/out/prob_0001": 40,
        "/data/local/tmp/mace_run/batch/out/prob_0002": 40,
    }
    assert sample_file_name(invocation.inputs[0], "_0001") == "image_0_0001"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", "a"), ("a/b:0", "a_b_0"), ("é", "__"), ("_9-", "_9_"), ("²", "__")],
)
def test_formatted_name(name: str, expected: str) -> None:
    assert formatted_name(name) == expected
    assert formatted_name(TensorArg(name, (1,))) == expected


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"inputs": (TensorArg("a:b", (1,)), TensorArg("a_b", (1,)))}, "would use one file"),
        ({"outputs": (TensorArg("a", (1,)), TensorArg("a", (1,)))}, "would use one file"),
        (
            {
                "inputs": (TensorArg("a", (1,)), TensorArg("ab", (1,))),
                "input_dir": "i",
                "output_dir": "o",
            },
            "takes the files of input 'ab' for samples",
        ),
    ],
)
def test_what_mace_run_cannot_be_asked(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make(**changes)


@pytest.mark.parametrize("name", ["", "a,b", "a\nb"])
def test_tensor_names_that_cannot_be_given(name: str) -> None:
    with pytest.raises(InputError, match="cannot be given to mace_run"):
        TensorArg(name, (1,))


def test_open_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="is not fixed"):
        TensorArg("x", (-1, 3))


def test_scalar_is_one_value() -> None:
    scalar = TensorArg("x", ())
    assert (scalar.shape_text, scalar.size_bytes) == ("1", 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": ()},
        {"cwd": "relative"},
        {"input_dir": "i"},
        {"output_file": ""},
        {"rounds": -1},
        {"restart_rounds": 0},
        {"gpu_perf_hint": 4},
        {"parameter_path": "p", "opencl_parameter_file": "./x/../p"},
        {"extra_environment": {"A B": "1"}},
    ],
)
def test_contradictions(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        make(**changes)


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def echo_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("it's a folder") / "mace run"
    program.write_text(f"#!{sys.executable}\n{ECHO}\n")
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("echo_program")
class TestThroughARealShell:
    @given(model=TEXT, value=TEXT, path=TEXT)
    def test_nothing_is_lost_or_interpreted(
        self, echo_program: Path, model: str, value: str, path: str
    ) -> None:
        invocation = make(
            cwd=str(echo_program.parent),
            binary=echo_program.name,
            model_name=model,
            storage_dir=path,
            extra_environment={"X_VALUE": value},
        )
        shell = subprocess.run(
            ["/bin/sh", "-c", supervised_shell(invocation)], capture_output=True, check=True
        )
        cwd, argv, environment = json.loads(shell.stdout)
        assert cwd == str(echo_program.parent)
        assert tuple(argv) == invocation.argv()[1:]
        assert environment.items() >= invocation.environment().items()
