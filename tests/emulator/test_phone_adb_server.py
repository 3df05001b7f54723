"""The adb server for phones: only ours is stopped, and only a usable one is used."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from droidmace.emulator.adb_server import AdbServer, find_adb
from droidmace.errors import EmulatorError


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """Somebody on a port who answers each request like this, and then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if connection.recv(64):
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "no adb server"),
        (b"", "no adb server"),
        (b"OKAY00040020", "has version 32"),
    ],
)
def test_a_stranger_on_the_port_is_left_alone(tmp_path: Path, answer: bytes, words: str) -> None:
    with listening(answer) as port:
        with pytest.raises(EmulatorError, match=words) as caught:
            AdbServer(port, tmp_path).ensure_running()
        assert str(port) in str(caught.value.where)
        assert "--adb-port" in str(caught.value.hint)
        assert AdbServer(port, tmp_path).is_running()


def test_another_users_server_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    with listening(b"OKAY00040029") as port:
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        with pytest.raises(EmulatorError, match="another user's"):
            AdbServer(port, tmp_path).ensure_running()


def test_only_the_server_that_we_started_is_stopped(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = AdbServer(port, tmp_path)
    server.ensure_running()
    server.ensure_running()  # it is usable
    server.call("kill-server")
    # Somebody else starts theirs on the same port; our note of having started one is still there.
    subprocess.run([find_adb(), "start-server"], env=server.environment(), check=True)
    try:
        server.stop_if_ours()
        assert server.is_running()
    finally:
        server.call("kill-server")
    server.ensure_running()
    server.stop_if_ours()
    assert not server.is_running()
