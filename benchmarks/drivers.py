"""OpenCL drivers of this machine, and the environment in which a process sees one of them alone."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

_VENDORS = Path("/etc/OpenCL/vendors")
_NVIDIA_LIBRARY = "libnvidia-opencl.so.1"


@dataclasses.dataclass(frozen=True)
class Driver:
    """A driver by name and library."""

    name: str
    library: str

    def environ(self, folder: Path) -> dict[str, str]:
        """Variables for a process that sees this driver only, with its own cache empty.

        ``folder`` is new: the caches are made there.
        """
        vendors = folder / "vendors"
        vendors.mkdir(parents=True)
        (vendors / f"{self.name}.icd").write_text(f"{self.library}\n")
        caches = {}
        for variable in ("POCL_CACHE_DIR", "CUDA_CACHE_PATH", "XDG_CACHE_HOME", "HOME"):
            path = folder / variable.lower()
            path.mkdir()
            caches[variable] = str(path)
        return {"OCL_ICD_VENDORS": str(vendors), "PYOPENCL_NO_CACHE": "1", **caches}


def find_drivers() -> dict[str, Driver]:
    """The drivers that are installed, by name: ``intel``, ``pocl``, ``nvidia``."""
    found = {}
    intel = Path(sys.prefix) / "lib/libintelocl.so"
    if intel.exists():
        found["intel"] = str(intel)
    for icd in sorted(_VENDORS.glob("*.icd")):
        library = icd.read_text().split("\n")[0].strip()
        for name in ("pocl", "nvidia"):
            if name in library and name not in found:
                found[name] = library
    if "nvidia" not in found:
        nvidia = _nvidia_library()
        if nvidia:
            found["nvidia"] = nvidia
    return {name: Driver(name, library) for name, library in found.items()}


def _nvidia_library() -> str | None:
    """NVIDIA's library where containers have it without the file that names it."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), "/usr/local/nvidia/lib64"]
    for folder in filter(None, folders):
        if (Path(folder) / _NVIDIA_LIBRARY).exists():
            return str(Path(folder) / _NVIDIA_LIBRARY)
    try:
        listing = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    match = re.search(rf"{re.escape(_NVIDIA_LIBRARY)}.* => (\S+)", listing.stdout)
    return match[1] if match else None
