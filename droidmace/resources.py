"""Where the files that are not Python lie: kernels, device scripts, phone profiles."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(name: str) -> Path:
    """Folder ``name`` (``kernels``, ``device_scripts``, ``configs/phones``).

    In a wheel it lies in ``droidmace/_data``; in a checkout at the top, beside the package.
    """
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def kernels_dir() -> Path:
    """OpenCL C sources of the engine."""
    return resource_dir("kernels")


def device_scripts_dir() -> Path:
    """POSIX sh scripts that run on the phone."""
    return resource_dir("device_scripts")


@cache
def device_script(name: str) -> str:
    """Text of the script ``name`` (``run.sh``) in that folder."""
    return (device_scripts_dir() / name).read_text("utf-8")


def phone_profiles_dir() -> Path:
    """Profiles of emulated phones, one YAML file each."""
    return resource_dir("configs/phones")
