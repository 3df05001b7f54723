"""A phone, its mace_run and the folder to work in: found and checked before anything is done."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from droidmace.bundle.manifest import FileRecord
from droidmace.bundle.writer import name_part
from droidmace.config import Deployment, ModelConfig
from droidmace.devices import preflight
from droidmace.devices.adb import AdbDevice
from droidmace.devices.base import Device
from droidmace.devices.filesync import remote_hashes
from droidmace.devices.lock import DeviceLock
from droidmace.devices.probe import ProbeReport, probe
from droidmace.devices.select import find_device
from droidmace.errors import PreflightError
from droidmace.macerun.session import DEFAULT_ROOT
from droidmace.results import DeviceInfo
from droidmace.workflows.binaries import Binary, choose_binary
from droidmace.workflows.measure import Layout
from droidmace.workflows.phase import Phase


@dataclass(frozen=True, slots=True)
class PhoneRequest:
    """Which model is to run on which phone, and with which program."""

    serial: str
    deployment: Deployment
    model_name: str
    adb_port: int | None = None
    mace_run: Path | None = None
    mace_root: Path | None = None

    @property
    def model(self) -> ModelConfig:
        """The model to run."""
        return self.deployment.models[self.model_name]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the processes of one model run."""

    device: AdbDevice
    report: ProbeReport
    binary: Binary
    layout: Layout

    @property
    def summary(self) -> str:
        """The phone in a few words."""
        report = self.report
        return f"{report.model}, {report.soc}, {self.binary.abi}, {report.gpu}"

    @property
    def device_info(self) -> DeviceInfo:
        """The phone, with the abi that the program is of."""
        return replace(self.report.info(), abi=self.binary.abi)

    @property
    def file_name(self) -> str:
        """Of what is written on the host of this model and phone.

        The serial is part of it, so that two equal phones do not collide.
        """
        report = self.report
        parts = (self.layout.model_name, report.device_name, report.soc, report.serial)
        return ".".join(name_part(part) for part in parts)

    def binary_record(self) -> FileRecord:
        """Identify the program that runs, wherever it came from; once it is on the phone."""
        if self.binary.local is not None:
            return FileRecord.of(self.binary.local)
        path = self.layout.binary
        found = self.device.stat(path)
        sha256 = remote_hashes(self.device, [path]).get(path)
        if found is None or sha256 is None:
            raise PreflightError(
                f"its mace_run {path} cannot be read",
                serial=self.device.serial,
                hint="give another with --mace-run",
            )
        return FileRecord(posixpath.basename(path), sha256, found.size_bytes)


@contextlib.contextmanager
def taken(
    device: Device, begin: Callable[[str], Phase], warnings: list[str]
) -> Iterator[DeviceLock]:
    """The phone's lock, held; ``begin`` opens the phase in which it is taken.

    What the lock has to say is added to ``warnings``.
    """
    with contextlib.ExitStack() as stack:
        with begin("lock") as phase:
            lock = stack.enter_context(DeviceLock(device))
            phase.summary = "the phone is ours"
            if lock.note:
                warnings.append(lock.note)
        yield lock


def find_workplace(request: PhoneRequest, needed_bytes: int) -> Workplace:
    """Find the phone and all that can be refused before anything is done to it.

    ``needed_bytes`` on the phone, besides ``mace_run`` and its libraries.

    Raises ``PreflightError`` and other ``DeviceError`` s, and ``ConfigError`` if there is no
    ``mace_run`` for this phone.
    """
    deployment = request.deployment
    device = find_device(request.serial, request.adb_port)
    report = probe(device)
    binary = choose_binary(
        request.serial,
        report.abis,
        report.emulated_engine or None,
        deployment,
        mace_run=request.mace_run,
        mace_root=request.mace_root,
    )
    if binary.local is not None:
        needed_bytes += sum(file.stat().st_size for file in (binary.local, *binary.libraries))
    for one in preflight.failed(preflight.check(report, abi=binary.abi, needed_bytes=needed_bytes)):
        raise PreflightError(f"{one.name}: {one.text}", serial=report.serial, hint=one.fix)
    _check_targets(deployment, report, binary)
    layout = Layout(
        root=DEFAULT_ROOT,
        binary=binary.on_device or f"{DEFAULT_ROOT}/mace_run",
        model_name=request.model_name,
    )
    return Workplace(device, report, binary, layout)


def _check_targets(deployment: Deployment, report: ProbeReport, binary: Binary) -> None:
    targets = deployment.target_socs
    if "all" not in targets and report.soc not in targets:
        raise PreflightError(
            f"its soc {report.soc!r} is not among target_socs ({', '.join(targets)})",
            serial=report.serial,
            hint=f"add it to target_socs in {deployment.path.name}, or use another phone",
        )
    if "host" not in deployment.target_abis and binary.abi not in deployment.target_abis:
        raise PreflightError(
            f"its abi {binary.abi} is not among target_abis ({', '.join(deployment.target_abis)})",
            serial=report.serial,
            hint=f"add it to target_abis in {deployment.path.name}, or use another phone",
        )
