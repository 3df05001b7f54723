"""The files around one process on the device: folders made, old outputs gone, sizes read back.

Everything is one shell round trip per step, in POSIX sh and toybox's applets.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping

from droidmace.devices.base import CommandResult, Device
from droidmace.errors import DeviceStorageError
from droidmace.macerun.invocation import Invocation

_TIMEOUT_S = 60.0
_COUNT_LINE = re.compile(r"\s*([0-9]{1,18}) (.+)\Z")


def prepare(device: Device, invocation: Invocation, expected: Mapping[str, int], root: str) -> None:
    """Make the folders that the process writes to, and remove what it is to write anew.

    ``mace_run`` aborts when a folder is missing, and an old output would pass for a new one.
    Raises ``DeviceStorageError``; ``ValueError`` for paths outside ``root``, or if emptying the
    output folder would take an input with it.
    """
    absolute = invocation.absolute
    written = [absolute(path) for path in (invocation.parameter_path,) if path]
    output_dir = absolute(invocation.output_dir) if invocation.batch else None
    folders = {posixpath.dirname(path) for path in (*written, *expected)}
    if invocation.storage_dir:
        folders.add(absolute(invocation.storage_dir))
    if invocation.opencl_cache_full_path:
        folders.add(posixpath.dirname(absolute(invocation.opencl_cache_full_path)))
    _refuse_outside(root, [*folders, *written, *expected])

    steps = []
    if output_dir is None:
        written += expected
    else:
        _refuse_loss(invocation, output_dir)
        steps.append(f"rm -rf {shlex.quote(output_dir)}")
    steps.append(f"mkdir -p {shlex.join(sorted(folders))}")
    if written:
        steps.append(f"rm -f {shlex.join(written)}")
    command = " && ".join(steps)
    result = device.run(command, timeout_s=_TIMEOUT_S)
    if result.exit_code != 0:
        raise _storage_error(device, command, result)


def output_sizes(
    device: Device, invocation: Invocation, expected: Mapping[str, int]
) -> dict[str, int]:
    """Sizes in bytes of the outputs that are there, by absolute path."""
    if not invocation.batch:
        return file_sizes(device, expected)
    folder = invocation.absolute(invocation.output_dir)
    # One process for thousands of files: wc reads names by the batch.
    command = f"cd {shlex.quote(folder)} && find . -type f -exec wc -c {{}} +"
    counts = _counts(device.run(command, timeout_s=_TIMEOUT_S))
    return {
        posixpath.join(folder, name.removeprefix("./")): size
        for name, size in counts.items()
        if name.startswith("./")
    }


def file_sizes(device: Device, paths: Iterable[str]) -> dict[str, int]:
    """Sizes in bytes of those of ``paths`` (absolute) that are there."""
    wanted = list(paths)
    # wc complains about missing files and goes on: what it does not list is not there.
    counts = _counts(device.run(f"wc -c {shlex.join(wanted)}", timeout_s=_TIMEOUT_S))
    return {path: counts[path] for path in wanted if path in counts}


def problems(expected: Mapping[str, int], sizes: Mapping[str, int]) -> list[str]:
    """What is wrong with the outputs, a sentence each."""
    found = []
    for path, size in expected.items():
        actual = sizes.get(path)
        if actual is None:
            found.append(f"{path} was not written")
        elif actual != size:
            found.append(f"{path} has {actual} bytes instead of {size}")
    return found


def _counts(result: CommandResult) -> dict[str, int]:
    matches = map(_COUNT_LINE.match, result.text.splitlines())
    return {match[2]: int(match[1]) for match in matches if match}


def _refuse_outside(root: str, paths: Iterable[str]) -> None:
    base = posixpath.normpath(root)
    for path in paths:
        if path != base and not path.startswith(f"{base}/"):
            raise ValueError(f"{path} lies outside {base}")


def _refuse_loss(invocation: Invocation, output_dir: str) -> None:
    reads = [
        invocation.model_file,
        invocation.model_data_file,
        invocation.input_dir,
        invocation.input_file,
        invocation.binary,
        invocation.storage_dir,
        invocation.parameter_path,
        invocation.opencl_parameter_file,
        invocation.opencl_binary_file,
        invocation.opencl_cache_full_path,
    ]
    for path in ["", *filter(None, reads)]:
        absolute = invocation.absolute(path)
        if absolute == output_dir or absolute.startswith(f"{output_dir}/"):
            raise ValueError(f"emptying {output_dir} would remove {absolute}")


def _storage_error(device: Device, command: str, result: CommandResult) -> DeviceStorageError:
    full = "No space left" in result.error_text + result.text
    return DeviceStorageError(
        "no space is left on the device" if full else "the device's run folder cannot be written",
        serial=device.serial,
        command=command,
        exit_code=result.exit_code,
        stdout=result.text,
        stderr=result.error_text,
        hint="free some space on the device"
        if full
        else "check who owns the run folder (an earlier run as root?) and remove it",
    )
