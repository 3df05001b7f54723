"""Programs: three routes to a built one, and keeping what was compiled.

The order is MACE's (``OpenclExecutor::BuildProgram``): the cache, the precompiled file, the source.
Which stored binaries count is decided by :mod:`droidmace.formats.acceptance`. pyopencl's own
compiler cache is never used, so that a cold start is cold.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyopencl as cl
from pyopencl import _cl

from droidmace.engine.attributes import OUT_OF_RESOURCES
from droidmace.engine.macelog import MaceLog
from droidmace.engine.opencl.device import Device, describe_error
from droidmace.engine.opencl.kernel import Kernel
from droidmace.engine.opencl.nvidia import Linker
from droidmace.engine.opencl.storage import FileStorage
from droidmace.errors import EngineError
from droidmace.formats.acceptance import (
    ReusePolicy,
    cache_outcome,
    precompiled_accepted,
    precompiled_is_consulted,
    source_hash_accepted,
)
from droidmace.formats.store_keys import (
    DEVICE_NAME_KEY,
    PLATFORM_INFO_KEY,
    PROGRAM_HASH_PREFIX,
)
from droidmace.resources import kernels_dir

_EXECUTOR = "runtimes/opencl/core/opencl_executor.cc"
_COMMON_OPTIONS = "-Werror -cl-mad-enable"
_CACHE_FILE = "mace_cl_compiled_program.bin"
_INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProgramPaths:
    """Where compiled programs are kept and taken from, as ``mace_run``'s flags say it.

    ``cache_path`` wins over ``storage_dir``; ``binary_path`` is the precompiled file.
    """

    storage_dir: str = ""
    cache_path: str = ""
    binary_path: str = ""
    reuse_policy: int = int(ReusePolicy.REUSE_SAME_GPU)


@functools.cache
def program_source(name: str) -> str:
    """The OpenCL C of program ``name``: the common header, then its own file.

    The files it includes, which include none, are put in: a binary's source hash covers them.
    Raises ``EngineError`` when a file is missing.
    """
    own = _read_source(f"{name}.cl")
    return _read_source("common.h") + _INCLUDE.sub(lambda line: _read_source(line[1]), own)


def _read_source(file: str) -> str:
    folder = kernels_dir()
    try:
        return (folder / file).read_text(encoding="utf-8")
    except OSError as exc:
        raise EngineError(f"the kernel source {file} is missing", where=str(folder)) from exc


def source_hash(name: str) -> str:
    """What tells whether a stored binary of program ``name`` was built from today's source."""
    return hashlib.sha256(program_source(name).encode()).hexdigest()


def program_key(name: str, options: Iterable[str]) -> str:
    """A program's key: its name and its sorted build options."""
    return " ".join((name, *sorted(set(options))))


class ProgramLibrary:
    """Built programs of one device, by key."""

    def __init__(self, device: Device, paths: ProgramPaths, log: MaceLog, *, tuning: bool) -> None:
        self._device = device
        self._log = log
        self._built: dict[str, _cl._Program] = {}
        self._to_store: set[str] = set()
        self._cache = _cache_storage(paths, log)
        self._precompiled: FileStorage | None = None
        self._precompiled_info: str | None = None
        cached_info = self._open_cache(paths, tuning=tuning)
        if precompiled_is_consulted(cached_info, device.identity):
            self._open_precompiled(paths, tuning=tuning)

    def kernel(self, program: str, name: str, options: Iterable[str]) -> Kernel:
        """Kernel ``name`` of ``program`` built with ``options``.

        Raises ``EngineError`` when the source does not build; the log has the compiler's output.
        """
        key = program_key(program, options)
        built = self._built.get(key)
        if built is None:
            built = self._built[key] = self._build(program, key)
        try:
            return Kernel(built, name)
        except cl.Error as exc:
            self._log.error(f"{_EXECUTOR}:870", f"error: {describe_error(exc)}")
            raise EngineError(OUT_OF_RESOURCES, details=str(exc)) from exc

    def save(self) -> None:
        """Put what was compiled from source into the cache file; aborts if it cannot be written."""
        if not self._to_store or self._cache is None:
            return
        identity = self._device.identity
        self._cache.insert(DEVICE_NAME_KEY, identity.device_name.encode())
        with Linker(self._device.device) as linker:
            for key in sorted(self._to_store):
                self._cache.insert(key, self._binary_to_store(key, linker))
                self._cache.insert(
                    PROGRAM_HASH_PREFIX + key, source_hash(key.partition(" ")[0]).encode()
                )
        self._cache.insert(PLATFORM_INFO_KEY, identity.platform_info.encode())
        if not self._cache.flush():
            self._log.fatal(
                f"{_EXECUTOR}:927",
                "Store OPENCL compiled kernel to file failed. Please make sure the storage"
                " directory exist and you have Write&Read permission",
            )
        self._to_store.clear()

    def _binary_to_store(self, key: str, linker: Linker) -> bytes:
        """The driver's binary, or the machine code that it stands for if the driver takes that."""
        device = self._device.device
        binary = _binary(self._built[key])
        code = linker.machine_code(binary)
        if code is None:
            return binary
        try:
            _cl._Program(self._device.context, [device], [code])._build(b"", [device])
        except cl.Error:
            return binary
        return code

    def _open_cache(self, paths: ProgramPaths, *, tuning: bool) -> str | None:
        """Load the cache, clear it if the rules say so; returns the platform info it had."""
        cache = self._cache
        if cache is None:
            return None
        if not cache.load() and not tuning:
            self._log.warning(
                f"{_EXECUTOR}:508",
                "Load OpenCL cached compiled kernel file failed. Please make sure the storage"
                " directory exist, the file is not modified illegally, and you have Write&Read"
                " permission",
            )
        info = cache.find_text(PLATFORM_INFO_KEY)
        try:
            policy = ReusePolicy(paths.reuse_policy)
        except ValueError:
            policy = ReusePolicy.REUSE_NONE  # MACE's switch clears for any other number
        outcome = cache_outcome(
            info, cache.find_text(DEVICE_NAME_KEY), self._device.identity, policy
        )
        if not outcome.accepted:
            cache.clear()
        return info

    def _open_precompiled(self, paths: ProgramPaths, *, tuning: bool) -> None:
        if not _is_regular_file(paths.binary_path):
            self._log.vlog(
                1,
                f"{_EXECUTOR}:557",
                "There is no precompiled OpenCL binary in all OpenCL binary paths.",
            )
            return
        storage = FileStorage(paths.binary_path, self._log)
        if not storage.load() and not tuning:
            self._log.warning(
                f"{_EXECUTOR}:561",
                "Load OpenCL precompiled kernel file failed. Please make sure the storage"
                " directory exist and you have Write&Read permission",
            )
        self._precompiled = storage
        self._precompiled_info = storage.find_text(PLATFORM_INFO_KEY)

    def _build(self, name: str, key: str) -> _cl._Program:
        options = f"{key.removeprefix(name)} {_COMMON_OPTIONS}".encode()
        program = self._from_cache(name, key, options)
        if program is None:
            program = self._from_precompiled(key, options)
        if program is None:
            program = self._from_source(name, key, options)
        return program

    def _from_cache(self, name: str, key: str, options: bytes) -> _cl._Program | None:
        if self._cache is None:
            return None
        stored = self._cache.find_text(PROGRAM_HASH_PREFIX + key)
        if not source_hash_accepted(stored, source_hash(name)):
            return None
        return self._from_binary(self._cache.find(key), key, options, "Cache", 728)

    def _from_precompiled(self, key: str, options: bytes) -> _cl._Program | None:
        if self._precompiled is None:
            return None
        if not precompiled_accepted(self._precompiled_info, self._device.identity):
            self._log.vlog(
                3,
                f"{_EXECUTOR}:745",
                f"precompiled OpenCL binary version {self._precompiled_info or ''} is not same with"
                " current version",
            )
            return None
        return self._from_binary(
            self._precompiled.find(key), key, options, "precompiled binary", 764
        )

    def _from_binary(
        self, binary: bytes | None, key: str, options: bytes, route: str, line: int
    ) -> _cl._Program | None:
        if not binary:
            return None
        device = self._device.device
        try:
            program = _cl._Program(self._device.context, [device], [binary])
            program._build(options, [device])
        except cl.Error as exc:
            self._log.warning(
                f"{_EXECUTOR}:{line}",
                f"Build program {key} from {route} failed:{exc.code} ({describe_error(exc)})",
            )
            return None
        self._log.vlog(3, f"{_EXECUTOR}:{line + 5}", f"Program from {route}: {key}")
        return program

    def _from_source(self, name: str, key: str, options: bytes) -> _cl._Program:
        device = self._device.device
        program = _cl._Program(self._device.context, program_source(name))
        try:
            program._build(options, [device])
        except cl.Error as exc:
            compiler = str(program.get_build_info(device, cl.program_build_info.LOG))
            self._log.error(f"{_EXECUTOR}:823", f"Program build log: {compiler}")
            self._log.error(
                f"{_EXECUTOR}:825",
                f"Build program {name} from source failed: {exc.code} ({describe_error(exc)})",
            )
            raise EngineError(
                OUT_OF_RESOURCES, where=f"{name}.cl", details=compiler or str(exc)
            ) from exc
        self._log.vlog(3, f"{_EXECUTOR}:830", f"Program from source: {key}")
        self._to_store.add(key)
        return program


def _binary(program: _cl._Program) -> bytes:
    """The driver's binary of a built program (CL_PROGRAM_BINARIES)."""
    binaries: Any = program.get_info(cl.program_info.BINARIES)
    return bytes(binaries[0])


def _cache_storage(paths: ProgramPaths, log: MaceLog) -> FileStorage | None:
    if paths.cache_path:
        return FileStorage(paths.cache_path, log)
    if paths.storage_dir:
        return FileStorage(f"{paths.storage_dir}/{_CACHE_FILE}", log)
    return None


def _is_regular_file(path: str) -> bool:
    if not path:
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False
