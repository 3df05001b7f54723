"""The device: which one, and what it says it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_harness import LogReader, Phone
from engine_models import make_gpu

from droidmace.engine.opencl.device import IDENTITY_VARIABLE, open_device
from droidmace.errors import EngineError
from droidmace.formats.acceptance import GpuType

_ADRENO = {
    "platform_name": "QUALCOMM Snapdragon(TM)",
    "platform_version": "OpenCL 2.0 QUALCOMM build: commit #1 Date: 10/01/21 Fri",
    "device_name": "QUALCOMM Adreno(TM)",
    "device_version": "OpenCL 2.0 Adreno(TM) 640",
}


def _identity_file(folder: Path, claims: object) -> dict[str, str]:
    path = folder / "gpu.json"
    path.write_text(json.dumps(claims), encoding="utf-8")
    return {IDENTITY_VARIABLE: str(path)}


def test_real_identity(
    opencl_devices: dict[str, object], driver: str, log_reader: LogReader
) -> None:
    device = open_device(log_reader.log, {}, profiling=False, device=opencl_devices[driver])
    identity = device.identity
    assert identity.gpu_type is GpuType.UNKNOWN
    assert identity.device_name == ""
    assert identity.platform_info.endswith(", v1.1.1-droidmace")
    assert f"Using platform: {identity.platform_info}\n" in log_reader.text


def test_claims_replace_what_the_driver_says(
    opencl_devices: dict[str, object], log_reader: LogReader, tmp_path: Path
) -> None:
    environ = _identity_file(tmp_path, _ADRENO)
    device = open_device(log_reader.log, environ, profiling=False, device=opencl_devices["intel"])
    assert device.identity.gpu_type is GpuType.ADRENO
    assert device.identity.device_name == "Adreno(TM) 640"
    assert device.identity.platform_info == (
        "QUALCOMM Snapdragon(TM), FULL_PROFILE, OpenCL 2.0 QUALCOMM build: commit #1 Date:"
        " 10/01/21 Fri, v1.1.1-droidmace"
    )


@pytest.mark.parametrize("claims", [[], {"device_name": 3}, {"nothing": "known"}])
def test_claims_must_be_known_strings(
    opencl_devices: dict[str, object], log_reader: LogReader, tmp_path: Path, claims: object
) -> None:
    environ = _identity_file(tmp_path, claims)
    with pytest.raises(EngineError, match=r"gpu\.json: a GPU identity is"):
        open_device(log_reader.log, environ, profiling=False, device=opencl_devices["intel"])


def test_unreadable_claims(
    opencl_devices: dict[str, object], log_reader: LogReader, tmp_path: Path
) -> None:
    environ = {IDENTITY_VARIABLE: str(tmp_path / "gone.json")}
    with pytest.raises(EngineError, match="cannot be read"):
        open_device(log_reader.log, environ, profiling=False, device=opencl_devices["intel"])


def test_kernel_that_does_not_build_says_why(
    opencl_devices: dict[str, object], driver: str, log_reader: LogReader
) -> None:
    gpu = make_gpu(opencl_devices[driver], log_reader.log)
    with pytest.raises(EngineError, match="Out of resources") as failure:
        gpu.programs.kernel("eltwise", "eltwise", ["-DDATA_TYPE=nonsense", "-DCMD_DATA_TYPE=f"])
    assert failure.value.where == "eltwise.cl"
    assert "Build program eltwise from source failed: -11 (CL_BUILD_PROGRAM_FAILURE)" in (
        log_reader.text
    )
    assert "nonsense" in log_reader.text


def test_missing_kernel_source_is_named(
    opencl_devices: dict[str, object], log_reader: LogReader
) -> None:
    gpu = make_gpu(opencl_devices["intel"], log_reader.log)
    with pytest.raises(EngineError, match=r"no_such_program\.cl is missing"):
        gpu.programs.kernel("no_such_program", "kernel", [])


def test_tensor_ranges(phone: Phone) -> None:
    run = phone.run("--round=0", MACE_LOG_TENSOR_RANGE="1")
    ranges = [line for line in run.stdout.splitlines() if "Tensor range @@" in line]
    names = [line.split("@@")[1] for line in ranges]
    assert names == ["r1", "r2", "r3", "gap", "fc", "output"]
    low, high = (float(text) for text in ranges[0].split("@@")[2].split(","))
    assert low == 0.0
    assert high > 0.0


def test_mocked_failures_are_retried(phone: Phone) -> None:
    output = phone.run_until(
        "Create engine runtime error, retry ... errcode: Out of resources",
        2,
        MACE_RUNTIME_FAILURE_RATIO="1",
    )
    assert "Mock runtime failure." in output
