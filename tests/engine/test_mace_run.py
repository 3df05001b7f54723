"""The engine as a process: lines, files, exit statuses and the traps a host must cope with."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_harness import SAMPLES, Finished, Phone

from droidmace.formats.netdef import MultiNetDef, parse_model, serialize_model

_EXPECTED = np.fromfile(SAMPLES / "tiny_output_1x10.f32", "<f4")
_SIGABRT = -6
UsedPhones = dict[str, tuple[Phone, Finished]]


@pytest.fixture
def warm(phone: Phone, used_phones: UsedPhones) -> Phone:
    """A phone whose programs are compiled already: runs start fast."""
    shutil.copy(used_phones["intel"][0].cache, phone.cache)
    return phone


def _lines(text: str) -> list[str]:
    """Log lines as ``level text``: numbers of latencies and the places are left out."""
    found = []
    for line in text.splitlines():
        match = re.match(r"([IWEF]) \S+\] (.*)", line)
        if match:
            found.append(f"{match[1]} {match[2]}")
    return found


def _real_lines(name: str) -> list[str]:
    """The lines of a real run that do not depend on the machine or on its folders."""
    machine = re.compile(
        r"cpufreq|Fail to get cpu|CPU core is empty|GetCPUMaxFreq|: run/|out/|model name|version"
    )
    text = (SAMPLES / "logs" / name).read_text(encoding="utf-8")
    return [line for line in _lines(text) if not machine.search(line)]


def _without_numbers(line: str) -> str:
    return re.sub(r"latency: \S+", "latency: N", line)


@pytest.mark.parametrize("name", ["gpu_cold.txt"])
def test_lines_are_those_of_a_real_run(name: str, warm: Phone) -> None:
    warm.cache.unlink()
    run = warm.run("--round=1", MACE_CPP_MIN_VLOG_LEVEL="0")
    ours = [_without_numbers(line) for line in _lines(run.stdout)]
    for line in _real_lines(name):
        assert _without_numbers(line) in ours
    table = run.stdout[run.stdout.index("=====") :].splitlines()
    assert table[1] == "     capability(CPU)        init      warmup     run_avg"
    assert re.fullmatch(r"time {1,12}\d+\.\d{3}( {1,8}\d+\.\d{3}){3}", table[3])
    capability, init, warmup, average = run.table()
    assert min(capability, init, warmup, average) > 0


def test_output_file(warm: Phone) -> None:
    run = warm.run()
    assert run.returncode == 0
    assert warm.output.stat().st_size == 40
    np.testing.assert_allclose(np.fromfile(warm.output, "<f4"), _EXPECTED, atol=1e-5)
    assert "Write output file out_output with size 10 done." in run.stdout


def test_log_level_silences(warm: Phone) -> None:
    run = warm.run(MACE_CPP_MIN_LOG_LEVEL="E")
    assert run.stdout.startswith("====")
    assert warm.output.exists()


def test_wrong_shapes_exit_0(phone: Phone) -> None:
    run = phone.run("--input_shape=1,3,32,32:1")
    assert run.returncode == 0
    assert _lines(run.stdout)[-1] == _real_lines("wrong_shapes_exit0.txt")[-1]
    assert not phone.output.exists()


def test_no_names_print_the_usage_and_exit_0(phone: Phone) -> None:
    run = phone.run("--input_node=")
    assert run.returncode == 0
    assert "please specify proper arguments" in run.stdout


def test_unknown_flag_exits_1(phone: Phone) -> None:
    run = phone.run("--nosuchflag")
    assert run.returncode == 1
    assert run.stderr == (SAMPLES / "logs" / "unknown_flag_exit1.txt").read_text(encoding="utf-8")
    assert run.stdout == ""


def test_missing_input_aborts_and_a_pipe_loses_the_reason(warm: Phone) -> None:
    on_pipe = warm.run("--input_file=nope")
    assert on_pipe.returncode == _SIGABRT
    assert "Open input file failed" not in on_pipe.stdout
    on_terminal = warm.run_on_terminal("--input_file=nope")
    assert on_terminal.returncode == _SIGABRT
    assert on_terminal.stdout.endswith("F mace/tools/mace_run.cc:202] Open input file failed\n")


def test_missing_storage_folder_aborts(warm: Phone) -> None:
    run = warm.run_on_terminal(MACE_INTERNAL_STORAGE_PATH="does_not_exist")
    assert run.returncode == _SIGABRT
    assert _lines(run.stdout)[-3:] == [
        "E Failed to open file to write: does_not_exist/mace_cl_compiled_program.bin, error: 2",
        "W open file does_not_exist/mace_cl_compiled_program.bin failed, error code: No such file"
        " or directory",
        "F Store OPENCL compiled kernel to file failed. Please make sure the storage directory"
        " exist and you have Write&Read permission",
    ]


@pytest.mark.parametrize("flag", ["model_file", "model_data_file"])
def test_missing_model_aborts(phone: Phone, flag: str) -> None:
    run = phone.run_on_terminal(f"--{flag}=gone")
    assert run.returncode == _SIGABRT
    assert run.stdout.endswith("] Failed to read file: gone\n")


def test_no_driver_is_retried_for_ever(phone: Phone, icd_folders: dict[str, Path]) -> None:
    output = phone.run_until(
        "Create engine runtime error, retry ... errcode: Out of resources",
        3,
        OCL_ICD_VENDORS=str(icd_folders["none"]),
    )
    assert "Failed to load OpenCL library" in output


def test_unsupported_op_is_named_and_retried_for_ever(phone: Phone) -> None:
    _change_model(phone, lambda text: text.replace(b"DepthwiseConv2d", b"DepthwiseDeconv"))
    phone.run_until(
        "Create engine runtime error, retry ... errcode: Unsupported: op 'relu2' (DepthwiseDeconv)",
        2,
    )


def test_damaged_model_is_retried_for_ever(phone: Phone) -> None:
    path = phone.folder / "tiny_gpu.pb"
    path.write_bytes(path.read_bytes()[:-5])
    phone.run_until("Create engine runtime error, retry ... errcode: Invalid Arguments", 2)


def test_weights_that_are_too_short_are_retried_for_ever(phone: Phone) -> None:
    path = phone.folder / "tiny_gpu.data"
    path.write_bytes(path.read_bytes()[:-5])
    output = phone.run_until("Create engine runtime error, retry", 2)
    assert "fc_b" in output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--output_node=other",), "can not find output in model: [other]"),
        (("--input_node=other",), "Can not find flow's input: input"),
        (("--output_shape=1,9,1,1",), "Output size exceeds buffer size"),
        (("--input_shape=1,4,24,32",), "does not fit the filter"),
        (("--input_data_type=uint8",), "is not supported"),
        (("--output_file=no/such/folder",), "Open output file failed: No such file or directory"),
    ],
)
def test_what_aborts(warm: Phone, flags: tuple[str, ...], words: str) -> None:
    (warm.folder / "in_other").write_bytes(b"")
    run = warm.run_on_terminal(*flags)
    assert run.returncode == _SIGABRT
    last = _lines(run.stdout)[-1]
    assert last.startswith("F ")
    assert words in last


def test_input_file_of_another_size(warm: Phone) -> None:
    """A longer file is cut, of a shorter one the rest is 0; nothing is said."""
    data = (warm.folder / "in_input").read_bytes()
    (warm.folder / "in_input").write_bytes(data + b"more")
    assert warm.run().returncode == 0
    np.testing.assert_allclose(np.fromfile(warm.output, "<f4"), _EXPECTED, atol=1e-5)
    (warm.folder / "in_input").write_bytes(data[: len(data) // 2])
    assert warm.run().returncode == 0
    short = np.fromfile(warm.output, "<f4")
    (warm.folder / "in_input").write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    assert warm.run().returncode == 0
    np.testing.assert_array_equal(short, np.fromfile(warm.output, "<f4"))


def test_nhwc_input_gives_the_same(warm: Phone) -> None:
    image = np.fromfile(warm.folder / "in_input", "<f4").reshape(1, 3, 32, 32)
    image.transpose(0, 2, 3, 1).tofile(warm.folder / "in_input")
    warm.run("--input_shape=1,32,32,3", "--input_data_format=NHWC", "--output_shape=1,10")
    np.testing.assert_allclose(np.fromfile(warm.output, "<f4"), _EXPECTED, atol=1e-5)


def test_batch_mode(warm: Phone) -> None:
    samples, outputs = warm.folder / "samples", warm.folder / "answers"
    samples.mkdir()
    outputs.mkdir()
    for number in range(3):
        shutil.copy(warm.folder / "in_input", samples / f"input_{number}.bin")
    (samples / "unrelated").write_bytes(b"")
    run = warm.run("--input_dir=samples", "--output_dir=answers")
    assert run.returncode == 0
    assert sorted(path.name for path in outputs.iterdir()) == [
        "output_0.bin",
        "output_1.bin",
        "output_2.bin",
    ]
    for path in outputs.iterdir():
        np.testing.assert_allclose(np.fromfile(path, "<f4"), _EXPECTED, atol=1e-5)
    assert "=====" not in run.stdout
    assert run.stdout.count("Create Mace Engine latency") == 1
    assert "Warm up run" not in run.stdout


def test_batch_mode_still_wants_the_input_file(warm: Phone) -> None:
    (warm.folder / "samples").mkdir()
    assert warm.run("--input_dir=samples", "--input_file=nope").returncode == _SIGABRT


def test_batch_mode_without_samples_aborts(warm: Phone) -> None:
    (warm.folder / "samples").mkdir()
    run = warm.run_on_terminal("--input_dir=samples")
    assert run.returncode == _SIGABRT
    assert "Found no input file name starts with 'input' in: samples" in run.stdout


def test_restart_round_makes_a_new_engine(warm: Phone) -> None:
    run = warm.run("--restart_round=2", "--round=0")
    assert "restart round 1" in run.stdout
    assert run.stdout.count("Create Mace Engine latency") == 2
    assert run.stdout.count("time   ") == 2


def test_fake_warmup_compiles_while_it_starts(phone: Phone) -> None:
    run = phone.run("--fake_warmup", "--round=0")
    created = run.stdout.index("Create Mace Engine latency")
    assert "Program from" in run.stdout[:created]
    assert "Program from" not in run.stdout[created:]
    np.testing.assert_allclose(np.fromfile(phone.output, "<f4"), _EXPECTED, atol=1e-5)


def test_benchmark_tables(warm: Phone) -> None:
    run = warm.run("--benchmark", "--round=5", MACE_CPP_MIN_VLOG_LEVEL="0")
    lines = [line for line in run.stdout.splitlines() if "statistics.cc:343] " in line]
    text = "\n".join(line.partition("] ")[2] for line in lines)
    for title in (
        "Sort by Run Order",
        "Sort by Computation Time",
        "Stat by Op Type",
        "Stat by MACs(Multiply-Accumulation)",
        "Summary of Ops' Stat",
    ):
        assert title in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    ours = {row[12]: row[7:12] for row in rows if len(row) == 13 and row[0] != "Op Type"}
    real = (SAMPLES / "logs" / "gpu_benchmark.txt").read_text(encoding="utf-8")
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in real.splitlines()
        if line.count("|") == 14
    ]
    expected = {row[12]: row[7:12] for row in table if row[0] != "Op Type"}
    # strides, paddings, filters, shapes and dilations of every op, as the real one prints them
    assert ours == expected
    assert "| 278,848 |     5 |" in text
    assert text.rstrip().endswith("8 ops total.")


def test_cpu_model(phone: Phone) -> None:
    model = parse_model((phone.folder / "tiny_gpu.pb").read_bytes())
    data = serialize_model(_with_runtime(model, 0))
    (phone.folder / "tiny_gpu.pb").write_bytes(data)
    run = phone.run("--benchmark")
    assert "runtimes: [CPU]" in run.stdout
    assert "FullyConnected | " in run.stdout
    assert not phone.cache.exists()
    np.testing.assert_allclose(np.fromfile(phone.output, "<f4"), _EXPECTED, atol=1e-6)


def test_runtime_that_is_not_there_is_named(phone: Phone) -> None:
    model = parse_model((phone.folder / "tiny_gpu.pb").read_bytes())
    (phone.folder / "tiny_gpu.pb").write_bytes(serialize_model(_with_runtime(model, 3)))
    phone.run_until(
        "Create engine runtime error, retry ... errcode: Unsupported: runtime_type 3", 1
    )


def _with_runtime(model: MultiNetDef, runtime: int) -> MultiNetDef:
    (net,) = model.nets
    args = tuple(
        dataclasses.replace(arg, i=runtime) if arg.name == "runtime_type" else arg
        for arg in net.args
    )
    return dataclasses.replace(model, nets=(dataclasses.replace(net, args=args),))


def _change_model(phone: Phone, change: Callable[[bytes], bytes]) -> None:
    path = phone.folder / "tiny_gpu.pb"
    path.write_bytes(change(path.read_bytes()))


def test_logcat_keeps_what_an_abort_drops(warm: Phone) -> None:
    log = warm.folder / "log_main"
    run = warm.run("--input_file=nope", ANDROID_LOG_FILE=str(log))
    assert run.returncode == _SIGABRT
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[-1].endswith(" F MACE: mace_run.cc:202 Open input file failed")
    assert any(" I MACE: mace_run.cc:719 model name: tiny_gpu" in line for line in lines)


@pytest.mark.parametrize(
    "flag", ["--output_shape=-5", "--input_shape=1,-3,32,32", "--output_shape=1,99999,99999,99999"]
)
def test_shapes_that_nothing_can_hold_abort(warm: Phone, flag: str) -> None:
    run = warm.run(flag)
    assert run.returncode == _SIGABRT
    assert run.stderr == "terminate called after throwing an instance of 'std::bad_alloc'\n"


@pytest.mark.parametrize("runtime", [0, 2])
def test_imports_are_not_measured(phone: Phone, runtime: int) -> None:
    """What a runtime needs is imported before the clock starts."""
    model = parse_model((phone.folder / "tiny_gpu.pb").read_bytes())
    (phone.folder / "tiny_gpu.pb").write_bytes(serialize_model(_with_runtime(model, runtime)))
    program = (
        "import pathlib, sys; from droidmace.engine import mace_run;"
        " mace_run.import_runtime(pathlib.Path('tiny_gpu.pb').read_bytes());"
        " before = set(sys.modules); mace_run.main(sys.argv);"
        " print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    python, _, _, *flags = phone.argv()
    done = subprocess.run(
        [python, "-c", program, *flags],
        cwd=phone.folder,
        env=phone.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    late = [name for name in done.stderr.split() if name.startswith(("droidmace", "pyopencl"))]
    assert f"runtimes: [CPU{', GPU' if runtime else ''}]" in done.stdout
    assert late == ["droidmace.engine.capability"], "it is timed before the engine is made"


def test_nothing_is_kept_but_maces_files(warm: Phone) -> None:
    """pyopencl's own caches would make later runs faster than MACE's files do."""
    home = warm.folder / "home"
    home.mkdir()
    warm.cache.unlink()
    warm.run("--round=0", HOME=str(home), XDG_CACHE_HOME=str(home))
    assert list(home.rglob("*")) == []
    assert warm.cache.exists()
