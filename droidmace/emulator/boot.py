"""One boot of a phone: the sandbox as a process, from its first program to the last one's end."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from droidmace.emulator import python_runtime, rom, sysfs
from droidmace.emulator.folder import PhoneFolder, PhoneRecord
from droidmace.emulator.opencl_drivers import NO_DRIVER, OpenClDriver, find_driver
from droidmace.emulator.profile import PhoneProfile, parse_profile
from droidmace.emulator.sandbox import sandbox_arguments

LISTEN_FD = 8
CONTROL_FD = 9
"""Descriptors of the phone's sockets; its init, a shell, can close single-digit ones only."""
REBOOT_EXIT_CODE = 75
"""Exit code of daemon and sandbox that asks for a reboot (EX_TEMPFAIL of sysexits.h)."""
BOOT_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 10.0

_SECTOR_BYTES = 512


def reserve_descriptors() -> None:
    """Keep everybody else off ``LISTEN_FD`` and ``CONTROL_FD``; call it before files are opened."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (LISTEN_FD, CONTROL_FD):
        os.dup2(null, descriptor, inheritable=False)
    if null not in (LISTEN_FD, CONTROL_FD):
        os.close(null)


@dataclass(frozen=True, slots=True)
class BootPlan:
    """Everything a boot needs; the same for every boot until the phone is switched off."""

    folder: PhoneFolder
    bwrap: Path
    profile: PhoneProfile
    driver: OpenClDriver | None
    arguments: tuple[str, ...]

    @classmethod
    def prepare(cls, folder: PhoneFolder, record: PhoneRecord) -> BootPlan:
        """Check the profile, find tools and driver, write the phone's system files.

        Raises ``ConfigError`` or ``EmulatorError``.
        """
        tools = rom.HostTools.find()
        profile = parse_profile(record.profile_name, record.profile, where=record.profile_name)
        driver = None if record.driver == NO_DRIVER else find_driver(record.driver)
        python_runtime.compile_modules()
        programs = rom.build_rom(folder, record, profile, driver, tools)
        folder.data.mkdir(exist_ok=True)
        folder.data.chmod(0o771)  # it is the phone's own to close
        arguments = sandbox_arguments(
            tools.bwrap,
            folder,
            driver,
            programs,
            knobs=sysfs.knobs(folder, profile),
            storage_bytes=profile.storage_bytes,
        )
        return cls(folder, tools.bwrap, profile, driver, tuple(arguments))


class Boot:
    """A running sandbox. ``end_fd`` is readable once bubblewrap has ended."""

    def __init__(self, plan: BootPlan, listener: socket.socket, control: socket.socket) -> None:
        self._plan = plan
        os.dup2(listener.fileno(), LISTEN_FD, inheritable=False)
        os.dup2(control.fileno(), CONTROL_FD, inheritable=False)
        with ExitStack() as stack:
            inherited = [LISTEN_FD, CONTROL_FD]
            environment = rom.command_environment(plan.driver)
            if plan.profile.storage_bytes is not None:
                archives = self._open_archives(stack, plan.profile.storage_bytes)
                environment |= archives.environment
                inherited += archives.descriptors
            arguments_fd = self._arguments_fd(stack, environment)
            info_read, info_write = os.pipe()
            stack.callback(os.close, info_read)
            self._process = subprocess.Popen(
                [
                    str(plan.bwrap), "--args", str(arguments_fd), "--info-fd", str(info_write),
                    "--", rom.INIT, "--listen-fd", str(LISTEN_FD),
                    "--control-fd", str(CONTROL_FD), "--config", rom.DAEMON_CONFIG,
                ],
                stdin=subprocess.DEVNULL,
                env={},  # the phone can read the environment of its process 1
                pass_fds=(*inherited, arguments_fd, info_write),
            )  # fmt: skip
            os.close(info_write)
            self.end_fd = os.pidfd_open(self._process.pid)
            self.first_pid = _first_pid(info_read)
            self._first_process_fd = _open_process(self.first_pid)

    def _open_archives(self, stack: ExitStack, storage_bytes: int) -> _Archives:
        """Descriptors through which the phone's init loads and saves a /data in RAM."""
        folder = self._plan.folder
        archives = _Archives({"INIT_SAVE_BLOCKS": str(2 * storage_bytes // _SECTOR_BYTES)}, [])
        if folder.data_archive.exists():
            restore = stack.enter_context(folder.data_archive.open("rb"))
            archives.add("INIT_RESTORE", restore.fileno())
        save = stack.enter_context(folder.new_data_archive.open("wb"))
        archives.add("INIT_SAVE", save.fileno())
        return archives

    def _arguments_fd(self, stack: ExitStack, environment: dict[str, str]) -> int:
        """A descriptor with bubblewrap's arguments: a command line could be read on the phone."""
        words = list(self._plan.arguments)
        for name, value in environment.items():
            words += ["--setenv", name, value]
        descriptor = os.memfd_create("arguments")
        stack.callback(os.close, descriptor)
        os.write(descriptor, b"".join(os.fsencode(word) + b"\0" for word in words))
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    @property
    def exit_code(self) -> int | None:
        """The sandbox's exit code, None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> bool:
        """Wait until every process of the phone is gone; False when time is up before that."""
        deadline = time.monotonic() + timeout_s
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if self._first_process_fd is None:
            return True
        # Bubblewrap may end a moment before the namespace's process 1, and all with it, has.
        left = max(0.0, deadline - time.monotonic())
        return bool(select.select([self._first_process_fd], [], [], left)[0])

    def kill(self) -> None:
        """End it at once: bubblewrap's death takes the sandbox along (``--die-with-parent``)."""
        self._process.kill()
        self.wait(KILL_TIMEOUT_S)

    def finish(self) -> int:
        """Clean up after the end; keep the saved /data of a clean one. Returns the exit code."""
        code = self._process.wait()
        os.close(self.end_fd)
        if self._first_process_fd is not None:
            os.close(self._first_process_fd)
        if self._plan.profile.storage_bytes is not None:
            new = self._plan.folder.new_data_archive
            if code in (0, REBOOT_EXIT_CODE):
                new.replace(self._plan.folder.data_archive)
            else:
                new.unlink(missing_ok=True)
        return code


@dataclass(frozen=True, slots=True)
class _Archives:
    """What init must know of the archives, and the descriptors it must inherit."""

    environment: dict[str, str]
    descriptors: list[int]

    def add(self, name: str, descriptor: int) -> None:
        self.environment[name] = f"/proc/self/fd/{descriptor}"
        self.descriptors.append(descriptor)


def _first_pid(info_fd: int) -> int:
    """The sandbox's process 1; 0 if bubblewrap failed before there was one."""
    with os.fdopen(os.dup(info_fd), encoding="utf-8") as stream:
        text = stream.read()
    return int(json.loads(text)["child-pid"]) if text.strip() else 0


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid) if pid else None
    except ProcessLookupError:
        return None
