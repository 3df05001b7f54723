"""Which servers, which phones, and the one that was asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest
from bare_phone import BUNDLED_ADB, PrivateAdb, free_port, wait_until
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.adb_server import (
    AdbServer,
    find_adb_program,
    find_servers,
    parse_device_line,
)
from droidmace.devices.select import explain_state, find_device, list_devices
from droidmace.errors import (
    AdbUnavailableError,
    DeviceNotFoundError,
    DeviceUnusableError,
    InputError,
)


class TestServers:
    def test_a_given_port_is_the_only_one(self):
        environment = {"ANDROID_ADB_SERVER_PORT": "1234"}
        assert [server.port for server in find_servers(4321, environment)] == [4321]
        assert [server.port for server in find_servers(None, environment)] == [1234]

    def test_the_phones_server_is_asked_only_if_it_is_there(self, adb):
        environment = {"DROIDMACE_PHONE_ADB_PORT": str(free_port())}
        assert [server.port for server in find_servers(None, environment)] == [5037]
        environment = {"DROIDMACE_PHONE_ADB_PORT": str(adb.port)}
        own, phones = find_servers(None, environment)
        assert (own.port, own.startable) == (5037, True)
        assert (phones.port, phones.startable) == (adb.port, False)

    @pytest.mark.parametrize("text", ["0", "65536", "x", "-1", "1e3", "٣", "123456789", " 5"])
    def test_a_port_that_is_none(self, text):
        with pytest.raises(InputError, match="not a TCP port"):
            find_servers(None, {"ANDROID_ADB_SERVER_PORT": text})

    def test_the_users_adb_comes_first(self, tmp_path):
        own = tmp_path / "adb"
        own.write_text("#!/bin/sh\n")
        own.chmod(0o755)
        assert find_adb_program({"ADB": str(own), "PATH": ""}) == own
        assert find_adb_program({"PATH": str(tmp_path)}) == own
        assert find_adb_program({"PATH": ""}) == BUNDLED_ADB

    def test_no_adb(self, monkeypatch, tmp_path):
        with pytest.raises(AdbUnavailableError, match="names '/nowhere/adb'"):
            find_adb_program({"ADB": "/nowhere/adb"})
        monkeypatch.setattr("adbutils.__file__", str(tmp_path / "__init__.py"))
        with pytest.raises(AdbUnavailableError, match="no adb program") as caught:
            find_adb_program({"PATH": ""})
        assert "platform-tools" in (caught.value.hint or "")

    @pytest.mark.parametrize("program", [BUNDLED_ADB, Path(shutil.which("adb") or "/missing")])
    def test_starts_a_server_with_its_port(self, adb_environment, monkeypatch, tmp_path, program):
        if not program.exists():
            pytest.fail("Debian's adb is not installed: make test installs it")
        private = PrivateAdb(program, tmp_path)
        # The argument decides, whatever the environment says.
        assert not private.server.is_listening()
        try:
            assert private.server.ensure_running() >= 39
            assert private.server.devices() == []
        finally:
            private("kill-server")
        wait_until(lambda: not private.server.is_listening(), "the server ends")

    def test_somebody_elses_server_is_never_started(self):
        server = AdbServer(free_port(), BUNDLED_ADB, startable=False)
        with pytest.raises(AdbUnavailableError, match="nothing listens"):
            server.ensure_running()
        assert not server.is_listening()

    def test_a_server_that_does_not_come_up(self, tmp_path):
        broken = tmp_path / "adb"
        broken.write_text("#!/bin/sh\necho cannot bind >&2\nexit 1\n")
        broken.chmod(0o755)
        with pytest.raises(AdbUnavailableError, match="did not bring it up") as caught:
            AdbServer(free_port(), broken).ensure_running()
        assert caught.value.details == "cannot bind"

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"OKAYzzzz"])
    def test_what_listens_is_not_adb(self, answer):
        with _listener(answer) as port, pytest.raises(AdbUnavailableError, match="not an adb"):
            AdbServer(port).ensure_running()


class TestListing:
    @pytest.mark.parametrize(
        ("line", "serial", "state", "model"),
        [
            ("abc  device usb:1-4 product:p model:MI_9 device:d transport_id:3", "abc", "device",
             "MI_9"),
            ("127.0.0.1:6000   offline transport_id:1", "127.0.0.1:6000", "offline", None),
            ("0123  no permissions (user in plugdev group; are your udev rules wrong?); see "
             "[http://developer.android.com/tools/device.html] usb:1-2 transport_id:2", "0123",
             "no permissions (user in plugdev group; are your udev rules wrong?); see "
             "[http://developer.android.com/tools/device.html]", None),
            ("(no serial)  unauthorized", "(no", "serial) unauthorized", None),
        ],
    )  # fmt: skip
    def test_lines(self, line, serial, state, model):
        found = parse_device_line(line)
        assert found is not None
        assert (found.serial, found.state, found.fields.get("model")) == (serial, state, model)

    @given(st.text(max_size=100))
    def test_any_line_is_read(self, line):
        found = parse_device_line(line)
        assert found is None or (found.serial and found.state)

    @pytest.mark.parametrize(
        "state", ["offline", "unauthorized", "recovery", "no permissions; see [x]", "novel"]
    )
    def test_every_state_has_a_reason_and_a_fix(self, state):
        reason, fix = explain_state(state)
        assert reason
        assert fix

    def test_a_usable_phone_is_probed(self, adb, bare_phone):
        bare_phone.tool("getprop", "echo '[ro.product.model]: [MI 9]'; echo '[ro.hardware]: [qc]'")
        (info,) = [i for i in list_devices(adb.port) if i.serial == bare_phone.serial]
        assert info.usable
        assert (info.state, info.model, info.device_name, info.soc) == (
            "device",
            "MI 9",
            "MI9",
            "qc",
        )

    def test_unusable_phones_carry_the_reason(self, adb, make_bare_phone):
        good = make_bare_phone("good")
        refusing = make_bare_phone("refusing", connect=False)
        refusing.fault(kind="unauthorized")
        adb("connect", refusing.serial)
        wait_until(lambda: refusing.state == "unauthorized", "it is unauthorized")
        gone = make_bare_phone("gone")
        gone.kill()
        wait_until(lambda: gone.state == "offline", "it is offline")
        frozen = make_bare_phone("frozen")
        with frozen.frozen():
            infos = {i.serial: i for i in list_devices(adb.port, probe_timeout_s=1)}
        assert infos[good.serial].usable
        assert "authorise" in (infos[refusing.serial].reason or "")
        assert infos[refusing.serial].state == "unauthorized"
        assert "does not answer adb" in (infos[gone.serial].reason or "")
        assert "does not answer" in (infos[frozen.serial].reason or "")
        assert not infos[frozen.serial].usable

        with pytest.raises(DeviceUnusableError, match="unauthorized") as caught:
            find_device(refusing.serial, adb.port)
        assert "unlock the phone" in (caught.value.hint or "")
        with pytest.raises(DeviceUnusableError, match="offline"):
            find_device(gone.serial, adb.port)
        with pytest.raises(DeviceNotFoundError) as not_found:
            find_device("nobody", adb.port)
        hint = not_found.value.hint or ""
        assert good.serial in hint
        assert f"{refusing.serial} (unauthorized)" in hint


class TestFinding:
    @pytest.fixture
    def own_adb(self, tmp_path):
        """A server that knows no other test's phones."""
        private = PrivateAdb(BUNDLED_ADB, tmp_path)
        private.start()
        yield private
        private("kill-server")

    def test_without_a_serial_the_only_one(self, own_adb, make_bare_phone):
        with pytest.raises(DeviceNotFoundError, match="no usable phone") as none:
            find_device(None, own_adb.port)
        assert "droidmace phone start" in (none.value.hint or "")
        phone = make_bare_phone(connect=False)
        own_adb("connect", phone.serial)
        assert find_device(None, own_adb.port).serial == phone.serial
        second = make_bare_phone("second", connect=False)
        own_adb("connect", second.serial)
        with pytest.raises(InputError, match="2 phones") as several:
            find_device(None, own_adb.port)
        assert second.serial in (several.value.hint or "")
        found = {info.serial for info in list_devices(own_adb.port) if info.state == "device"}
        assert found == {phone.serial, second.serial}
        assert find_device(second.serial, own_adb.port).run("echo hi").text == "hi\n"


def test_an_old_adb_server_does_as_well(make_bare_phone, tmp_path):
    program = shutil.which("adb")
    if program is None:
        pytest.fail("Debian's adb is not installed: make test installs it")
    old = PrivateAdb(Path(program), tmp_path)
    old.start()
    try:
        phone = make_bare_phone(connect=False)
        old("connect", phone.serial)
        wait_until(lambda: old.server.state_of(phone.serial) == "device", "it connects")
        device = find_device(phone.serial, old.port)
        assert device.run("exit 3").exit_code == 3
        blob = os.urandom(1_000_000)
        device.push(blob, f"{phone.folder}/blob")
        device.pull(f"{phone.folder}/blob", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == blob
        found = device.stat(f"{phone.folder}/blob")
        assert found is not None
        assert found.size_bytes == 1_000_000
    finally:
        old("kill-server")


@contextlib.contextmanager
def _listener(answer: bytes):
    """A server on a port that answers every connection with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    wire, _ = server.accept()
                except OSError:
                    return
                with wire, contextlib.suppress(OSError):
                    wire.settimeout(5)
                    wire.recv(100)
                    wire.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
