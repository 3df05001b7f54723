"""Both OpenCL drivers, in this process and for the engine as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_harness import DRIVERS, Finished, LogReader, Phone


def _find_icds() -> dict[str, str]:
    """Driver name to the content of its .icd file."""
    found = {}
    intel = Path(sys.prefix) / "lib" / "libintelocl.so"
    if intel.exists():
        found["intel"] = str(intel)
    for icd in sorted(Path("/etc/OpenCL/vendors").glob("*.icd")):
        library = icd.read_text(encoding="utf-8").split("\n")[0].strip()
        if "pocl" in library:
            found["pocl"] = library
    return found


@pytest.fixture(scope="session")
def icd_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Per driver a folder for OCL_ICD_VENDORS; ``both`` and ``none`` as well."""
    icds = _find_icds()
    missing = [name for name in DRIVERS if name not in icds]
    if missing:
        pytest.fail(
            f"OpenCL driver missing: {', '.join(missing)} (pip install 'droidmace[emulator]' for"
            " intel, apt-get install pocl-opencl-icd for pocl)"
        )
    root = tmp_path_factory.mktemp("icd")
    folders = {name: root / name for name in (*DRIVERS, "both", "none")}
    for name, folder in folders.items():
        folder.mkdir()
        for driver in DRIVERS:
            if name in (driver, "both"):
                (folder / f"{driver}.icd").write_text(icds[driver] + "\n", encoding="utf-8")
    return folders


@pytest.fixture(scope="session")
def opencl_devices(
    icd_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """Driver name to its pyopencl device, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        # The loader reads these once, when the platforms are first asked for.
        patch.setenv("OCL_ICD_VENDORS", str(icd_folders["both"]))
        patch.setenv("POCL_KERNEL_CACHE", "0")
        patch.setenv("POCL_CACHE_DIR", str(tmp_path_factory.mktemp("pocl")))
        import pyopencl as cl

        platforms = {platform.name: platform.get_devices()[0] for platform in cl.get_platforms()}
    return {
        "intel": platforms["Intel(R) OpenCL"],
        "pocl": platforms["Portable Computing Language"],
    }


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver in turn."""
    return str(request.param)


@pytest.fixture
def log_reader(tmp_path: Path) -> Iterator[LogReader]:
    """A readable log at VLOG 3."""
    reader = LogReader(tmp_path / "log.txt")
    yield reader
    reader.close()


@pytest.fixture
def phone(tmp_path: Path, icd_folders: dict[str, Path]) -> Phone:
    """A phone with Intel's driver."""
    return Phone(tmp_path / "phone", "intel", icd_folders)


@pytest.fixture(scope="session")
def used_phones(
    tmp_path_factory: pytest.TempPathFactory, icd_folders: dict[str, Path]
) -> dict[str, tuple[Phone, Finished]]:
    """Per driver a phone after one cold run, and that run. Copy what you want to change."""
    used = {}
    for name in DRIVERS:
        phone = Phone(tmp_path_factory.mktemp(name) / "phone", name, icd_folders)
        used[name] = (phone, phone.run())
    return used
