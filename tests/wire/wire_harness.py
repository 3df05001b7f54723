"""What the wire tests are made of: adb programs, the daemon as a process, a host of our own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import adbutils
import pytest

from droidmace.emulator.adbd.connection import Connection, Role
from droidmace.emulator.adbd.events import (
    Event,
    StreamAccepted,
    StreamAcknowledged,
    StreamClosed,
    StreamData,
)

ADB_PROGRAMS = {
    "system": shutil.which("adb"),
    "bundled": str(Path(adbutils.__file__).parent / "binaries" / "adb"),
}
"""Debian's adb and the one in adbutils' wheel: years apart, and they speak differently."""
DEADLINE_S = 30.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that no event announces."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end_s:
            pytest.fail(f"not within {DEADLINE_S:g} s: {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclasses.dataclass
class Adb:
    """An adb program with a server of its own."""

    program: str
    port: int
    environment: dict[str, str]
    connected: set[str] = dataclasses.field(default_factory=set)

    def run(self, *arguments: str, timeout: float = DEADLINE_S, **options):
        return subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            capture_output=True,
            timeout=timeout,
            check=False,
            **{"stdin": subprocess.DEVNULL, **options} if "input" not in options else options,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.program, *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def state(self, serial: str) -> str | None:
        for line in self.run("devices").stdout.decode().splitlines()[1:]:
            if line.startswith(f"{serial}\t"):
                return line.split("\t")[1]
        return None

    def connect(self, serial: str) -> None:
        if serial not in self.connected:
            answer = self.run("connect", serial).stdout
            assert b"connected to" in answer, answer
            self.connected.add(serial)
        wait_until(lambda: self.state(serial) == "device", f"{serial} as a device")


@dataclasses.dataclass
class Daemon:
    """The daemon, outside a sandbox, with a private folder."""

    process: subprocess.Popen[bytes]
    root: Path
    port: int
    control_path: Path
    log: Path

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, **request: object) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(DEADLINE_S)
            channel.connect(str(self.control_path))
            with channel.makefile("rwb") as lines:
                lines.write(json.dumps(request).encode() + b"\n")
                lines.flush()
                return json.loads(lines.readline())

    def fault(self, **fault: object) -> None:
        assert self.ask(op="fault", fault=fault) == {"ok": True}

    def clear_faults(self) -> None:
        assert self.ask(op="clear_faults") == {"ok": True}


def _listening(path: Path | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


@contextlib.contextmanager
def running_daemon(
    folder: Path, *, wrapper: tuple[str, ...] = (), listen_at: Path | None = None, **config
) -> Iterator[Daemon]:
    """Start a daemon in ``folder``; ``wrapper`` is put before its command line.

    It listens on a loopback port, or on the Unix socket ``listen_at``.
    """
    root = folder / "phone"
    root.mkdir(parents=True)
    settings = {
        "banner_properties": {
            "ro.product.name": "test",
            "ro.product.model": "Test_Phone",
            "ro.product.device": "test1",
        },
        "environment": {"PATH": "/usr/bin:/bin", "PHONE": "yes"},
        "home": str(root),
        "sweep": [str(root)],
    }
    config_path = folder / "phone.json"
    config_path.write_text(json.dumps({**settings, **config}))
    log = folder / "adbd.log"
    # A Unix socket's path has 107 bytes at most; a test's folder may be deeper.
    short = Path(tempfile.mkdtemp(prefix="adbd-"))
    try:
        with (
            _listening(listen_at) as listener,
            socket.socket(socket.AF_UNIX) as control,
            log.open("wb") as stderr,
        ):
            control.bind(str(short / "control"))
            control.listen()
            process = subprocess.Popen(
                [
                    *wrapper,
                    sys.executable,
                    "-m",
                    "droidmace.emulator.adbd",
                    f"--listen-fd={listener.fileno()}",
                    f"--control-fd={control.fileno()}",
                    f"--config={config_path}",
                    "--shell=/bin/sh",
                    "--verbose",
                ],
                pass_fds=(listener.fileno(), control.fileno()),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
            port = listener.getsockname()[1] if listen_at is None else 0
        daemon = Daemon(process, root, port, short / "control", log)
        try:
            yield daemon
        finally:
            if process.poll() is None:
                daemon.ask(op="shutdown")
            process.wait(timeout=DEADLINE_S)
        assert b"Traceback" not in log.read_bytes(), log.read_text()
    finally:
        shutil.rmtree(short)


class Host:
    """A host made of the protocol core and a blocking socket: says what no adb program says."""

    def __init__(self, port: int, *, max_payload_bytes: int = 1 << 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.core = Connection(Role.HOST, max_payload_bytes=max_payload_bytes)
        self.pending: list[Event] = []
        self.core.connect(b"host::")
        self.next_event()

    def next_event(self) -> Event:
        self.flush()
        while not self.pending:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            self.pending += self.core.receive_data(data)
        return self.pending.pop(0)

    def flush(self) -> None:
        for packet in self.core.data_to_send():
            self.socket.sendall(packet.header + bytes(packet.payload))

    def open(self, service: str) -> int | None:
        """Our number of the new stream; None when the daemon refuses."""
        stream_id = self.core.open(service)
        event = self.next_event()
        if event == StreamClosed(stream_id):
            return None
        assert event == StreamAccepted(stream_id)
        return stream_id

    def converse(self, service: str, *messages: bytes) -> bytes:
        """Open a stream, send, and return all that comes until the daemon closes it."""
        stream_id = self.open(service)
        assert stream_id is not None, f"{service} refused"
        waiting, answer = list(messages), bytearray()
        while True:
            if waiting and self.core.may_send(stream_id):
                self.core.send(stream_id, waiting.pop(0))
            match self.next_event():
                case StreamData(data=data):
                    answer += data
                    self.core.acknowledge(stream_id)
                case StreamAcknowledged():
                    pass
                case StreamClosed():
                    return bytes(answer)

    def close(self) -> None:
        self.socket.close()


def sync_frame(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body
