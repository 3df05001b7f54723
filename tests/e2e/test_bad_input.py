"""All that a user can get wrong, provoked for real: one clear error, exit 2, nothing lost."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from droidmace.emulator.manager import Phone
from droidmace.formats.netdef import parse_model, serialize_model
from tests.conftest import PhoneLab
from tests.e2e.conftest import BRIEF, FASHION, ROOT, Done, Droidmace

SAMPLES = ROOT / "tests" / "samples"
EXAMPLE = ROOT / "examples" / "fashion_mnist"


def refused(done: Done) -> dict[str, Any]:
    """The error of a command that must fail: all of what, where and how to fix."""
    assert done.code == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    error = done.error
    assert error["message"]
    assert error["hint"], error
    return error


@pytest.fixture
def tune(droidmace: Droidmace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Tune in vain on a phone, and see that no bundle was begun."""

    def run(phone: Phone, *arguments: object, config: Path = FASHION) -> dict[str, Any]:
        out = tmp_path / "out"
        done = droidmace(
            "tune",
            "--serial",
            phone.serial,
            "-c",
            config,
            "--out",
            out,
            "--json",
            "--limit",
            5,
            *BRIEF,
            *arguments,
        )
        error = refused(done)
        assert not out.exists()
        return error

    return run


@pytest.fixture
def changed_config(tmp_path: Path) -> Callable[..., Path]:
    """The example's deployment file with absolute paths, changed by a function."""

    def write(change: Callable[[dict[str, Any]], None]) -> Path:
        document = yaml.safe_load(FASHION.read_text("utf-8"))
        document["models"]["fashion_mnist"]["model_file_path"] = str(EXAMPLE / "fashion_mnist.onnx")
        ours = document["droidmace"]
        files = ours["models"]["fashion_mnist"]
        for entries in (files, ours["dataset"]):
            for key, value in entries.items():
                if isinstance(value, str):
                    entries[key] = str(EXAMPLE / Path(value).name)
        change(document)
        path = tmp_path / "changed.yml"
        path.write_text(yaml.safe_dump(document), "utf-8")
        return path

    return write


# --- the phone ---------------------------------------------------------------------------------


def test_unknown_serial_lists_those_there_are(droidmace: Droidmace, adreno_phone: Phone) -> None:
    error = refused(droidmace("tune", "--serial", "nobody", "-c", FASHION, "--json"))
    assert "nobody" in (error["message"] + str(error["where"]))
    assert adreno_phone.serial in error["hint"]


@pytest.mark.parametrize("state", ["offline", "unauthorized"])
def test_a_phone_that_adb_cannot_use(
    droidmace: Droidmace,
    start_phone: Callable[..., Phone],
    phone_lab: PhoneLab,
    tune: Callable[..., dict[str, Any]],
    state: str,
) -> None:
    phone = start_phone(state, "adreno")
    phone.fault({"kind": state})
    phone_lab.run_adb("disconnect", phone.serial)
    phone_lab.run_adb("connect", phone.serial)
    error = tune(phone)
    assert state in error["message"]
    listed = droidmace("devices", "--json")
    assert phone.serial in listed.stdout
    assert state in listed.stdout


def test_no_adb(droidmace: Droidmace, tmp_path: Path) -> None:
    # On a port where no server runs yet, so that the program is needed to start one.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    arguments = ("tune", "--serial", "x", "-c", FASHION, "--json")
    nowhere = tmp_path / "adb"
    error = refused(droidmace(*arguments, ADB=str(nowhere), ANDROID_ADB_SERVER_PORT=port))
    assert error["error"] == "AdbUnavailableError"
    assert str(nowhere) in error["message"]


def test_no_opencl_driver(
    start_phone: Callable[..., Phone], tune: Callable[..., dict[str, Any]]
) -> None:
    error = tune(start_phone("driverless", "adreno", driver="none"))
    assert "opencl" in error["message"]


def test_no_space_on_the_phone(
    start_phone: Callable[..., Phone], tune: Callable[..., dict[str, Any]]
) -> None:
    error = tune(start_phone("full", "adreno", storage="4M"))
    assert "space" in error["message"]
    assert "MiB needed" in error["message"]


def test_a_phone_that_is_hot_or_low_on_battery(
    start_phone: Callable[..., Phone], tune: Callable[..., dict[str, Any]]
) -> None:
    phone = start_phone("weak", "adreno")
    phone.set_battery(level=4, usb_powered=False)
    assert "battery" in tune(phone)["message"]
    phone.clear_faults()
    phone.set_temperature(95)
    assert "temperature" in tune(phone)["message"]


def test_a_phone_in_use_says_by_whom(
    phone_lab: PhoneLab, adreno_phone: Phone, tune: Callable[..., dict[str, Any]]
) -> None:
    lock = "/data/local/tmp/mace_run.lock"
    owner = '{"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00", "token": "%s"}'
    make = f"mkdir {lock} && echo '{owner % ('a' * 32)}' > {lock}/owner && : > {lock}/beat"
    phone_lab.output(adreno_phone, make)
    try:
        error = tune(adreno_phone)
    finally:
        phone_lab.output(adreno_phone, f"rm -r {lock}")
    assert "process 7 on elsewhere" in error["message"]


# --- the deployment file -----------------------------------------------------------------------


def unknown_key(document: dict[str, Any]) -> None:
    document["models"]["fashion_mnist"]["runtme"] = "gpu"


def wrong_type(document: dict[str, Any]) -> None:
    document["models"]["fashion_mnist"]["subgraphs"] = "none"


def missing_file(document: dict[str, Any]) -> None:
    document["droidmace"]["dataset"]["images"] = "nowhere.gz"


def missing_model(document: dict[str, Any]) -> None:
    document["droidmace"]["models"]["fashion_mnist"]["graph_file"] = "nowhere.pb"


def other_checksum(document: dict[str, Any]) -> None:
    document["models"]["fashion_mnist"]["model_sha256_checksum"] = "0" * 64


def other_shape(document: dict[str, Any]) -> None:
    graph = document["models"]["fashion_mnist"]["subgraphs"][0]
    graph["output_shapes"] = ["1,11"]


def other_tensor(document: dict[str, Any]) -> None:
    document["models"]["fashion_mnist"]["subgraphs"][0]["output_tensors"] = ["logits"]


def cpu_runtime(document: dict[str, Any]) -> None:
    document["models"]["fashion_mnist"]["runtime"] = "cpu"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (cpu_runtime, "no OpenCL kernels to tune"),
        (unknown_key, "models.fashion_mnist.runtme: unknown key"),
        (missing_model, "nowhere.pb"),
        (other_checksum, "model_sha256_checksum"),
        (other_shape, "[1, 11]"),
        (other_tensor, "'logits'"),
    ],
)
def test_mistakes_in_the_deployment_file(
    changed_config: Callable[..., Path],
    adreno_phone: Phone,
    tune: Callable[..., dict[str, Any]],
    change: Callable[[dict[str, Any]], None],
    complaint: str,
) -> None:
    path = changed_config(change)
    assert complaint in tune(adreno_phone, config=path)["message"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [(wrong_type, "expected a mapping"), (missing_file, "no such file")],
)
def test_mistakes_that_name_the_line(
    changed_config: Callable[..., Path],
    droidmace: Droidmace,
    change: Callable[[dict[str, Any]], None],
    complaint: str,
) -> None:
    path = changed_config(change)
    done = droidmace("tune", "--serial", "x", "-c", path, "--json")
    assert done.code == 2
    assert complaint in done.error["message"]
    assert done.error["where"].startswith(f"{path}:")


# --- mace_run ----------------------------------------------------------------------------------


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bin" / "mace_run"
    path.parent.mkdir()
    path.write_text(f"#!/system/bin/sh\n{text}\n", "utf-8")
    return path


def test_a_mace_run_that_is_no_program(
    adreno_phone: Phone, tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "mace_run"
    path.write_text("hello", "utf-8")
    error = tune(adreno_phone, "--mace-run", path)
    assert "not an executable" in error["message"]
    assert error["where"] == str(path)


def test_a_mace_run_for_another_abi(
    adreno_phone: Phone, tune: Callable[..., dict[str, Any]]
) -> None:
    error = tune(adreno_phone, "--mace-run", Path(sys.executable).resolve())
    assert "arm64-v8a" in error["message"]


def test_no_mace_run_in_a_build_folder(
    adreno_phone: Phone, tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    error = tune(adreno_phone, "--mace-root", tmp_path)
    assert "no mace_run for abi" in error["message"]


def test_an_output_of_the_wrong_size(
    adreno_phone: Phone, tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = script(
        tmp_path,
        "for flag; do case $flag in --output_file=*) out=${flag#*=};; esac; done\n"
        '/vendor/bin/mace_run "$@" && printf abc > "${out}_probabilities"',
    )
    error = tune(adreno_phone, "--mace-run", path)
    assert error["phase"] == "baseline"
    assert "probabilities" in error["message"]
    assert "3" in error["message"]


def test_an_output_that_is_missing(
    adreno_phone: Phone, tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = script(
        tmp_path,
        "for flag; do case $flag in --output_file=*) out=${flag#*=};; esac; done\n"
        '/vendor/bin/mace_run "$@" && rm "${out}_probabilities"',
    )
    error = tune(adreno_phone, "--mace-run", path)
    assert "probabilities" in error["message"]


def test_a_crash_shows_its_last_lines_although_the_pipe_lost_them(
    adreno_phone: Phone, tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = script(
        tmp_path,
        'export MACE_INTERNAL_STORAGE_PATH=/data/local/tmp/nowhere\nexec /vendor/bin/mace_run "$@"',
    )
    error = tune(adreno_phone, "--mace-run", path)
    assert error["error"] == "MaceRunCrashError"
    assert "Store OPENCL compiled kernel to file failed" in error["message"] + error["details"]


def test_a_model_that_was_converted_for_the_cpu(
    adreno_phone: Phone,
    changed_config: Callable[..., Path],
    tune: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    model = parse_model((EXAMPLE / "fashion_mnist.pb").read_bytes())
    args = tuple(arg for arg in model.nets[0].args if arg.name != "runtime_type")
    graph = tmp_path / "cpu.pb"
    net = dataclasses.replace(model.nets[0], args=args)
    graph.write_bytes(serialize_model(dataclasses.replace(model, nets=(net,))))

    def change(document: dict[str, Any]) -> None:
        document["droidmace"]["models"]["fashion_mnist"]["graph_file"] = str(graph)

    error = tune(adreno_phone, config=changed_config(change))
    assert error["phase"] is None
    assert "converted for the CPU" in error["message"]
    assert error["where"] == str(graph)


def test_a_folder_for_bundles_that_cannot_be_is_refused_before_the_work(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    arguments = ("tune", "--serial", adreno_phone.serial, "-c", FASHION, "--json")
    error = refused(droidmace(*arguments, "--out", tmp_path / "file" / "out"))
    assert error["phase"] == "probe"
    assert "cannot be written" in error["message"]


def test_a_model_whose_op_the_engine_lacks_is_stopped_and_named(
    adreno_phone: Phone,
    changed_config: Callable[..., Path],
    tune: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    model = parse_model((EXAMPLE / "fashion_mnist.pb").read_bytes())
    net = model.nets[0]
    first = dataclasses.replace(net.ops[0], type="Scramble")
    changed = dataclasses.replace(net, ops=(first, *net.ops[1:]))
    graph = tmp_path / "scrambled.pb"
    graph.write_bytes(serialize_model(dataclasses.replace(model, nets=(changed,))))

    def change(document: dict[str, Any]) -> None:
        document["droidmace"]["models"]["fashion_mnist"]["graph_file"] = str(graph)

    error = tune(adreno_phone, config=changed_config(change))
    assert error["error"] == "MaceRunRetryError"
    assert "Scramble" in error["message"] + str(error["details"])


# --- files -------------------------------------------------------------------------------------

TUNE_PARAMS = (SAMPLES / "tune_params").read_bytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("garbage", bytes(range(256)) * 4),
        ("truncated", TUNE_PARAMS[:-9]),
        ("flipped", TUNE_PARAMS[:100] + bytes([TUNE_PARAMS[100] ^ 1]) + TUNE_PARAMS[101:]),
    ],
)
def test_damaged_artefacts_say_where(
    droidmace: Droidmace, tmp_path: Path, name: str, data: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    error = refused(droidmace("inspect", path, "--json"))
    assert error["where"] == str(path)
    assert "offset" in error["message"]
    assert path.read_bytes() == data


def test_a_model_with_an_unsupported_op_is_refused_by_name(
    droidmace: Droidmace, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Erf", ["x"], ["y"], name="strange")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    config = tmp_path / "net.yml"
    config.write_text(
        "library_name: lib\ntarget_abis: [arm64-v8a]\nmodels:\n  net:\n    platform: onnx\n"
        "    model_file_path: net.onnx\n    runtime: gpu\n    data_type: fp32_fp32\n"
        "    subgraphs:\n    - input_tensors: [x]\n      input_shapes: ['1,3,4,4']\n"
        "      input_data_formats: [NCHW]\n      output_tensors: [y]\n"
        "      output_shapes: ['1,3,4,4']\n      output_data_formats: [NCHW]\n",
        "utf-8",
    )
    error = refused(droidmace("convert", "-c", config, "--output", tmp_path / "out", "--json"))
    assert "Erf" in error["message"]
    assert "strange" in error["message"]
    assert not (tmp_path / "out").exists()
