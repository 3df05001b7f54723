"""What a tuning run leaves on the phone: pulled, verified, and put back to be proved."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from pathlib import Path

from droidmace.devices.base import Device
from droidmace.devices.filesync import remote_hashes
from droidmace.errors import DeviceError, FormatError, MaceRunOutputError
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.workflows.measure import Layout

MAX_ARTEFACT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Artefacts:
    """The two files, whole and parsed."""

    program_bytes: bytes
    parameters_bytes: bytes
    program: CompiledProgram
    parameters: TunedParameters

    def put_back(self, device: Device, layout: Layout) -> None:
        """Give the phone the pulled program again, in a folder of its own.

        What is proved is what will be shipped: the bytes that came through the cable.
        """
        device.push(self.program_bytes, layout.compiled_program("shipped"))
        device.push(self.parameters_bytes, layout.tuned_parameters)

    def check_unchanged(self, device: Device, layout: Layout) -> None:
        """See that what was measured is what will be shipped.

        A process that does not take every program from the file builds the rest, at the default
        log level without a word, and stores it. Raises ``MaceRunOutputError``.
        """
        paths = {
            layout.compiled_program("shipped"): self.program_bytes,
            layout.tuned_parameters: self.parameters_bytes,
        }
        found = remote_hashes(device, list(paths))
        for path, data in paths.items():
            if found.get(path) != hashlib.sha256(data).hexdigest():
                raise MaceRunOutputError(
                    f"{posixpath.basename(path)} changed while it was measured",
                    where=device.serial,
                    hint="something else uses the phone's run folder: stop it, run again",
                )


def pull_artefacts(device: Device, layout: Layout, folder: Path) -> Artefacts:
    """Fetch and verify both files.

    Raises ``MaceRunOutputError`` if one was not written or is empty, ``FormatError`` if one is
    damaged, and the device's own errors.
    """
    program_bytes = _pull(device, layout.compiled_program("tuned"), folder / "program")
    parameters_bytes = _pull(device, layout.tuned_parameters, folder / "parameters")
    try:
        program = CompiledProgram.parse(program_bytes)
    except FormatError as error:
        raise _damaged("compiled program", device, error) from error
    try:
        parameters = TunedParameters.parse(parameters_bytes)
    except FormatError as error:
        raise _damaged("tuned parameters", device, error) from error
    if not program.programs or not program.platform_info:
        raise MaceRunOutputError(
            "the compiled program holds no OpenCL program",
            where=device.serial,
            hint="does the model run on the GPU? 'droidmace inspect MODEL.pb' shows its runtime",
        )
    if not parameters.entries:
        raise MaceRunOutputError(
            "no kernel was tuned",
            where=device.serial,
            hint="does the model run on the GPU? 'droidmace inspect MODEL.pb' shows its runtime",
        )
    return Artefacts(program_bytes, parameters_bytes, program, parameters)


def _pull(device: Device, path: str, target: Path) -> bytes:
    found = device.stat(path)
    if found is None:
        raise MaceRunOutputError(
            f"the tuning run did not write {posixpath.basename(path)}",
            where=device.serial,
            hint="does the model run on the GPU? 'droidmace inspect MODEL.pb' shows its runtime",
        )
    if not 0 < found.size_bytes <= MAX_ARTEFACT_BYTES:
        raise MaceRunOutputError(
            f"{posixpath.basename(path)} has {found.size_bytes} bytes, "
            f"expected 1 to {MAX_ARTEFACT_BYTES}",
            where=device.serial,
        )
    device.pull(path, target, max_bytes=MAX_ARTEFACT_BYTES)
    data = target.read_bytes()
    if len(data) != found.size_bytes:
        raise DeviceError(
            f"{posixpath.basename(path)} arrived with {len(data)} of {found.size_bytes} bytes",
            serial=device.serial,
            hint="check the cable and run the command again",
        )
    return data


def _damaged(what: str, device: Device, error: FormatError) -> FormatError:
    return FormatError(
        f"the {what} that the phone wrote is damaged: {error.message}",
        where=device.serial,
        hint="run the command again; if it stays, the phone's storage is failing",
    )
