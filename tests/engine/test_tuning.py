"""Tuning: what is searched, kept, written, read back and obeyed."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_harness import DRIVERS, SAMPLES, AbortedError, Finished, LogReader, Phone
from engine_models import Array, make_gpu, model, op, with_parameters
from hypothesis import given
from hypothesis import strategies as st

from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.model import Model
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.local_size import Limits
from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.tuner import Tuner
from droidmace.errors import EngineError
from droidmace.formats.kvstore import Generation
from droidmace.formats.netdef import Argument, parse_model, serialize_model
from droidmace.formats.tuned_parameters import TunedParameters

# What a real mace_run tunes for this model (tests/samples/tune_params), and its FullyConnected,
# which MACE does not tune.
_KEYS = {
    "arg_buffer_to_image_[10]": 3,
    "arg_buffer_to_image_[16]": 3,
    "arg_buffer_to_image_[32]": 3,
    "conv2d_1x1_opencl_kernel_1_16_16_32": 4,
    "conv2d_3x3_opencl_kernel_1_16_16_16": 4,
    "depthwise_conv2d_ocl_kernel_4_4_16_1": 4,
    "dw_filter_buffer_to_image_[1, 16, 3, 3]": 3,
    "fc_opencl_kernel_1_1_1_10": 3,
    "filter_buffer_to_image_[16, 3, 3, 3]": 3,
    "filter_buffer_to_image_[32, 16, 1, 1]": 3,
    "in_out_buffer_to_image_[1, 32, 32, 3]": 3,
    "in_out_image_to_buffer_[1, 1, 1, 10]": 3,
    "reduce_hw_opencl_kernel_1_1_8": 4,
    "softmax_opencl_kernel_1_1_1_10": 4,
    "weight_width_buffer_to_image_[10, 32, 1, 1]": 3,
}
_WINDOW = "MACE_OPENCL_QUEUE_WINDOW_SIZE"


@pytest.fixture(scope="module")
def tuned(
    tmp_path_factory: pytest.TempPathFactory, icd_folders: dict[str, Path]
) -> tuple[Phone, Finished]:
    """A phone after one tuning run."""
    phone = Phone(tmp_path_factory.mktemp("tuned") / "phone", "intel", icd_folders)
    run = phone.run(
        "--round=0",
        MACE_TUNING="1",
        MACE_RUN_PARAMETER_PATH="tuned.bin",
        MACE_OPENCL_QUEUE_WINDOW_SIZE="8",
    )
    return phone, run


def test_every_kernel_is_tuned_under_maces_keys(tuned: tuple[Phone, Finished]) -> None:
    phone, run = tuned
    assert run.returncode == 0, run
    entries = TunedParameters.parse((phone.folder / "tuned.bin").read_bytes()).entries
    assert {key: len(values) for key, values in entries.items()} == {**_KEYS, _WINDOW: 1}
    assert entries[_WINDOW] == (8,)
    assert all(
        math.prod(values[:-1]) > 0 and values[-1] == 0 for values in list(entries.values())[1:]
    )


def test_winners_are_logged_as_they_are_found(tuned: tuple[Phone, Finished]) -> None:
    phone, run = tuned
    entries = TunedParameters.parse((phone.folder / "tuned.bin").read_bytes()).entries
    for key in _KEYS:
        values = ", ".join(str(value) for value in entries[key])
        line = f"I mace/utils/tuner.h:106] Tuning {key} result: [{values}]\n"
        assert line in run.stdout


def test_round_0_prints_no_average(tuned: tuple[Phone, Finished]) -> None:
    _, run = tuned
    assert run.table()[3] == -1.0
    assert "Run model" not in run.stdout
    # the cache was missing, which is no news in a tuning run
    assert "Load OpenCL cached compiled kernel file failed" not in run.stdout


def test_tuned_run_is_right_and_uses_the_file(tuned: tuple[Phone, Finished]) -> None:
    phone, _ = tuned
    phone.output.unlink()
    run = phone.run(
        "--round=2", "--opencl_parameter_file=tuned.bin", MACE_RUN_PARAMETER_PATH="again.bin"
    )
    expected = np.fromfile(SAMPLES / "tiny_output_1x10.f32", "<f4")
    np.testing.assert_allclose(np.fromfile(phone.output, "<f4"), expected, atol=1e-5)
    entries = TunedParameters.parse((phone.folder / "tuned.bin").read_bytes()).entries
    for key in _KEYS:
        values = ", ".join(str(value) for value in entries[key])
        assert f"I mace/utils/tuner.h:113] {key}: [{values}]\n" in run.stdout
    # written on a normal exit although nothing was tuned
    again = TunedParameters.parse((phone.folder / "again.bin").read_bytes())
    assert dict(again.entries) == dict(entries)


def test_missing_and_damaged_parameters_are_reported(
    phone: Phone, tuned: tuple[Phone, Finished]
) -> None:
    shutil.copy(tuned[0].cache, phone.cache)
    missing = phone.run("--opencl_parameter_file=nowhere.bin")
    assert (
        "W mace/utils/tuner.h:189] Failed to read tuned param file: nowhere.bin\n" in missing.stdout
    )
    data = bytearray((tuned[0].folder / "tuned.bin").read_bytes())
    data[3] ^= 1
    (phone.folder / "damaged.bin").write_bytes(data)
    damaged = phone.run("--opencl_parameter_file=damaged.bin")
    assert "W mace/utils/tuner.h:199] CRC value of damaged.binis invalid\n" in damaged.stdout
    for run in (missing, damaged):
        assert run.returncode == 0
        assert len(run.table()) == 4


def test_parameters_too_large_for_the_device_are_retried_for_ever(
    phone: Phone, tuned: tuple[Phone, Finished]
) -> None:
    shutil.copy(tuned[0].cache, phone.cache)
    entries = {"softmax_opencl_kernel_1_1_1_10": (1 << 20, 1, 1, 0)}
    (phone.folder / "big.bin").write_bytes(TunedParameters.build(entries).serialize())
    output = phone.run_until(
        "Warmup runtime error, retry ... errcode: Out of resources",
        2,
        "--opencl_parameter_file=big.bin",
    )
    assert "error: CL_INVALID_WORK_GROUP_SIZE" in output


def _image(rng: np.random.Generator) -> Array:
    return rng.standard_normal((1, 24, 24, 8), dtype=np.float32)


def _conv_model(rng: np.random.Generator) -> tuple[Model, str]:
    weights = {"w": rng.standard_normal((8, 8, 3, 3), dtype=np.float32)}
    conv = op("Conv2D", ["x", "w"], "y", strides=(1, 1), padding_values=(2, 2))
    return model([conv], {"x": (1, 24, 24, 8)}, ["y"], weights), (
        "conv2d_3x3_opencl_kernel_1_24_24_8"
    )


def _parameter_file(folder: Path, key: str, values: tuple[int, ...]) -> str:
    path = folder / "parameters.bin"
    path.write_bytes(TunedParameters.build({key: values}).serialize())
    return str(path)


@pytest.fixture(scope="module")
def untuned(
    opencl_devices: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Gpu]]:
    """Per driver a device without tuned parameters, so that its programs are built once."""
    reader = LogReader(tmp_path_factory.mktemp("log") / "log.txt")
    yield {name: make_gpu(opencl_devices[name], reader.log) for name in DRIVERS}
    reader.close()


@pytest.mark.parametrize("values", [(2, 1, 4, 8), (1, 5, 2, 6), (2, 5, 24, 24), (1, 1, 1, 1)])
def test_blocks_cover_everything_once(
    untuned: dict[str, Gpu],
    driver: str,
    log_reader: LogReader,
    tmp_path: Path,
    values: tuple[int, ...],
) -> None:
    """Slices of the last axis, enqueued one by one, make the same image."""
    rng = np.random.default_rng(1)
    made, key = _conv_model(rng)
    x = {"x": _image(rng)}
    whole = GpuNet(made, untuned[driver]).run(x)["y"]
    path = _parameter_file(tmp_path, key, values)
    gpu = with_parameters(untuned[driver], log_reader.log, path)
    sliced = GpuNet(made, gpu).run(x)["y"]
    np.testing.assert_array_equal(sliced, whole)


@pytest.mark.parametrize(
    ("values", "words"),
    [((2, 1, 4), "params.size() == 4"), ((2, 0, 4, 0), "params[i] != 0")],
)
def test_parameters_that_are_none_abort(
    opencl_devices: dict[str, object],
    log_reader: LogReader,
    tmp_path: Path,
    values: tuple[int, ...],
    words: str,
) -> None:
    rng = np.random.default_rng(1)
    made, key = _conv_model(rng)
    path = _parameter_file(tmp_path, key, values)
    gpu = make_gpu(opencl_devices["intel"], log_reader.log, parameter_file=path)
    with pytest.raises(AbortedError):
        GpuNet(made, gpu).run({"x": _image(rng)})
    assert words in log_reader.text


def test_limited_kernel_time_splits_while_tuning(
    opencl_devices: dict[str, object], log_reader: LogReader, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    made, key = _conv_model(rng)
    x = {"x": _image(rng)}
    device = opencl_devices["intel"]
    whole = GpuNet(made, make_gpu(device, log_reader.log)).run(x)["y"]
    environ = {"MACE_TUNING": "1", "MACE_RUN_PARAMETER_PATH": str(tmp_path / "tuned.bin")}
    gpu = make_gpu(device, log_reader.log, environ, limit_kernel_time=True)
    limited = GpuNet(made, gpu).run(x)["y"]
    np.testing.assert_array_equal(limited, whole)
    gpu.tuner.write()
    entries = TunedParameters.parse((tmp_path / "tuned.bin").read_bytes()).entries
    lws, block = entries[key][:-1], entries[key][-1]
    assert block > 0
    assert block % lws[-1] == 0, "a slice must be whole work-groups"


@pytest.mark.parametrize("by_model", [False, True])
def test_kernel_time_is_limited_by_environment_or_model(
    phone: Phone, tuned: tuple[Phone, Finished], by_model: bool
) -> None:
    shutil.copy(tuned[0].cache, phone.cache)
    environment = {"MACE_TUNING": "1", "MACE_RUN_PARAMETER_PATH": "limited.bin"}
    if by_model:
        graph = phone.folder / "tiny_gpu.pb"
        model = parse_model(graph.read_bytes())
        net = model.nets[0]
        args = (*net.args, Argument(name="limit_opencl_kernel_time", i=1))
        changed = dataclasses.replace(model, nets=(dataclasses.replace(net, args=args),))
        graph.write_bytes(serialize_model(changed))
    else:
        environment["MACE_LIMIT_OPENCL_KERNEL_TIME"] = "1"
    run = phone.run("--round=0", **environment)
    assert run.returncode == 0
    assert ("] limit_opencl_kernel_time: 1\n" in run.stdout) is not by_model
    entries = TunedParameters.parse((phone.folder / "limited.bin").read_bytes()).entries
    assert all(entries[key][-1] > 0 for key in _KEYS)


def test_queue_window_is_read_and_harmless(
    untuned: dict[str, Gpu], driver: str, log_reader: LogReader, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    made, _ = _conv_model(rng)
    x = {"x": _image(rng)}
    whole = GpuNet(made, untuned[driver]).run(x)["y"]
    path = _parameter_file(tmp_path, _WINDOW, (1,))
    gpu = with_parameters(untuned[driver], log_reader.log, path)
    assert gpu.tuner.queue_window_size == 1
    np.testing.assert_array_equal(GpuNet(made, gpu).run(x)["y"], whole)


def test_search_keeps_the_fastest_mean(log_reader: LogReader) -> None:
    """Fixed times stand in for the device: 10 runs at most, fewer when they are slow."""
    times_us = {(1, 0): 30.0, (2, 0): 20.0, (3, 0): 60_000.0, (4, 0): 250_000.0}
    runs: dict[tuple[int, ...], int] = dict.fromkeys(times_us, 0)

    def measure(params: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        runs[params] += 1
        return times_us[params], params

    tuner = Tuner(log_reader.log, {"MACE_TUNING": "1"}, "")
    assert tuner.search("key", (9, 0), list(times_us), measure) == (2, 0)
    assert tuner.known("key") == (2, 0)
    # one warm-up each; then 10, 10, 2 (100 ms are spent) and 1 (200 ms are)
    assert runs == {(1, 0): 11, (2, 0): 11, (3, 0): 3, (4, 0): 2}


_SIZES = st.integers(1, 300)


@given(st.tuples(_SIZES, _SIZES, _SIZES), st.sampled_from([64, 256, 1024, 8192]))
def test_candidates_fit_the_kernels_limit(gws: tuple[int, int, int], kwg_size: int) -> None:
    found = local_size.candidates_3d(gws, kwg_size)
    assert len(found) <= 30
    assert len(set(found)) == len(found)
    assert all(0 < math.prod(lws[:3]) <= kwg_size and lws[3] == 0 for lws in found)
    # the smallest is among them unless even that is too large
    assert ((1, gws[1], 1, 0) in found) == (gws[1] <= kwg_size)


@given(st.sampled_from([1, 2, 7, 64, 128, 4096]))
def test_candidates_of_2d_kernels(kwg_size: int) -> None:
    found = local_size.candidates_2d(kwg_size)
    assert 0 < len(found) <= 10
    assert all(0 < lws[0] * lws[1] <= kwg_size and lws[2] == 0 for lws in found)


_RULES = [
    local_size.default_3d,
    local_size.conv_1x1,
    local_size.conv_3x3,
    local_size.conv_general(25),
    local_size.depthwise,
    local_size.pooling,
    local_size.softmax,
    local_size.concat,
]


@given(
    st.sampled_from(_RULES),
    st.tuples(_SIZES, _SIZES, _SIZES),
    st.builds(
        Limits,
        cache_bytes=st.sampled_from([0, 16384, 131072, 1 << 20, 32 << 20]),
        compute_units=st.integers(1, 64),
        kwg_size=st.sampled_from([64, 256, 1024, 8192]),
    ),
)
def test_default_sizes_can_be_enqueued(
    rule: local_size.Rule, gws: tuple[int, int, int], limits: Limits
) -> None:
    *lws, block = rule(gws, limits)
    assert block == 0
    assert len(lws) == 3
    assert min(lws) >= 1
    assert math.prod(lws) <= limits.kwg_size


def test_defaults_agree_with_mace_on_a_mobile_gpu() -> None:
    """By hand after conv_2d_1x1.cc and conv_2d_3x3.cc: 128 KiB of cache, 2 units, 1024 items."""
    limits = Limits(cache_bytes=131072, compute_units=2, kwg_size=1024)
    # base 8; lws1 = 14 >= 8, lws0 = 8; 131072 / 192 / 112 / 2 * 8 = 24, room for 1024 / 112 = 9
    assert local_size.conv_1x1((32, 14, 56), limits) == (8, 14, 9, 0)
    # base min(8, 4); lws0 = 4; roundup(131072 / 224 / 48 / 1 = 12, 4) = 12
    assert local_size.conv_3x3((8, 12, 56), limits) == (4, 12, 12, 0)


def test_parameters_are_written_in_place(log_reader: LogReader, tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    for path in (str(link), "/dev/full", str(tmp_path / "no" / "folder")):
        environ = {"MACE_TUNING": "1", "MACE_RUN_PARAMETER_PATH": path}
        Tuner(log_reader.log, environ, "").write()
    assert link.is_symlink()
    assert TunedParameters.parse(target.read_bytes()).entries == {_WINDOW: (0,)}
    # only what cannot be opened is worth a word
    assert log_reader.text.count("Write run parameter file failed.") == 1


@pytest.mark.parametrize("values", [(1, 1, 0xFFFFFFFF, 1), (0xFFFFFFFF, 0xFFFFFFFF, 1, 0)])
def test_absurd_parameters_are_refused_at_the_first_command(
    untuned: dict[str, Gpu],
    driver: str,
    log_reader: LogReader,
    tmp_path: Path,
    values: tuple[int, ...],
) -> None:
    """Not after the host has listed billions of them."""
    rng = np.random.default_rng(1)
    made, key = _conv_model(rng)
    path = _parameter_file(tmp_path, key, values)
    net = GpuNet(made, with_parameters(untuned[driver], log_reader.log, path))
    with pytest.raises(EngineError, match="Out of resources"):
        net.run({"x": _image(rng)})
    assert "error: CL_INVALID_WORK_GROUP_SIZE\n" in log_reader.text


def test_a_tuning_run_keeps_its_own_window(log_reader: LogReader, tmp_path: Path) -> None:
    """The file's does not replace the environment's, and neither slows the search down."""
    path = _parameter_file(tmp_path, _WINDOW, (5,))
    environ = {"MACE_TUNING": "1", _WINDOW: "8"}
    tuner = Tuner(log_reader.log, environ, path)
    assert tuner.known(_WINDOW) == (8,)
    assert tuner.queue_window_size == 0
    assert Tuner(log_reader.log, {_WINDOW: "8"}, path).queue_window_size == 5


def test_legacy_parameters_are_refused(log_reader: LogReader, tmp_path: Path) -> None:
    path = tmp_path / "legacy.bin"
    store = TunedParameters.build({"key": (1, 1, 1, 0)}, Generation.LEGACY)
    path.write_bytes(store.serialize())
    assert Tuner(log_reader.log, {}, str(path)).known("key") is None
    assert f"CRC value of {path}is invalid" in log_reader.text


def test_no_local_size_beyond_what_an_axis_takes(
    opencl_devices: dict[str, object], log_reader: LogReader
) -> None:
    """NVIDIA's devices take 64 along the third axis, whatever the work-group's size."""
    gpu = make_gpu(opencl_devices["intel"], log_reader.log, {"MACE_TUNING": "1"})
    gpu.device = dataclasses.replace(gpu.device, max_work_item_sizes=(8, 8, 2))
    source = np.ones((1, 5, 5, 64), np.float32)
    reduce = op("Reduce", ["x"], "y", axis=(1, 2), reduce_type=0)
    made = GpuNet(model([reduce], {"x": source.shape}, ["y"]), gpu).run({"x": source})
    np.testing.assert_allclose(made["y"], 1)
    tried = [line for line in log_reader.text.splitlines() if "Tuning reduce_hw" in line]
    assert tried
    (winner,) = [json.loads(line.partition("result: ")[2]) for line in tried if "result" in line]
    assert winner[2] <= 2
