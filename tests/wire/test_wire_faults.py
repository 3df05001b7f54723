"""Faults as hosts see them, hostile hosts, and the control channel."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess

import pytest
from wire_harness import Host, running_daemon, wait_until


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def payload(tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(os.urandom(8_000_000))
    return path


def test_unplugged_in_the_middle_of_a_push(adb, own_phone, payload):
    own_phone.fault(kind="unplug", after_bytes=3_000_000, refuse=True)
    result = adb.run("push", str(payload), f"{own_phone.root}/file")
    assert result.returncode != 0
    wait_until(lambda: names(own_phone.root) == [], "nothing left of the push")
    assert own_phone.ask(op="stats")["connected"] == 0
    own_phone.clear_faults()
    adb.run("disconnect", own_phone.serial)
    adb.connected.discard(own_phone.serial)
    adb.connect(own_phone.serial)
    assert adb.run("push", str(payload), f"{own_phone.root}/file").returncode == 0
    assert (own_phone.root / "file").read_bytes() == payload.read_bytes()


def test_unplugged_in_the_middle_of_a_pull(adb, own_phone, payload, tmp_path):
    (own_phone.root / "file").write_bytes(payload.read_bytes())
    own_phone.fault(kind="unplug", after_bytes=3_000_000)
    result = adb.run("pull", f"{own_phone.root}/file", str(tmp_path / "out"))
    assert result.returncode != 0


def test_the_server_finds_the_phone_again(adb, own_phone):
    own_phone.fault(kind="unplug", now=True)
    wait_until(lambda: adb.run("shell", "echo back").stdout == b"back\n", "the phone is back")
    assert own_phone.ask(op="stats")["connections"] >= 2


def test_unplugged_when_a_command_starts(adb, own_phone):
    own_phone.fault(kind="unplug", on_command="mace_run", refuse_s=0.5)
    assert adb.run("shell", "echo other").stdout == b"other\n"
    # It ends long before the command would; its exit code is 0 with older adb programs.
    assert adb.run("shell", "exec sleep 60 # mace_run").stdout == b""
    wait_until(lambda: adb.run("shell", "echo in").stdout == b"in\n", "the phone is back")
    assert own_phone.ask(op="stats")["commands"] >= 3


def test_unauthorized(adb, own_phone):
    own_phone.fault(kind="unauthorized")
    wait_until(lambda: adb.state(own_phone.serial) == "unauthorized", "unauthorized")
    refused = adb.run("shell", "echo in")
    assert refused.returncode != 0
    assert b"unauthorized" in refused.stderr
    own_phone.clear_faults()
    wait_until(lambda: adb.run("shell", "echo in").stdout == b"in\n", "let in")


def test_offline(adb, own_phone):
    own_phone.fault(kind="offline")
    wait_until(lambda: adb.state(own_phone.serial) == "offline", "offline")
    assert adb.run("shell", "echo in").returncode != 0
    own_phone.clear_faults()
    wait_until(lambda: adb.run("shell", "echo in").stdout == b"in\n", "online again")


def test_frozen_and_thawed(adb, own_phone):
    own_phone.fault(kind="freeze")
    with adb.start("shell", "echo thawed") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.7)
        assert adb.state(own_phone.serial) == "device", "nothing notices"
        own_phone.clear_faults()
        assert process.communicate(timeout=30)[0] == b"thawed\n"


def test_a_slow_link_loses_nothing(adb, own_phone, tmp_path):
    own_phone.fault(kind="link", bytes_per_s=1_500_000)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(600_000))
    assert adb.run("push", str(source), f"{own_phone.root}/file").returncode == 0
    assert adb.run("pull", f"{own_phone.root}/file", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_link_that_hardly_moves_is_freed_when_faults_are_cleared(adb, own_phone, payload):
    own_phone.fault(kind="link", bytes_per_s=200)
    with adb.start("push", str(payload), f"{own_phone.root}/file") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        own_phone.clear_faults()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert (own_phone.root / "file").read_bytes() == payload.read_bytes()


def test_a_phone_without_a_port(adb, tmp_path):
    path = tmp_path / "adb"
    if len(str(path)) > 90:
        pytest.skip("the folder's name is too long for a socket")
    with running_daemon(tmp_path / "own", listen_at=path):
        serial = f"localfilesystem:{path}"
        adb.connect(serial)
        assert adb.run("-s", serial, "shell", "exit 3").returncode == 3
        adb.run("disconnect", serial)
        adb.connected.discard(serial)


def test_reboot_ends_the_daemon_with_a_code_of_its_own(adb, own_phone):
    adb.run("reboot")
    assert own_phone.process.wait(timeout=30) == 75


def test_stats_count_what_moved(adb, own_phone, payload, tmp_path):
    adb.run("push", str(payload), f"{own_phone.root}/a/model")
    adb.run("push", str(payload), f"{own_phone.root}/b/other")
    adb.run("pull", f"{own_phone.root}/a/model", str(tmp_path / "out"))
    adb.run("shell", "cat", input=b"12345")
    stats = own_phone.ask(op="stats", prefixes=[f"{own_phone.root}/a/"])
    assert stats["ok"] is True
    assert (stats["pushed_bytes"], stats["pulled_bytes"]) == (16_000_000, 8_000_000)
    assert (stats["pushed_files"], stats["pulled_files"]) == (2, 1)
    assert stats["prefixes"] == {
        f"{own_phone.root}/a/": {"pushed_bytes": 8_000_000, "pulled_bytes": 8_000_000}
    }
    assert (stats["stdin_bytes"], stats["stdout_bytes"]) == (5, 5)
    assert stats["commands"] >= 1


def test_control_answers_every_line(lonely_daemon):
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30)
        channel.connect(str(lonely_daemon.control_path))
        with channel.makefile("rwb") as lines:
            for request, answer in (
                (b'{"op": "ping"}', b'"ok": true'),
                (b"nonsense", b"JSON object"),
                (b"[1]", b"unknown op"),
                (b'{"op": "dance"}', b"dance"),
                (b'{"op": "fault"}', b"JSON object"),
                (b'{"op": "fault", "fault": {"kind": "unplug"}}', b"exactly one"),
                (b'{"op": "stats", "prefixes": 3}', b"prefixes"),
                (b'{"op": "shutdown"}', b'"ok": true'),
            ):
                lines.write(request + b"\n")
                lines.flush()
                assert answer in lines.readline()
    assert lonely_daemon.process.wait(timeout=30) == 0


def test_an_endless_control_line_ends_only_its_connection(lonely_daemon):
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30)
        channel.connect(str(lonely_daemon.control_path))
        try:
            channel.sendall(bytes(1 << 20))
            assert channel.recv(1) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert lonely_daemon.ask(op="ping") == {"ok": True}


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: phone\r\n\r\n",
        bytes(100),
        struct.pack("<6I", 0x4E584E43, 0x01000001, 1 << 20, 0xFFFFFFFF, 0, 0x4E584E43 ^ 0xFFFFFFFF),
        struct.pack("<6I", 0x4E584E43, 0x01000001, 1 << 20, 7, 0, 0),
    ],
)
def test_garbage_closes_that_connection_only(new_host, shared_daemon, data):
    good = new_host()
    with socket.create_connection(("127.0.0.1", shared_daemon.port), timeout=30) as bad:
        bad.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert bad.recv(100) == b""
    assert good.converse("exec:echo fine") == b"fine\n"


def test_a_hostile_host_after_the_handshake(new_host):
    good, bad = new_host(), new_host()
    bad.open("exec:cat")
    bad.socket.sendall(struct.pack("<6I", 0x45545257, 1, 1, 2 << 20, 0, 0x45545257 ^ 0xFFFFFFFF))
    with pytest.raises(OSError):  # noqa: PT011 - reset or end, as the kernel likes
        bad.next_event()
    assert good.converse("exec:echo fine") == b"fine\n"


def test_nonsense_inside_a_sync_stream_ends_that_stream_only(new_host):
    host = new_host()
    answer = host.converse("sync:", b"EVIL" + bytes(4))
    assert answer[:4] == b"FAIL"
    assert b"unknown sync request" in answer
    assert host.converse("exec:echo fine") == b"fine\n"


def test_nonsense_inside_a_shell_stream_ends_that_stream_only(new_host):
    host = new_host()
    assert host.converse("shell,v2,raw:sleep 0.2", b"\x09\xff\xff\xff\xff") == b""
    assert host.converse("exec:echo fine") == b"fine\n"


@pytest.mark.parametrize(
    "service",
    ["", "tcp:80", "localabstract:x", "abb:package", "framebuffer:", "exec:", "dev:/dev/null"],
)
def test_unknown_services_are_refused(new_host, service):
    host = new_host()
    assert host.open(service) is None
    assert host.converse("exec:echo fine") == b"fine\n"


def test_more_streams_than_allowed(new_host):
    host = new_host()
    streams = [host.open("shell,v2,raw:cat") for _ in range(130)]
    assert None not in streams[:128]
    assert streams[128:] == [None, None]


def test_many_hosts_at_once(lonely_daemon):
    hosts = [Host(lonely_daemon.port) for _ in range(20)]
    for number, host in enumerate(hosts):
        assert host.converse(f"exec:echo {number}") == b"%d\n" % number
        host.close()
    wait_until(lambda: lonely_daemon.ask(op="stats")["connected"] == 0, "no host left")
