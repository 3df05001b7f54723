"""Both OpenCL drivers work inside the sandbox, each alone, as the phone's only GPU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from droidmace.emulator import opencl_drivers as drivers
from droidmace.emulator.manager import Phone
from droidmace.emulator.opencl_drivers import OpenClDriver, find_driver
from droidmace.errors import EmulatorError

if TYPE_CHECKING:
    from conftest import PhoneLab

# Builds and runs a kernel, so that the driver's compiler, built-ins and linker are all needed.
PROGRAM = """
import json, sys
import numpy, pyopencl as cl
[platform] = cl.get_platforms()
[device] = platform.get_devices()
context = cl.Context([device])
queue = cl.CommandQueue(context)
values = numpy.arange(64, dtype=numpy.float32)
memory = cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=values)
source = "__kernel void f(__global float *v) { int i = get_global_id(0); v[i] = sqrt(v[i]); }"
program = cl.Program(context, source).build()
program.f(queue, values.shape, None, memory)
result = numpy.empty_like(values)
cl.enqueue_copy(queue, result, memory)
again = cl.Program(context, [device], program.get_info(cl.program_info.BINARIES)).build()
print(json.dumps({
    "platform": platform.name, "right": bool(numpy.allclose(result, values ** 0.5)),
    "binary_bytes": len(program.get_info(cl.program_info.BINARIES)[0]),
    "paths": sys.path, "modules": [numpy.__file__, cl.__file__],
}))
"""


@pytest.mark.parametrize(
    ("fixture", "platform"),
    [("adreno_phone", "Intel(R) OpenCL"), ("mali_phone", "Portable Computing Language")],
)
def test_driver_compiles_and_runs_on_the_phone(
    phone_lab: PhoneLab, request: pytest.FixtureRequest, fixture: str, platform: str
) -> None:
    phone: Phone = request.getfixturevalue(fixture)
    command = f"PYTHONWARNINGS=ignore /vendor/bin/python3 -c {shlex.quote(PROGRAM)}"
    result = json.loads(phone_lab.output(phone, command).splitlines()[-1])
    assert result["platform"] == platform
    assert result["right"] is True
    assert result["binary_bytes"] > 0
    assert all(path in ("", *result["paths"]) and not path.startswith("/home")
               for path in result["paths"])  # fmt: skip
    assert all(path.startswith("/vendor/lib/python/") for path in result["modules"])


def test_the_command_line_decides_over_the_profile(
    phone_lab: PhoneLab, start_phone: Callable[..., Phone]
) -> None:
    phone = start_phone(None, "adreno", driver="pocl")
    icd = phone_lab.output(phone, "cat $OCL_ICD_VENDORS/*.icd")
    assert "pocl" in icd
    assert "_pocl." in phone_lab.output(phone, "cat $DROIDMACE_GPU_IDENTITY")


def test_drivers_have_distinct_versions(opencl_drivers: dict[str, OpenClDriver]) -> None:
    assert set(opencl_drivers) == {"intel", "pocl"}
    assert opencl_drivers["intel"].version != opencl_drivers["pocl"].version


def test_only_the_drivers_files_are_bound(opencl_drivers: dict[str, OpenClDriver]) -> None:
    for driver in opencl_drivers.values():
        for mount in driver.mounts:
            assert mount.source.exists()
            assert mount.target.startswith(("/vendor/lib64/", "/usr/lib/", "/usr/share/pocl"))
            assert "site-packages" not in str(mount.source)


def test_driver_by_path(opencl_drivers: dict[str, OpenClDriver], tmp_path: Path) -> None:
    source = next(
        mount.source
        for mount in opencl_drivers["intel"].mounts
        if mount.target == opencl_drivers["intel"].library
    )
    driver = find_driver(str(source))
    assert driver.library == f"{drivers.LIBRARY_DIR}/{source.resolve().name}"
    needed = {Path(mount.target).name for mount in driver.mounts}
    assert "libtbb.so.12" in needed  # found by asking the dynamic loader
    assert not any(name.startswith("libc.so") for name in needed)

    icd = tmp_path / "mine.icd"
    icd.write_text(f"{source}\n")
    assert find_driver(str(icd)) == driver


def test_bad_icd_files(tmp_path: Path) -> None:
    empty, gone = tmp_path / "empty.icd", tmp_path / "gone.icd"
    empty.write_text("")
    gone.write_text("/nowhere/libgpu.so\n")
    with pytest.raises(EmulatorError, match="names no library"):
        find_driver(str(empty))
    with pytest.raises(EmulatorError, match="does not exist: /nowhere/libgpu.so"):
        find_driver(str(gone))


def test_no_driver_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(drivers, "_ICD_DIR", tmp_path)
    monkeypatch.setattr(drivers.sys, "prefix", str(tmp_path))
    with pytest.raises(EmulatorError, match=r"found: none") as caught:
        find_driver("intel")
    assert caught.value.hint == drivers.INSTALL_HINT
