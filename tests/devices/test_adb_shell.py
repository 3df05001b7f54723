"""The shell-v2 decoder and the wrapper line, without a phone."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.adb_shell import PacketDecoder, PacketKind, encode_packet, wrap_command

packets = st.lists(st.tuples(st.sampled_from(PacketKind), st.binary(max_size=300)), max_size=8)


@given(packets, st.lists(st.integers(1, 40), max_size=200))
def test_packets_survive_any_cutting(sent, cuts):
    wire = b"".join(encode_packet(kind, data) for kind, data in sent)
    decoder = PacketDecoder()
    received = []
    for size in cuts:
        received += decoder.feed(wire[:size])
        wire = wire[size:]
    received += decoder.feed(wire)
    assert received == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_a_clear_refusal(data):
    decoder = PacketDecoder()
    try:
        found = decoder.feed(data)
    except ValueError as error:
        assert "shell packet of" in str(error)
    else:
        assert sum(5 + len(content) for _, content in found) <= len(data)


def test_a_packet_as_the_daemon_sends_it():
    assert PacketDecoder().feed(b"\x03\x01\x00\x00\x00\x2a") == [(3, b"\x2a")]


@pytest.mark.parametrize("shell", ["mksh", "dash", "bash"])
@pytest.mark.parametrize("mode", ["watched", "stdin", "pty"])
@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("echo hi; exit 7", 7, b"hi\n"),
        ("echo 'it''s'", 0, b"its\n"),
        ("printf '%s' \"$((1 + 1))\" # comment", 0, b"2"),
        ("sh -c 'kill -SEGV $$'", 139, b""),
        ("cd / && pwd", 0, b"/\n"),
    ],
)
def test_the_wrapper_is_transparent(shell, mode, command, code, output):
    program = shutil.which(shell)
    if program is None:
        pytest.fail(f"{shell} is not installed: make test installs it")
    with subprocess.Popen(
        [program, "-c", wrap_command(command, "TOKEN", mode=mode)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(10) == code
    first, _, rest = said.partition(b"\n")
    assert first == f"TOKEN {process.pid}".encode()
    assert rest == output


@pytest.mark.parametrize("shell", ["mksh", "dash", "bash"])
def test_the_end_of_input_stops_a_watched_command(shell, tmp_path):
    program = shutil.which(shell)
    if program is None:
        pytest.fail(f"{shell} is not installed: make test installs it")
    inner = f"echo up; sh -c 'sleep 71 & echo $! > {shlex.quote(str(tmp_path / 'pid'))}; wait'"
    with subprocess.Popen(
        [program, "-c", wrap_command(inner, "TOKEN", mode="watched")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        # The output ends when the last process that holds it has: the sleep included.
        assert process.stdout.read() == b""
        assert process.wait(10) in (-15, -9, 143)
