"""Which ``mace_run`` runs on a phone, and the libraries that travel with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from droidmace.config import Deployment
from droidmace.errors import FormatError, InputError, PreflightError
from droidmace.formats.elf import HEAD_BYTES, SCRIPT, executable_abi

# Where MACE's own build scripts leave the program, below the source or build folder:
# tools/cmake/cmake-build-<abi>.sh, tools/python/run_model.py (--build_dir), and Bazel.
_BUILD_PLACES = (
    "build/cmake-build/{abi}/install/bin/mace_run",
    "build/{abi}/install/bin/mace_run",
    "{abi}/install/bin/mace_run",
    "install/bin/mace_run",
    "build/{abi}/mace_run",
    "{abi}/mace_run",
    "bin/mace_run",
    "mace_run",
    "bazel-bin/mace/tools/mace_run_static",
    "bazel-bin/mace/tools/mace_run_dynamic",
)
_MAX_LIBRARIES = 64


@dataclass(frozen=True, slots=True)
class Binary:
    """A ``mace_run`` for one phone: a host file to push, or one that the phone brings along.

    ``abi`` belongs to the identity of what it compiles: a 32-bit process and a 64-bit one use
    different drivers.
    """

    abi: str
    local: Path | None = None
    on_device: str | None = None
    libraries: tuple[Path, ...] = ()


def choose_binary(
    serial: str,
    abis: Sequence[str],
    phones_own: str | None,
    deployment: Deployment,
    *,
    mace_run: Path | None = None,
    mace_root: Path | None = None,
) -> Binary:
    """Find the program for a phone of these abis (best first).

    In this order: ``mace_run`` (a file the user named), ``mace_root`` (a MACE source or build
    folder), the deployment file, and ``phones_own`` (a path on the phone itself, as an emulated
    phone announces it). Raises ``InputError`` if there is none or it is not a program, and
    ``PreflightError`` if it is one for another abi.
    """
    if mace_run is not None:
        return _local(serial, mace_run, abis)
    if mace_root is not None:
        return _from_build(serial, mace_root, abis)
    for abi in abis:
        if abi in deployment.mace_run:
            return _local(serial, deployment.mace_run[abi], abis)
    if phones_own:
        return Binary(abi=abis[0] if abis else "", on_device=phones_own)
    raise InputError(
        f"no mace_run for a phone of abi {', '.join(abis) or 'unknown'}",
        where=serial,
        hint="name one with --mace-run FILE, a MACE build folder with --mace-root DIR, or in "
        f"{deployment.path.name} under 'droidmace: mace_run: {{{abis[0] if abis else 'ABI'}: …}}'",
    )


def _from_build(serial: str, root: Path, abis: Sequence[str]) -> Binary:
    if not root.is_dir():
        raise InputError("no such folder", where=str(root), hint="check --mace-root")
    seen: list[str] = []
    for abi in abis:
        for place in _places(root, abi):
            if not place.is_file():
                continue
            found = _abi_of(place)
            if found in {abi, SCRIPT}:
                return _local(serial, place, abis)
            seen.append(f"{place.relative_to(root)} ({found})")
    hint = "build it with MACE's tools/cmake/cmake-build-<abi>.sh"
    if seen:
        hint += "; found for other abis: " + ", ".join(seen)
    raise InputError(
        f"no mace_run for abi {', '.join(abis)} in this folder", where=str(root), hint=hint
    )


def _places(root: Path, abi: str) -> Iterator[Path]:
    for place in _BUILD_PLACES:
        yield root / place.format(abi=abi)


def _local(serial: str, path: Path, abis: Sequence[str]) -> Binary:
    abi = _abi_of(path)
    if abi == SCRIPT:
        abi = abis[0] if abis else ""
    elif abi not in abis:
        raise PreflightError(
            f"{path.name} is a program for {abi}, but the phone runs {', '.join(abis)}",
            serial=serial,
            hint="name a mace_run built for the phone's abi",
        )
    libraries = sorted(path.parent.glob("*.so"))
    if path.parent.name == "bin":
        # CMake installs the libraries into a sibling of the program's folder.
        libraries += sorted((path.parent.parent / "lib").glob("libc++_shared.so"))
    if len(libraries) > _MAX_LIBRARIES:
        raise InputError(
            f"{len(libraries)} shared libraries lie beside it; at most {_MAX_LIBRARIES} travel",
            where=str(path),
            hint="put mace_run and what it needs into a folder of their own",
        )
    return Binary(abi=abi, local=path, libraries=tuple(libraries))


def _abi_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return executable_abi(stream.read(HEAD_BYTES))
    except OSError as exc:
        raise InputError(f"cannot be read: {exc.strerror}", where=str(path)) from exc
    except FormatError as exc:
        raise FormatError(
            exc.message, where=str(path), hint="name a mace_run built for the phone"
        ) from exc
