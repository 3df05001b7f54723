"""Bringing a set of files to a device, and only those that it does not have already.

What a file is, is its SHA-256: one command on the device tells it for all of them. A second run
with the same files sends nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import secrets
import shlex
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from droidmace.devices.base import Device, ProgressCallback
from droidmace.devices.remote_paths import checked_path, inside
from droidmace.errors import DeviceError, DeviceStorageError, InputError
from droidmace.files import sha256_of_file

_HASH_TIMEOUT_S = 120.0
_MAX_COMMAND_CHARACTERS = 24_000
"""Well below both adb's 64 KiB for a service and the kernel's 128 KiB for one argument."""
_ARCHIVE_FROM_FILES = 8
"""So many small files go as one archive: each file of its own costs several round trips."""
_ARCHIVE_FILE_BYTES = 1 << 20
_HASH_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What was sent and what was there already: names relative to the root."""

    pushed_files: tuple[str, ...]
    pushed_bytes: int
    kept_files: tuple[str, ...]
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file as it should be on the device."""

    name: str
    path: str
    source: Path | bytes
    size_bytes: int
    sha256: str
    mode: int


def sync_files(
    device: Device,
    files: Mapping[str, Path | bytes],
    root: str,
    *,
    executables: Collection[str] = (),
    progress: ProgressCallback | None = None,
) -> SyncReport:
    """Make the folder ``root`` on ``device`` hold ``files`` (name relative to it: content).

    Files there with the same content stay; other files in the folder are not touched. Those named
    in ``executables`` get mode 755, the rest 644. Every file sent is hashed again on the device.
    ``progress`` counts the bytes that have to be sent.

    Raises ``InputError`` (a file cannot be read, a name leaves the root), ``DeviceStorageError``
    (no space, or a file arrived damaged), and other ``DeviceError``s.
    """
    root = checked_path(root)
    wanted = [_wanted(name, source, root, executables) for name, source in files.items()]
    present = remote_hashes(device, [one.path for one in wanted])
    missing = [one for one in wanted if present.get(one.path) != one.sha256]
    kept = [one for one in wanted if present.get(one.path) == one.sha256]
    _send(device, missing, root, progress)
    _set_modes(device, wanted)
    arrived = remote_hashes(device, [one.path for one in missing])
    damaged = [one.name for one in missing if arrived.get(one.path) != one.sha256]
    if damaged:
        raise DeviceStorageError(
            f"arrived damaged: {', '.join(damaged[:5])}",
            serial=device.serial,
            hint="try another cable; if it stays, the phone's storage is failing",
        )
    return SyncReport(
        pushed_files=tuple(one.name for one in missing),
        pushed_bytes=sum(one.size_bytes for one in missing),
        kept_files=tuple(one.name for one in kept),
        kept_bytes=sum(one.size_bytes for one in kept),
    )


def remote_hashes(device: Device, paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file on the device that can be read; the others are left out."""
    hashes: dict[str, str] = {}
    expected = set(paths)
    for batch in _batches(paths):
        result = device.run(f"sha256sum -- {batch} 2>/dev/null", timeout_s=_HASH_TIMEOUT_S)
        # Its exit code is 1 as soon as one file is missing: the lines say the rest.
        for line in result.text.splitlines():
            match = _HASH_LINE.match(line.rstrip("\r"))
            if match is not None and match[2] in expected:
                hashes[match[2]] = match[1]
    return hashes


def _wanted(name: str, source: Path | bytes, root: str, executables: Collection[str]) -> _Wanted:
    path = inside(name if name.startswith("/") else f"{root}/{name}", root)
    try:
        if isinstance(source, bytes):
            size_bytes, sha256 = len(source), hashlib.sha256(source).hexdigest()
        else:
            size_bytes, sha256 = source.stat().st_size, sha256_of_file(source)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(source)) from error
    mode = 0o755 if name in executables else 0o644
    return _Wanted(name, path, source, size_bytes, sha256, mode)


def _send(
    device: Device, missing: Sequence[_Wanted], root: str, progress: ProgressCallback | None
) -> None:
    """Send files: many small ones in one archive, the rest one by one."""
    total = sum(one.size_bytes for one in missing)
    small = [one for one in missing if one.size_bytes <= _ARCHIVE_FILE_BYTES]
    if len(small) < _ARCHIVE_FROM_FILES:
        small = []
    done = 0

    def advance(sent: int, _size: int) -> None:
        if progress is not None:
            progress(min(done + sent, total), total)

    if small:
        _send_archive(device, small, root)
        done = sum(one.size_bytes for one in small)
        advance(0, 0)
    in_archive = {one.path for one in small}
    for one in missing:
        if one.path not in in_archive:
            device.push(one.source, one.path, mode=one.mode, progress=advance)
            done += one.size_bytes


def _send_archive(device: Device, files: Sequence[_Wanted], root: str) -> None:
    """Send files as one tar archive and unpack it on the device."""
    archive = f"{root}/.droidmace-{secrets.token_hex(4)}.tar"
    with tempfile.TemporaryDirectory(prefix="droidmace-") as folder:
        packed = Path(folder) / "files.tar"
        _pack(files, root, packed)
        device.push(packed, archive)
    quoted = shlex.quote(archive)
    command = f"cd {shlex.quote(root)} && tar -xf {quoted}; s=$?; rm -f {quoted}; exit $s"
    try:
        result = device.run(command, timeout_s=_HASH_TIMEOUT_S)
    except BaseException:
        with contextlib.suppress(DeviceError):
            device.run(f"rm -f {quoted}", timeout_s=5.0)
        raise
    if result.exit_code != 0:
        raise DeviceStorageError(
            f"unpacking {len(files)} files in {root} failed",
            serial=device.serial,
            command=command,
            exit_code=result.exit_code,
            stderr=result.error_text[-2048:],
            hint="check the free space on the phone",
        )


def _pack(files: Sequence[_Wanted], root: str, archive: Path) -> None:
    try:
        # USTAR is what toybox of every Android release reads.
        with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
            for one in files:
                data = one.source if isinstance(one.source, bytes) else one.source.read_bytes()
                member = tarfile.TarInfo(one.path[len(root) + 1 :])
                member.size, member.mode = len(data), one.mode
                tar.addfile(member, io.BytesIO(data))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be packed: {error}", where=root) from error


def _set_modes(device: Device, wanted: Sequence[_Wanted]) -> None:
    """Give every file its mode, those that stayed as well: someone may have changed it."""
    for mode in (0o644, 0o755):
        for batch in _batches([one.path for one in wanted if one.mode == mode]):
            result = device.run(f"chmod {mode:o} -- {batch}", timeout_s=_HASH_TIMEOUT_S)
            if result.exit_code != 0:
                raise DeviceStorageError(
                    "the modes of files cannot be set",
                    serial=device.serial,
                    exit_code=result.exit_code,
                    stderr=result.error_text[-2048:],
                )


def _batches(paths: Sequence[str]) -> Iterator[str]:
    """Quoted paths as parts of command lines of bounded length."""
    batch: list[str] = []
    length = 0
    for path in paths:
        quoted = shlex.quote(path)
        if batch and length + len(quoted) >= _MAX_COMMAND_CHARACTERS:
            yield " ".join(batch)
            batch, length = [], 0
        batch.append(quoted)
        length += len(quoted) + 1
    if batch:
        yield " ".join(batch)
