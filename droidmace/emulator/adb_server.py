"""The adb server for emulated phones: a private one, so that the user's own is not touched."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from droidmace.errors import AdbUnavailableError, EmulatorError

DEFAULT_PORT = 15037
USERS_PORT = 5037
"""Where the user's own adb server listens; it is used when asked for, and never stopped."""
PORT_VARIABLE = "DROIDMACE_PHONE_ADB_PORT"

_CALL_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 5.0
_LISTENING = "0A"  # TCP_LISTEN as /proc/net/tcp has it


def default_port() -> int:
    """The adb server port for emulated phones: from the environment, or 15037."""
    text = os.environ.get(PORT_VARIABLE, "")
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise EmulatorError(f"not a port: {text!r}", where=f"${PORT_VARIABLE}")
    return int(text)


def find_adb() -> str:
    """The adb program that the host side uses too. Raises ``AdbUnavailableError``."""
    import adbutils

    try:
        return str(adbutils.adb_path())
    except RuntimeError as exc:
        raise AdbUnavailableError(
            "no adb program was found", hint="apt-get install adb, or Android's platform-tools"
        ) from exc


@dataclass(frozen=True, slots=True)
class _Listener:
    """A listening socket of this machine: its owner, and its number in the kernel."""

    uid: int
    inode: int


def _listener(port: int) -> _Listener | None:
    """Who listens on a loopback port (proc(5), ``/proc/net/tcp``)."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text("ascii").splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for words in (line.split() for line in lines):
            if words[3] == _LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                return _Listener(int(words[7]), int(words[9]))
    return None


@dataclass(frozen=True, slots=True)
class AdbServer:
    """An adb server by its port; ``home`` holds its keys, log, and a note that we started it."""

    port: int
    home: Path

    def environment(self) -> dict[str, str]:
        """Environment for adb programs that talk to this server, and only to this one."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ADB_", "ANDROID_"))
        }
        return inherited | {
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ADB_MDNS": "0",
            "ADB_EMU": "0",
            "ADB_USB": "0",
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
        }

    def call(self, *arguments: str, timeout_s: float = _CALL_TIMEOUT_S) -> str:
        """Run adb and return what it said, on either stream.

        Raises ``EmulatorError`` when it does not end in time, ``AdbUnavailableError`` without adb.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            answer = subprocess.run(
                [find_adb(), *arguments],
                env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as exc:
            raise EmulatorError(
                f"adb {' '.join(arguments)} did not end in {timeout_s:g} s",
                where=f"adb server on port {self.port}",
            ) from exc
        return answer.stdout.decode("utf-8", "replace").strip()

    def is_running(self) -> bool:
        """Whether something listens on the port."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False

    def ensure_running(self) -> None:
        """Start the server unless it runs. Raises ``EmulatorError`` with adb's words."""
        if self.is_running():
            self._require_usable()
            return
        said = self.call("start-server")
        if not self.is_running():
            raise EmulatorError(f"no adb server could be started on port {self.port}", details=said)
        self._note.write_text(self._identity(), "utf-8")

    def _require_usable(self) -> None:
        """Refuse what listens already, unless it is a server that our adb leaves as it is."""
        where, hint = f"port {self.port}", f"choose another with --adb-port or ${PORT_VARIABLE}"
        listener = _listener(self.port)
        if listener is not None and listener.uid != os.getuid():
            raise EmulatorError("the adb server is another user's", where=where, hint=hint)
        version = self._version()
        if version is None:
            raise EmulatorError("what listens here is no adb server", where=where, hint=hint)
        said = self.call("version")
        own = re.search(r"version 1\.0\.([0-9]+)", said)
        if own is not None and int(own[1]) != version:
            # Any adb command of ours would kill it, and with it what others do there.
            raise EmulatorError(
                f"the adb server has version {version}, {find_adb()} has {own[1]}",
                where=where,
                hint=hint,
            )

    def _version(self) -> int | None:
        """The server's internal version; None if it does not answer as an adb server does."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), _ANSWER_TIMEOUT_S) as server:
                server.settimeout(_ANSWER_TIMEOUT_S)
                server.sendall(b"000chost:version")
                with server.makefile("rb") as stream:
                    answer = re.fullmatch(rb"OKAY0004([0-9a-f]{4})", stream.read(12))
        except OSError:
            return None
        return int(answer[1], 16) if answer else None

    def _identity(self) -> str:
        """Which server this is: another one on the same port has another socket."""
        listener = _listener(self.port)
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot_id} {listener.inode if listener else 0}"

    def stop_if_ours(self) -> None:
        """Stop the server if we started it; the user's own port is never touched."""
        if self.port != USERS_PORT and self._note.exists():
            if self.is_running() and self._note.read_text("utf-8") == self._identity():
                self.call("kill-server")
            self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.home / f"started-on-{self.port}"

    def states(self) -> dict[str, str]:
        """Serial to adb's word for its state; empty when the server does not run."""
        if not self.is_running():
            return {}
        pairs = (line.split("\t") for line in self.call("devices").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def connect(self, serial: str, *, timeout_s: float) -> None:
        """Connect a phone and wait until it is usable. Raises ``EmulatorError`` if it is not."""
        deadline = time.monotonic() + timeout_s
        if self.states().get(serial) == "offline":
            # A server that lost the phone retries at its own pace, which can take 10 s.
            self.disconnect(serial)
        # adb says "connected to" or "already connected to"; a failure has exit code 0, too.
        said = self.call("connect", serial, timeout_s=timeout_s)
        if "connected to" not in said:
            raise EmulatorError("adb could not connect to the phone", where=serial, details=said)
        self.wait_for_device(serial, timeout_s=max(1.0, deadline - time.monotonic()))

    def wait_for_device(self, serial: str, *, timeout_s: float) -> None:
        """Wait until adb lists the phone as ``device``."""
        try:
            self.call("-s", serial, "wait-for-device", timeout_s=timeout_s)
        except EmulatorError as exc:
            state = self.states().get(serial, "not listed")
            raise EmulatorError(f"adb lists the phone as {state!r}", where=serial) from exc

    def disconnect(self, serial: str) -> None:
        """Forget a phone, so that it is not listed as offline."""
        if serial and self.is_running():  # without a serial adb would disconnect everything
            self.call("disconnect", serial)
