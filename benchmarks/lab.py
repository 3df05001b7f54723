"""Emulated phones of a benchmark's own: no user's adb server and no other phone disturbs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from droidmace.emulator import manager
from droidmace.emulator.adb_server import find_adb


@contextlib.contextmanager
def private_phones() -> Iterator[None]:
    """A home, an adb server and a folder of phones of our own, in this process's environment."""
    for name in list(os.environ):
        if name.startswith(("ADB_", "ANDROID_", "DROIDMACE_")):
            del os.environ[name]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="droidmace-benchmark-"))
    for name in ("home", "phones"):
        (folder / name).mkdir()
    os.environ |= {
        "HOME": str(folder / "home"),
        "ANDROID_ADB_SERVER_PORT": str(port),
        "DROIDMACE_PHONE_ADB_PORT": str(port),
        "ADB_MDNS": "0",
        "ADB_EMU": "0",
        "ADB_USB": "0",
        manager.ROOT_VARIABLE: str(folder / "phones"),
    }
    try:
        yield
    finally:
        for phone in manager.list_phones():
            manager.stop_phone(phone.name)
        subprocess.run(
            [find_adb(), "kill-server"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        shutil.rmtree(folder)
