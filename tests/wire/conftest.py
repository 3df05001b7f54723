"""Real adb programs on private servers, and the phone's ADB daemon as a process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from wire_harness import ADB_PROGRAMS, Adb, Daemon, Host, free_port, running_daemon


@pytest.fixture(scope="session", params=sorted(ADB_PROGRAMS))
def adb(request, tmp_path_factory) -> Iterator[Adb]:
    program = ADB_PROGRAMS[request.param]
    assert program is not None, "the tests need the package adb (the wheel's is another version)"
    home = tmp_path_factory.mktemp("adb-home")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "ANDROID_ADB_SERVER_PORT": str(port),
        "ADB_MDNS": "0",
        "ADB_EMU": "0",
        "ADB_USB": "0",
    }
    found = Adb(program, port, environment)
    assert found.run("start-server").returncode == 0
    yield found
    found.run("kill-server")


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory) -> Iterator[Daemon]:
    """One daemon for all tests that do not harm it."""
    with running_daemon(tmp_path_factory.mktemp("shared")) as daemon:
        yield daemon


@pytest.fixture
def phone(adb, shared_daemon, tmp_path, monkeypatch) -> Iterator[Daemon]:
    """The shared daemon, connected, with a fresh folder; ``adb`` talks to it by default."""
    adb.connect(shared_daemon.serial)
    monkeypatch.setitem(adb.environment, "ANDROID_SERIAL", shared_daemon.serial)
    folder = shared_daemon.root / tmp_path.name
    folder.mkdir()
    yield dataclasses.replace(shared_daemon, root=folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lonely_daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon for one test, which no adb server knows yet."""
    with running_daemon(tmp_path / "own") as daemon:
        yield daemon


@pytest.fixture
def own_phone(adb, lonely_daemon, monkeypatch) -> Iterator[Daemon]:
    """A daemon for one test that may do anything to it; connected."""
    adb.connect(lonely_daemon.serial)
    monkeypatch.setitem(adb.environment, "ANDROID_SERIAL", lonely_daemon.serial)
    yield lonely_daemon
    adb.run("disconnect", lonely_daemon.serial)
    adb.connected.discard(lonely_daemon.serial)


@pytest.fixture
def new_host(shared_daemon) -> Iterator[Callable[..., Host]]:
    with contextlib.ExitStack() as hosts:

        def connect(**options) -> Host:
            host = Host(shared_daemon.port, **options)
            hosts.callback(host.close)
            return host

        yield connect
