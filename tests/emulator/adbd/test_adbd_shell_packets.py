"""Shell protocol v2 packets."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.emulator.adbd.errors import RemoteProtocolError
from droidmace.emulator.adbd.shell import ShellRequest, parse_shell_service
from droidmace.emulator.adbd.shell_packets import (
    PacketId,
    ShellDecoder,
    ShellEvent,
    StdinClosed,
    StdinData,
    WindowSize,
    encode,
)


def joined(events: list[ShellEvent]) -> list[ShellEvent]:
    """Events with neighbouring pieces of input put together."""
    result: list[ShellEvent] = []
    for event in events:
        if isinstance(event, StdinData):
            data = bytes(event.data)
            if result and isinstance(result[-1], StdinData):
                data = bytes(result.pop().data) + data
            result.append(StdinData(data))
        else:
            result.append(event)
    return result


def test_the_bytes_of_an_exit_packet():
    assert encode(PacketId.EXIT, b"\x03") == b"\x03\x01\x00\x00\x00\x03"


def test_every_packet_a_host_sends():
    decoder = ShellDecoder()
    data = (
        encode(PacketId.WINDOW_SIZE, b"24x80,640x480\0")
        + encode(PacketId.STDIN, b"ls\n")
        + encode(PacketId.CLOSE_STDIN, b"")
    )
    assert joined(decoder.feed(data)) == [
        WindowSize(24, 80, 640, 480),
        StdinData(b"ls\n"),
        StdinClosed(),
    ]


def test_unknown_and_malformed_small_packets_are_skipped():
    decoder = ShellDecoder()
    data = (
        struct.pack("<BI", 77, 3)
        + b"???"
        + encode(PacketId.WINDOW_SIZE, b"huge")
        + encode(PacketId.WINDOW_SIZE, b"99999x1,0x0")
        + encode(PacketId.STDIN, b"")
        + encode(PacketId.STDIN, b"x")
    )
    assert joined(decoder.feed(data)) == [WindowSize(0xFFFF, 1, 0, 0), StdinData(b"x")]


@pytest.mark.parametrize(("packet_id", "length"), [(0, (16 << 20) + 1), (5, 65), (200, 1 << 31)])
def test_a_length_no_host_sends(packet_id, length):
    with pytest.raises(RemoteProtocolError, match="at most"):
        ShellDecoder().feed(struct.pack("<BI", packet_id, length))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=50).map(lambda data: encode(PacketId.STDIN, data)),
            st.just(encode(PacketId.CLOSE_STDIN, b"")),
            st.just(encode(PacketId.WINDOW_SIZE, b"2x3,4x5")),
        ),
        max_size=8,
    ).map(b"".join),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_fragmentation_does_not_matter(data, cuts):
    edges = [0, *sorted(cuts), len(data)]
    decoder = ShellDecoder()
    events = [e for a, b in itertools.pairwise(edges) for e in decoder.feed(data[a:b])]
    assert joined(events) == joined(ShellDecoder().feed(data))


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_the_protocol_error(data):
    decoder = ShellDecoder()
    try:
        events = decoder.feed(data)
    except RemoteProtocolError:
        return
    given_input = sum(len(event.data) for event in events if isinstance(event, StdinData))
    assert given_input <= len(data)


@pytest.mark.parametrize(
    ("arguments", "command", "expected"),
    [
        ("", "ls", ShellRequest("ls", v2=False, pty=False)),
        ("", "", ShellRequest("", v2=False, pty=True)),
        ("v2,TERM=xterm,raw", "ls", ShellRequest("ls", v2=True, pty=False, terminal="xterm")),
        ("v2,TERM=xterm,pty", "ls", ShellRequest("ls", v2=True, pty=True, terminal="xterm")),
        ("v2", "", ShellRequest("", v2=True, pty=True)),
        ("raw", "", ShellRequest("", v2=False, pty=False)),
    ],
)
def test_shell_service_names(arguments, command, expected):
    assert parse_shell_service(arguments, command) == expected
