"""The Python that the phone's own programs run on: which host files it needs, and where they go.

The daemon and the engine are Python programs. The phone gets the interpreter that runs this code,
the standard library, the packages that the engine imports, and droidmace itself, all read-only
under ``/vendor``; the virtual environment's own path and its other packages stay out of sight.
"""

from __future__ import annotations

import compileall
import importlib.metadata
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from droidmace.emulator.mounts import Mask, ReadOnlyBind
from droidmace.resources import kernels_dir

PYTHON_HOME = "/vendor/python"
PACKAGES = "/vendor/lib/python"
ENGINE_REQUIREMENTS = ("numpy", "pyopencl")
PHONE_MODULES = (
    "*.py",
    "emulator/__init__.py",
    "emulator/adbd/**/*.py",
    "engine/**/*.py",
    "formats/**/*.py",
)
"""What of droidmace's own modules runs on a phone."""

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def interpreter() -> Path:
    """The real interpreter behind ``sys.executable`` (a virtual environment only links to it)."""
    return Path(os.path.realpath(sys.executable))


def interpreter_target() -> str:
    """Where the interpreter stands on the phone."""
    version = sysconfig.get_python_version()
    return f"{PYTHON_HOME}/bin/python{version}"


def python_mounts() -> list[ReadOnlyBind | Mask]:
    """Interpreter and standard library, laid out so that Python finds its home by itself."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    target = f"{PYTHON_HOME}/lib/{stdlib.name}"
    mounts: list[ReadOnlyBind | Mask] = [ReadOnlyBind(interpreter(), interpreter_target())]
    if Path(sys.base_prefix) == Path("/usr"):
        # The system's Python: its shared libraries are the system's, which the phone has anyway.
        mounts.append(ReadOnlyBind(stdlib, target))
    else:
        # Others (pyenv, conda, /usr/local) keep libpython and friends beside the library.
        mounts.append(ReadOnlyBind(stdlib.parent, f"{PYTHON_HOME}/lib"))
    if (stdlib / "site-packages").is_dir():
        mounts.append(Mask(f"{target}/site-packages"))
    return mounts


def package_mounts() -> list[ReadOnlyBind]:
    """Droidmace, its kernels, and the packages that the engine imports (those installed)."""
    package = Path(__file__).resolve().parents[1]
    mounts = [ReadOnlyBind(package, f"{PACKAGES}/{package.name}")]
    kernels = kernels_dir()
    if kernels.is_dir() and not kernels.is_relative_to(package):
        # In a checkout the kernels lie beside the package; resources.py looks there.
        mounts.append(ReadOnlyBind(kernels, f"{PACKAGES}/{kernels.name}"))
    entries: dict[str, Path] = {}
    for distribution in _closure(ENGINE_REQUIREMENTS):
        for entry in _top_level_entries(distribution):
            entries.setdefault(entry.name, entry)
    mounts += [ReadOnlyBind(path, f"{PACKAGES}/{name}") for name, path in sorted(entries.items())]
    return mounts


def compile_modules(package: Path | None = None) -> None:
    """Keep the byte code of what runs on a phone beside its source, where Python looks for it.

    A phone cannot: it sees the package read-only, and so every process of it would compile all
    modules anew. An installer has done this already; in a checkout nobody has, because the host
    never imports the engine. What is up to date stays as it is. Where the folder cannot be written,
    the phone goes on compiling.
    """
    package = package or Path(__file__).resolve().parents[1]
    for pattern in PHONE_MODULES:
        for source in package.glob(pattern):
            compileall.compile_file(source, quiet=2)


def _closure(names: tuple[str, ...]) -> Iterator[importlib.metadata.Distribution]:
    """The installed distributions of ``names`` and of what they require, each once."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield distribution
        for requirement in distribution.requires or ():
            match = _REQUIREMENT_NAME.match(requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match.group())


def _top_level_entries(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """The files and folders in site-packages that make up a distribution."""
    files = distribution.files
    if files is None:
        # Debian's packages keep no list of files: ask where the module of that name is.
        spec = importlib.util.find_spec(distribution.metadata["Name"].replace("-", "_"))
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            yield origin.parent if spec.submodule_search_locations else origin
        return
    for top in sorted({file.parts[0] for file in files} - {"..", "__pycache__"}):
        path = Path(str(distribution.locate_file(top)))
        if path.exists():
            yield path.resolve()
