"""OpenCL drivers of this machine that can back a phone's GPU.

``intel``   Intel's CPU runtime from PyPI (``intel-opencl-rt``), in ``<sys.prefix>/lib``
``pocl``    PoCL as distributions package it: an ``.icd`` file in ``/etc/OpenCL/vendors``
a path      any ``.so`` or ``.icd`` file
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from droidmace.emulator.mounts import ReadOnlyBind
from droidmace.errors import EmulatorError

LIBRARY_DIR = "/vendor/lib64"
NO_DRIVER = "none"
INSTALL_HINT = (
    "pip install 'droidmace[emulator]' (Intel's CPU runtime) or apt-get install pocl-opencl-icd"
)

_ICD_DIR = Path("/etc/OpenCL/vendors")
_POCL_DATA = Path("/usr/share/pocl")
# PoCL links every kernel it builds, the way clang does: crtbegin.o shows it where GCC's parts are.
_POCL_LINKER = Path("/usr/bin/ld")
_POCL_LINKED = ("crtbegin.o", "libgcc.a", "libgcc_s.so")
_SYSTEM_LIBRARY_DIRS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_INTEL_DISTRIBUTIONS = ("intel-opencl-rt", "intel-cmplr-lib-rt", "tbb", "tcmlib")
_INTEL_LIBRARY = "libintelocl.so"
# Beside the driver's own libraries it loads at run time: built-ins (.rtl, .o) and its settings.
_INTEL_FILE = re.compile(r"(?!libOpenCL|icx-lto|.*_debug)(.+\.so(\.[0-9]+)*|.+\.rtl|.+\.o|cl\.cfg)")


@dataclass(frozen=True, slots=True)
class OpenClDriver:
    """A driver: the library that the phone's ``.icd`` file names, and what must be bound for it.

    ``version`` is the host's word for it; it goes into the phone's CL_PLATFORM_VERSION, so that
    two drivers never give the same platform info.
    """

    name: str
    version: str
    library: str
    mounts: tuple[ReadOnlyBind, ...]
    programs: tuple[Path, ...] = ()
    """Programs that the driver starts: they must be on the phone's PATH."""


def available_drivers() -> dict[str, OpenClDriver]:
    """The named drivers that are installed."""
    found = (_intel(), _pocl())
    return {driver.name: driver for driver in found if driver is not None}


def find_driver(spec: str) -> OpenClDriver:
    """The driver called ``spec`` (``intel``, ``pocl``), or the one at the path ``spec``.

    Raises ``EmulatorError`` that lists the drivers there are.
    """
    available = available_drivers()
    if spec in available:
        return available[spec]
    if "/" in spec:
        return _explicit(Path(spec))
    names = ", ".join(available) or "none"
    raise EmulatorError(
        f"no OpenCL driver {spec!r} on this machine (found: {names})", hint=INSTALL_HINT
    )


def loader_mount(driver: OpenClDriver) -> ReadOnlyBind:
    """The file that stands at ``/vendor/lib64/libOpenCL.so``.

    The ICD loader of the system or of Intel's runtime; without one the driver's own library, as
    on phones whose vendor ships no loader.
    """
    candidates = [
        *(Path(folder) / "libOpenCL.so.1" for folder in _system_library_dirs()),
        Path(sys.prefix) / "lib" / "libOpenCL.so.1",
        *(mount.source for mount in driver.mounts if mount.target == driver.library),
        *(Path(folder) / driver.library for folder in _system_library_dirs()),
    ]
    for candidate in candidates:
        if candidate.is_file():
            return ReadOnlyBind(candidate.resolve(), f"{LIBRARY_DIR}/libOpenCL.so")
    raise EmulatorError(f"the library of OpenCL driver {driver.name!r} is gone: {driver.library}")


def _intel() -> OpenClDriver | None:
    folder = (Path(sys.prefix) / "lib").resolve()
    library = folder / _INTEL_LIBRARY
    if not library.is_file():
        return None
    files = {
        path.name: path
        for path in _files_of(_INTEL_DISTRIBUTIONS)
        if path.parent == folder and _INTEL_FILE.fullmatch(path.name)
    }
    files[library.name] = library
    mounts = tuple(ReadOnlyBind(files[name], f"{LIBRARY_DIR}/{name}") for name in sorted(files))
    version = _distribution_version("intel-opencl-rt") or _fingerprint(library)
    return OpenClDriver("intel", version, f"{LIBRARY_DIR}/{_INTEL_LIBRARY}", mounts)


def _pocl() -> OpenClDriver | None:
    for icd in sorted(_ICD_DIR.glob("*.icd")):
        library = _read_icd(icd)
        if library is None or "pocl" not in Path(library).name:
            continue
        found = _resolve_system_library(library)
        if found is None:
            continue
        version = _debian_version("libpocl2") or _debian_version("pocl-opencl-icd")
        if version is None:
            version = found.resolve().name.partition(".so.")[2] or _fingerprint(found)
        needed = [found, *(path for _, path in _needed_libraries(found))]
        # Links out of the library folder (LLVM's): the phone has that folder only.
        outside = {path.resolve() for path in needed} - set(needed)
        hidden = sorted(path for path in outside if not _is_visible(path))
        linked = (
            path for name in _POCL_LINKED for path in Path("/usr/lib/gcc").glob(f"*/*/{name}")
        )
        mounts = tuple(
            ReadOnlyBind(path, str(path))
            for path in (_POCL_DATA, *hidden, *linked)
            if path.exists()
        )
        programs = (_POCL_LINKER,) if _POCL_LINKER.exists() else ()
        return OpenClDriver("pocl", version, library, mounts, programs)
    return None


def _explicit(path: Path) -> OpenClDriver:
    if not path.is_file():
        raise EmulatorError(f"no OpenCL driver at {path}", hint=INSTALL_HINT)
    path = path.resolve()
    if path.suffix == ".icd":
        library = _read_icd(path)
        if library is None:
            raise EmulatorError(
                f"{path} names no library", hint="an .icd file is one line: the .so"
            )
        found = _resolve_system_library(library)
        if found is None:
            raise EmulatorError(f"the library that {path} names does not exist: {library}")
        path = found.resolve()
    if _is_system(path):
        return OpenClDriver(path.name, _fingerprint(path), str(path), ())
    files = {path.name: path} | {
        name: needed for name, needed in _needed_libraries(path) if not _is_system(needed)
    }
    mounts = tuple(ReadOnlyBind(files[name], f"{LIBRARY_DIR}/{name}") for name in sorted(files))
    return OpenClDriver(path.name, _fingerprint(path), f"{LIBRARY_DIR}/{path.name}", mounts)


def _needed_libraries(library: Path) -> Iterator[tuple[str, Path]]:
    """What the dynamic loader would load for ``library``: name and file."""
    listing = subprocess.run(
        ["ldd", str(library)], capture_output=True, text=True, check=False, timeout=30
    )
    for match in re.finditer(r"^\s*(\S+) => (/\S.*?) \(0x[0-9a-f]+\)$", listing.stdout, re.M):
        yield match[1], Path(match[2])


def _files_of(distributions: tuple[str, ...]) -> Iterator[Path]:
    for name in distributions:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            yield path.parent.resolve() / path.name


def _read_icd(icd: Path) -> str | None:
    """The library an ``.icd`` file names: its first line."""
    lines = icd.read_text("utf-8", "replace").splitlines()
    return lines[0].strip() or None if lines else None


def _resolve_system_library(library: str) -> Path | None:
    if library.startswith("/"):
        path = Path(library)
        return path if path.is_file() else None
    for folder in _system_library_dirs():
        if (folder / library).is_file():
            return folder / library
    return None


def _system_library_dirs() -> list[Path]:
    multiarch = Path("/usr/lib") / getattr(sys.implementation, "_multiarch", "")
    return [
        folder for folder in (multiarch, Path("/usr/lib64"), Path("/usr/lib")) if folder.is_dir()
    ]


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _SYSTEM_LIBRARY_DIRS)


def _is_visible(path: Path) -> bool:
    """Whether the sandbox shows this file anyway: it binds the folder of shared libraries."""
    return path.parent in (folder.resolve() for folder in _system_library_dirs())


def _distribution_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _debian_version(package: str) -> str | None:
    try:
        answer = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _fingerprint(library: Path) -> str:
    """A version for a library that tells none: the beginning of its SHA-256."""
    digest = hashlib.sha256()
    with library.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:12]
