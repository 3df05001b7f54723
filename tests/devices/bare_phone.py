"""A real adb server on a private port, and bare ADB daemons whose phone is a folder of ours.

The daemon serves this machine's files here, all read-only but pytest's temporary folder: what these
tests look at is the wire. Whole phones are met in tests/wire.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import adbutils

from droidmace.devices.adb import AdbDevice
from droidmace.devices.adb_server import AdbServer

BUNDLED_ADB = Path(adbutils.__file__).parent / "binaries" / "adb"


def wait_until(holds, what, *, limit_s=20.0):
    """Poll a condition of another process; fails with ``what`` was awaited."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


def is_running(pid: int | str) -> bool:
    """Whether the process is there and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def link_toybox(folder: Path) -> None:
    """Android's tools come from toybox: a link for each that Debian's has."""
    toybox = shutil.which("toybox")
    assert toybox is not None, "toybox is not installed: apt install toybox mksh"
    names = subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        (folder / name).symlink_to(toybox)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PrivateAdb:
    """An adb program and its server on a port of its own."""

    def __init__(self, program: Path, home: Path) -> None:
        self.program = program
        self.port = free_port()
        self.server = AdbServer(self.port, program)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ADB_MDNS": "0",
            "ADB_EMU": "0",
            "ADB_USB": "0",
        }

    def start(self) -> None:
        assert self("start-server").returncode == 0

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *arguments],
            env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


class BarePhone:
    """A daemon process that serves this machine's files; connected to an adb server."""

    def __init__(self, adb: PrivateAdb, folder: Path, writable: Path) -> None:
        self.folder = folder
        self.small_disk = folder / "small-disk"
        """A file system of one megabyte, as the phone sees it."""
        self._adb = adb
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.serial = f"127.0.0.1:{self.port}"
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control_home = tempfile.mkdtemp(prefix="dm-")
        self._control_path = f"{self._control_home}/control"
        control.bind(self._control_path)
        control.listen()
        tools = folder / "tools"
        tools.mkdir()
        link_toybox(tools)
        config = folder / "phone.json"
        config.write_text(
            json.dumps(
                {
                    "banner_properties": {"ro.product.model": "Bare"},
                    "environment": {"PATH": f"{tools}:{os.environ['PATH']}"},
                    "home": str(folder),
                    "sweep": [],
                }
            )
        )
        argv = [sys.executable, "-m", "droidmace.emulator.adbd", "--config", str(config)]
        argv += ["--listen-fd", str(listener.fileno()), "--control-fd", str(control.fileno())]
        argv += ["--shell", shutil.which("mksh") or "/bin/sh"]
        info, info_write = os.pipe()
        # Whatever a test tells the phone to write, it cannot harm the machine.
        jail = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        jail += ["--bind", str(writable), str(writable)]
        jail += ["--size", str(1 << 20), "--tmpfs", str(self.small_disk)]
        jail += ["--die-with-parent", "--info-fd", str(info_write), "--"]
        with (folder / "adbd.log").open("wb") as log:
            self.process = subprocess.Popen(
                jail + argv,
                pass_fds=(listener.fileno(), control.fileno(), info_write),
                stderr=log,
            )
        os.close(info_write)
        with os.fdopen(info) as told:
            self.pid = json.load(told)["child-pid"]
        listener.close()
        control.close()

    def connect(self) -> None:
        self._adb("connect", self.serial)
        wait_until(lambda: self.state == "device", f"{self.serial} connects")

    @property
    def state(self) -> str | None:
        return self._adb.server.state_of(self.serial)

    @property
    def device(self) -> AdbDevice:
        return AdbDevice(self._adb.server, self.serial, stall_s=1.5, root=str(self.folder))

    def tool(self, name: str, script: str) -> None:
        path = self.folder / "tools" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def control(self, **request) -> dict:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.connect(self._control_path)
            wire.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(wire.makefile().readline())

    def fault(self, **fault) -> None:
        answer = self.control(op="fault", fault=fault)
        assert answer["ok"], answer

    @contextlib.contextmanager
    def frozen(self):
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self._adb("disconnect", self.serial)
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self._control_home)
