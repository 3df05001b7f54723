"""The process behind a running phone: ``python -m droidmace.emulator.supervisor FOLDER READY_FD``.

It outlives the command that started it. It holds the phone's lock and its sockets, runs the
sandbox, starts it again when the phone asks for a reboot, and cleans up at the end. SIGTERM
switches the phone off, SIGUSR1 reboots it. When it is killed itself, the sandbox dies with it and
``run.json`` stays behind: that is a crash.

On READY_FD it writes one JSON line once the phone has booted, or what went wrong.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

from droidmace.emulator.boot import (
    BOOT_TIMEOUT_S,
    CONTROL_FD,
    REBOOT_EXIT_CODE,
    STOP_TIMEOUT_S,
    Boot,
    BootPlan,
    reserve_descriptors,
)
from droidmace.emulator.control import request
from droidmace.emulator.folder import PhoneFolder, RunRecord, exclusive_lock
from droidmace.errors import DroidmaceError, EmulatorError

_PING_TIMEOUT_S = 0.5
_FOLDER_POLL_S = 2.0
_LOCK_TIMEOUT_S = 1.0  # whoever asks whether the phone runs holds the lock for a moment
_NAMESPACES_HINT = (
    "bubblewrap must be allowed to make user namespaces: sysctl "
    "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0; "
    "in a container: --security-opt seccomp=unconfined, or --privileged"
)
# Every adb server looks for emulators on these ports when it starts, and would grab the phone.
_PORTS_OF_EMULATORS = range(5555, 5587)


class Supervisor:
    """Runs one phone from switching on to switching off."""

    def __init__(self, plan: BootPlan, listener: socket.socket, control: socket.socket) -> None:
        self._plan = plan
        self._listener = listener
        self._control = control
        self._stop_wanted = False
        self._reboot_wanted = False
        self._run = RunRecord(pid=os.getpid(), port=listener.getsockname()[1])
        # A signal that arrives while nobody looks is kept as a byte in this pipe.
        self._wake_read, wake_write = os.pipe()
        for end in (self._wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self._stop_wanted = True
        else:
            self._reboot_wanted = True

    def run(self, ready_fd: int) -> None:
        """Boot until the phone is switched off. Raises ``EmulatorError`` after a crash."""
        self._plan.folder.write_run(self._run)
        while True:
            self._reboot_wanted = False
            boot = Boot(self._plan, self._listener, self._control)
            try:
                self._wait_until_booted(boot)
                self._run = replace(
                    self._run, boots=self._run.boots + 1, sandbox_pid=boot.first_pid
                )
                self._plan.folder.write_run(self._run)
                if self._run.boots == 1 and not tell(ready_fd, {"port": self._run.port}):
                    self._stop_wanted = True  # whoever wanted it was killed: nobody knows of it
                self._wait_for_end(boot)
            finally:
                if boot.exit_code is None:
                    boot.kill()
                code = boot.finish()
            if self._stop_wanted:
                if code != 0 and self._plan.profile.storage_bytes is not None:
                    self._plan.folder.write_run(replace(self._run, exit_code=code))
                    raise EmulatorError(f"/data was not saved, exit code {code}")
                break
            if code != REBOOT_EXIT_CODE and not self._reboot_wanted:
                if code == 0:
                    break
                self._plan.folder.write_run(replace(self._run, exit_code=code))
                raise EmulatorError(f"the phone went down with exit code {code}")
        if self._owns_folder():
            self._plan.folder.run_file.unlink()

    def _wait_until_booted(self, boot: Boot) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while boot.exit_code is None and not self._stop_wanted:
            try:
                request(self._plan.folder, {"op": "ping"}, timeout_s=_PING_TIMEOUT_S)
            except EmulatorError as exc:
                if time.monotonic() > deadline:
                    raise EmulatorError(
                        f"the phone's daemon did not answer in {BOOT_TIMEOUT_S:g} s"
                    ) from exc
            else:
                return
        if not self._stop_wanted:
            raise EmulatorError(
                f"the phone went down while booting, exit code {boot.exit_code}",
                hint=None if boot.first_pid else _NAMESPACES_HINT,
            )

    def _wait_for_end(self, boot: Boot) -> None:
        """Wait until the phone goes down by itself, or switch it off when told to."""
        while not (self._stop_wanted or self._reboot_wanted):
            ready, _, _ = select.select([boot.end_fd, self._wake_read], [], [], _FOLDER_POLL_S)
            if not ready:
                if self._owns_folder():
                    continue
                self._stop_wanted = True
                boot.kill()  # nothing is left to save, and no control socket to ask through
                return
            if boot.end_fd in ready:
                boot.wait(STOP_TIMEOUT_S)
                return
            os.read(self._wake_read, 64)
        try:
            request(self._plan.folder, {"op": "shutdown"}, timeout_s=STOP_TIMEOUT_S / 3)
        except EmulatorError as exc:
            print(f"no clean shutdown: {exc}", file=sys.stderr)  # noqa: T201 - this is phone.log
        if not boot.wait(STOP_TIMEOUT_S):
            boot.kill()

    def _owns_folder(self) -> bool:
        """Whether the phone's folder is still there, and not that of a new phone."""
        try:
            run = self._plan.folder.read_run()
        except EmulatorError:
            return True  # unreadable, but there
        return run is not None and run.pid == self._run.pid


def listen_on_loopback(preferred_port: int) -> socket.socket:
    """A listening socket on 127.0.0.1, at the preferred port if it is free."""
    tries = (preferred_port, *(0 for _ in range(len(_PORTS_OF_EMULATORS) + 1)))
    with ExitStack() as rejected:
        for port in tries:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
                listener.listen(64)
            except OSError:
                listener.close()
                continue
            if listener.getsockname()[1] not in _PORTS_OF_EMULATORS:
                return listener
            rejected.enter_context(listener)  # held, so that the next try gets another port
    raise EmulatorError("no loopback port is free for the phone")


def supervise(folder: PhoneFolder, ready_fd: int) -> None:
    """Run the phone in ``folder`` until it is switched off."""
    record = folder.read_record()
    if record is None:
        raise EmulatorError("there is no phone here", where=str(folder.path))
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(folder.lock_file, timeout_s=_LOCK_TIMEOUT_S))
        except BlockingIOError as exc:
            raise EmulatorError("the phone is running already", where=folder.name) from exc
        folder.write_run(RunRecord(pid=os.getpid(), port=0))  # from here on it can be stopped
        plan = BootPlan.prepare(folder, record)
        listener = stack.enter_context(listen_on_loopback(record.port))
        control = stack.enter_context(folder.open_control(listen=True))
        Supervisor(plan, listener, control).run(ready_fd)


def tell(ready_fd: int, message: dict[str, object]) -> bool:
    """Write the one line that whoever started us waits for; False if they have gone."""
    try:
        os.write(ready_fd, json.dumps(message).encode() + b"\n")
        os.close(ready_fd)
    except OSError as exc:
        print(f"nobody waited for us: {exc}", file=sys.stderr)  # noqa: T201 - this is phone.log
        return False
    return True


def main(arguments: list[str]) -> int:
    """Entry point."""
    folder, ready_fd = PhoneFolder(Path(arguments[0])), int(arguments[1])
    if os.fork() > 0:
        os._exit(0)  # whoever started us need not wait for us
    os.setsid()
    os.umask(0o022)
    inherited_fd, ready_fd = ready_fd, fcntl.fcntl(ready_fd, fcntl.F_DUPFD_CLOEXEC, CONTROL_FD + 1)
    os.close(inherited_fd)
    reserve_descriptors()
    # A program that crashes on the phone must not leave a core file on the host.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        supervise(folder, ready_fd)
    except DroidmaceError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201 - this is phone.log
        tell(
            ready_fd,
            {"error": type(exc).__name__, "message": exc.message, "where": exc.where,
             "hint": exc.hint},
        )  # fmt: skip
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
