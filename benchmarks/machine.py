"""What a result was measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
    "droidmace",
    "numpy",
    "pyopencl",
    "intel-opencl-rt",
    "onnx",
    "onnxruntime",
    "tinygrad",
    "ncnn",
    "pnnx",
    "MNN",
    "torch",
)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, system, packages, revision and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "packages": _packages(),
        "pocl": _output(["dpkg-query", "-W", "-f", "${Version}", "libpocl2"]),
        # a copy without its history can be told which revision it is
        "revision": os.environ.get("BENCHMARK_REVISION")
        or _output(["git", "describe", "--always", "--dirty"]),
        "load_before": os.getloadavg(),
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.findall(r"^flags\s*: (.*)$", text, re.MULTILINE)
    wide = [flag for flag in ("avx2", "avx512f") if flags and flag in flags[0].split()]
    return f"{names[0]} ({', '.join(wide)})" if names else platform.processor()


def _gpu() -> str | None:
    return _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
