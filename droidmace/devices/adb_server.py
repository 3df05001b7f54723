"""The adb server: which one, how it is started, and how a request reaches it.

Requests and replies are those of adb's host protocol (AOSP ``packages/modules/adb/OVERVIEW.TXT``
and ``SERVICES.TXT``): four hexadecimal digits of length and the text; ``OKAY`` or ``FAIL``.
The connection is adbutils'; everything that waits here has a deadline.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import adbutils
from adbutils import AdbConnection
from adbutils.errors import AdbError, AdbTimeout

from droidmace.errors import (
    AdbUnavailableError,
    DeviceError,
    DeviceLostError,
    DeviceTimeoutError,
    DeviceUnusableError,
    InputError,
)

HOST = "127.0.0.1"
DEFAULT_PORT = 5037
"""Where every adb client looks for its server."""
DEFAULT_PHONE_PORT = 15037
"""Where the emulated phones' private server listens unless told otherwise."""
PORT_VARIABLE = "ANDROID_ADB_SERVER_PORT"
PHONE_PORT_VARIABLE = "DROIDMACE_PHONE_ADB_PORT"
PROGRAM_VARIABLE = "ADB"

_CONNECT_TIMEOUT_S = 1.0
_REPLY_TIMEOUT_S = 10.0
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """One line of ``adb devices -l``: the serial, adb's word for its state, and the rest."""

    serial: str
    state: str
    fields: Mapping[str, str] = field(default_factory=dict)


def find_adb_program(environment: Mapping[str, str] | None = None) -> Path:
    """Find the adb program: ``$ADB``, then ``PATH``, then the one in adbutils' wheel.

    The user's own comes first because a client of another version would restart their server.
    Raises ``AdbUnavailableError`` with the fix.
    """
    environment = os.environ if environment is None else environment
    named = environment.get(PROGRAM_VARIABLE)
    if named:
        found = shutil.which(named, path=environment.get("PATH", ""))
        if found is None:
            raise AdbUnavailableError(
                f"{PROGRAM_VARIABLE} names {named!r}, which is not an executable program",
                hint=f"unset {PROGRAM_VARIABLE}, or set it to the path of adb",
            )
        return Path(found)
    found = shutil.which("adb", path=environment.get("PATH", ""))
    if found is not None:
        return Path(found)
    bundled = (
        Path(adbutils.__file__).parent / "binaries" / ("adb.exe" if os.name == "nt" else "adb")
    )
    if bundled.is_file():
        return bundled
    raise AdbUnavailableError(
        "no adb program was found",
        hint="install Android's platform-tools (Debian: apt install adb; macOS: brew install "
        f"android-platform-tools) or set {PROGRAM_VARIABLE} to the path of adb",
    )


def find_servers(
    adb_port: int | None = None, environment: Mapping[str, str] | None = None
) -> tuple[AdbServer, ...]:
    """Say which adb servers to ask.

    ``adb_port`` given: only that one. Else ``$ANDROID_ADB_SERVER_PORT``: only that one. Else adb's
    own port, and the emulated phones' private server if something listens there.
    Raises ``InputError`` for a port that is none.
    """
    environment = os.environ if environment is None else environment
    if adb_port is not None:
        return (AdbServer(_checked_port(str(adb_port), "--adb-port")),)
    named = environment.get(PORT_VARIABLE)
    if named:
        return (AdbServer(_checked_port(named, PORT_VARIABLE)),)
    own = AdbServer(DEFAULT_PORT)
    phones = AdbServer(
        _checked_port(
            environment.get(PHONE_PORT_VARIABLE) or str(DEFAULT_PHONE_PORT), PHONE_PORT_VARIABLE
        ),
        startable=False,
    )
    if phones.port != own.port and phones.is_listening():
        return (own, phones)
    return (own,)


def _checked_port(text: str, where: str) -> int:
    """Parse a TCP port; raises ``InputError``."""
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536 and len(text) < 6:
        return int(text)
    raise InputError(
        f"{text!r} is not a TCP port", where=where, hint="give a number between 1 and 65535"
    )


class AdbServer:
    """An adb server on this machine's port ``port``.

    ``adb_path`` is the program that starts it (None: :func:`find_adb_program`); one that is not
    ``startable`` belongs to somebody else and is only ever spoken to.
    """

    def __init__(
        self, port: int = DEFAULT_PORT, adb_path: Path | None = None, *, startable: bool = True
    ) -> None:
        self.port = port
        self.startable = startable
        self._adb_path = adb_path

    def __repr__(self) -> str:
        return f"AdbServer(port={self.port})"

    @property
    def name(self) -> str:
        """How errors call it."""
        return f"adb server on port {self.port}"

    def is_listening(self) -> bool:
        """Whether something accepts connections on the port; starts nothing."""
        try:
            with socket.create_connection((HOST, self.port), timeout=_CONNECT_TIMEOUT_S):
                return True
        except OSError:
            return False

    def ensure_running(self) -> int:
        """Start the server if it is not running, and return its version (41 means 1.0.41).

        Raises ``AdbUnavailableError``.
        """
        if not self.is_listening():
            if not self.startable:
                raise AdbUnavailableError(
                    "nothing listens there", where=self.name, hint="start it: droidmace phone start"
                )
            self._start()
        try:
            return int(self.request("host:version"), 16)
        except (DeviceError, ValueError) as error:
            raise AdbUnavailableError(
                "what listens there is not an adb server, or it does not answer",
                where=self.name,
                hint="run `adb kill-server`, end the program that holds the port, "
                "or choose another with --adb-port",
                details=str(error),
            ) from error

    def _start(self) -> None:
        """Run ``adb start-server`` with the port in its environment, as adb itself would."""
        program = self._adb_path or find_adb_program()
        environment = {**os.environ, PORT_VARIABLE: str(self.port)}
        # A file, not a pipe: the daemon that adb leaves behind may keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            try:
                finished = subprocess.run(
                    [str(program), "start-server"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=_START_TIMEOUT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise AdbUnavailableError(
                    f"{program} could not start it: {error}",
                    where=self.name,
                    hint=f"check that `{program} version` works, or set {PROGRAM_VARIABLE}",
                ) from error
            output.seek(0)
            said = output.read(8192).decode("utf-8", "replace").strip()
        if finished.returncode != 0 or not self.is_listening():
            raise AdbUnavailableError(
                f"`{program} start-server` did not bring it up (exit code {finished.returncode})",
                where=self.name,
                hint="run it by hand to see more, end the program that holds the port, "
                "or choose another port with --adb-port",
                details=said or None,
            )

    def request(self, service: str, *, timeout_s: float = _REPLY_TIMEOUT_S) -> str:
        """Send a ``host:`` request and return its text.

        Raises ``AdbUnavailableError`` (nobody there), ``DeviceTimeoutError``, or ``DeviceError``
        with the server's own words when it refuses.
        """
        connection = self._connect(timeout_s)
        with connection.conn:
            try:
                connection.send_command(service)
                connection.check_okay()
                reply: str = connection.read_string_block()
            except (AdbError, OSError, ValueError, EOFError) as error:
                raise self._translated(error, service) from error
        return reply

    def devices(self) -> list[ListedDevice]:
        """List the devices the server knows, whatever their state, in its order."""
        listed = []
        for line in self.request("host:devices-l").splitlines():
            device = parse_device_line(line)
            if device is not None:
                listed.append(device)
        return listed

    def state_of(self, serial: str) -> str | None:
        """adb's word for the state of a device, or None when it does not list it."""
        return next((found.state for found in self.devices() if found.serial == serial), None)

    def features_of(self, serial: str, *, timeout_s: float = _REPLY_TIMEOUT_S) -> frozenset[str]:
        """The features that server and device agree on (``shell_v2``, ``stat_v2``, …)."""
        text = self.request(f"host-serial:{serial}:features", timeout_s=timeout_s)
        return frozenset(part for part in text.split(",") if part)

    def open_service(
        self, serial: str, service: str, *, timeout_s: float = _REPLY_TIMEOUT_S
    ) -> socket.socket:
        """Open a service (``shell…``, ``sync:``) on a device; return the connected socket.

        The socket's timeout is what is left of ``timeout_s``' order: callers set their own.
        Raises ``DeviceLostError`` (gone or offline), ``DeviceUnusableError`` (not authorised),
        ``DeviceTimeoutError`` (frozen), ``DeviceError`` (the service was refused).
        """
        if len(service.encode()) > 0xFFFF:
            raise DeviceError("the command line is too long for adb (65,535 bytes)", serial=serial)
        connection = self._connect(timeout_s)
        wire: socket.socket = connection.conn
        try:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.send_command(f"host:transport:{serial}")
            connection.check_okay()
            # adbutils' send_command may send a part only; a command line can be long.
            payload = service.encode()
            wire.sendall(b"%04x" % len(payload) + payload)
            connection.check_okay()
        except BaseException as error:
            wire.close()
            if isinstance(error, (AdbError, OSError, ValueError, EOFError)):
                raise self.service_error(error, serial, service) from error
            raise
        return wire

    def lost(self, serial: str, doing: str) -> DeviceError:
        """The error for a connection to ``serial`` that ended while ``doing`` something."""
        try:
            state = self.state_of(serial)
        except DeviceError:
            return DeviceLostError(
                f"the adb server went away while {doing}",
                serial=serial,
                hint="something ran `adb kill-server` or another version of adb restarted it; "
                "run the command again",
            )
        if state is None:
            now = "adb does not list it any more"
        elif state == "device":
            now = "adb has not noticed yet, or it is back already"
        else:
            now = f"adb lists it as {state!r}"
        return DeviceLostError(
            f"the device went away while {doing}; {now}",
            serial=serial,
            hint="check the cable and the phone, then run the command again",
        )

    def _connect(self, timeout_s: float) -> AdbConnection:
        """A connection to the server; every receive on it ends after ``timeout_s``."""
        # adbutils would start a server of its own choice when nobody listens.
        if not self.is_listening():
            raise AdbUnavailableError(
                "nothing listens there", where=self.name, hint="run `adb start-server`"
            )
        try:
            return adbutils.AdbClient(HOST, self.port).make_connection(timeout=timeout_s)
        except (AdbError, OSError, subprocess.SubprocessError) as error:
            raise AdbUnavailableError(
                f"it does not accept a connection: {error}",
                where=self.name,
                hint="run `adb kill-server` and try again",
            ) from error

    def _translated(self, error: Exception, service: str) -> DeviceError:
        if isinstance(error, (AdbTimeout, TimeoutError)):
            return DeviceTimeoutError(
                f"no answer to {service!r}", where=self.name, hint="run `adb kill-server`"
            )
        return DeviceError(str(error) or "connection closed", where=self.name, command=service)

    def service_error(self, error: Exception, serial: str, service: str) -> DeviceError:
        """The ``DeviceError`` for a request about ``serial`` that failed with ``error``."""
        what = service if len(service) < 80 else f"{service[:77]}…"
        text = str(error).strip()
        if isinstance(error, (AdbTimeout, TimeoutError)):
            return DeviceTimeoutError(
                "the device does not answer",
                serial=serial,
                command=what,
                hint="wake it up, replug it or restart it",
            )
        if "unauthorized" in text or "authorizing" in text:
            return DeviceUnusableError(
                "the phone has not authorised this computer",
                serial=serial,
                hint="unlock the phone and accept its question about USB debugging",
            )
        if "not found" in text or "offline" in text:
            return self.lost(serial, "opening a connection")
        if text == "closed" and self._says_device(serial):
            return DeviceError(
                "the device refused the request", serial=serial, command=what, stderr=text
            )
        return self.lost(serial, "opening a connection")

    def _says_device(self, serial: str) -> bool:
        try:
            return self.state_of(serial) == "device"
        except DeviceError:
            return False


def parse_device_line(line: str) -> ListedDevice | None:
    """Parse a line of ``host:devices-l``; None if it is not one.

    The state may hold blanks (``no permissions (user in plugdev group; …)``); the fields after it
    are ``key:value`` words of a known few keys.
    """
    serial, _, rest = line.strip().partition(" ")
    words = rest.split()
    if not serial or not words:
        return None
    fields: dict[str, str] = {}
    while len(words) > 1:
        key, colon, value = words[-1].partition(":")
        if not colon or key not in _LISTING_KEYS:
            break
        fields[key] = value
        words.pop()
    # ``usb:1-4`` is called devpath in adb's sources and stands first, without a key of its own.
    return ListedDevice(serial, " ".join(words), fields)


_LISTING_KEYS = frozenset({"product", "model", "device", "transport_id", "features", "usb"})
