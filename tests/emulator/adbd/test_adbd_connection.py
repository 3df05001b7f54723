"""The protocol core: alone against bytes, and two of them wired together."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.emulator.adbd.connection import MAX_STREAMS, Connection, Role, State
from droidmace.emulator.adbd.errors import LocalProtocolError, RemoteProtocolError
from droidmace.emulator.adbd.events import (
    AuthKind,
    Event,
    PeerAuthenticated,
    PeerConnected,
    StreamAccepted,
    StreamAcknowledged,
    StreamClosed,
    StreamData,
    StreamRequested,
)
from droidmace.emulator.adbd.wire import (
    MAX_PAYLOAD_BYTES,
    VERSION_WITH_CHECKSUMS,
    VERSION_WITHOUT_CHECKSUMS,
    Command,
    Packet,
    checksum_of,
    encode_header,
)

HOST_BANNER = b"host::features=shell_v2"
DEVICE_BANNER = b"device::ro.product.name=test;features=shell_v2"


def sent_by(core: Connection) -> bytes:
    return b"".join(packet.header + bytes(packet.payload) for packet in core.data_to_send())


def raw(command: Command, arg0: int, arg1: int, payload: bytes = b"", *, checksum=True) -> bytes:
    packet = Packet(command, arg0, arg1, payload)
    return encode_header(packet, with_checksum=checksum) + payload


def plain(events: list[Event]) -> list[Event]:
    """Events that can be compared: a payload's view becomes its bytes."""
    return [
        StreamData(event.stream_id, bytes(event.data)) if isinstance(event, StreamData) else event
        for event in events
    ]


class Wired:
    """A host's core and a device's, with a wire between them."""

    def __init__(self, *, host_version: int = VERSION_WITHOUT_CHECKSUMS, handshake: bool = True):
        self.host = Connection(Role.HOST, version=host_version)
        self.device = Connection(Role.DEVICE)
        if handshake:
            self.host.connect(HOST_BANNER)
            self.to_device()
            self.device.connect(DEVICE_BANNER)
            self.to_host()

    def to_device(self) -> list[Event]:
        return plain(self.device.receive_data(sent_by(self.host)))

    def to_host(self) -> list[Event]:
        return plain(self.host.receive_data(sent_by(self.device)))

    def open_stream(self, service: str = "shell:") -> tuple[int, int]:
        """Our numbers of a new open stream: the host's and the device's."""
        host_id = self.host.open(service)
        (event,) = self.to_device()
        assert isinstance(event, StreamRequested)
        self.device.accept(event.stream_id)
        assert self.to_host() == [StreamAccepted(host_id)]
        return host_id, event.stream_id


def test_handshake_agrees_on_the_smaller_payload():
    host = Connection(Role.HOST, max_payload_bytes=256 << 10)
    device = Connection(Role.DEVICE)
    host.connect(HOST_BANNER)
    events = device.receive_data(sent_by(host))
    assert events == [PeerConnected(HOST_BANNER, VERSION_WITHOUT_CHECKSUMS, 256 << 10)]
    device.connect(DEVICE_BANNER)
    (event,) = host.receive_data(sent_by(device))
    assert isinstance(event, PeerConnected)
    assert event.banner == DEVICE_BANNER
    assert host.max_payload_bytes == device.max_payload_bytes == 256 << 10
    assert host.state is device.state is State.ONLINE


def test_the_bytes_of_a_connect_packet():
    device = Connection(Role.DEVICE)
    device.receive_data(raw(Command.CONNECT, VERSION_WITH_CHECKSUMS, 4096, b"host::\0"))
    device.connect(b"device::")
    expected = struct.pack(
        "<4s5I", b"CNXN", 0x01000001, 1 << 20, 8, sum(b"device::"), 0x4E584E43 ^ 0xFFFFFFFF
    )
    assert sent_by(device) == expected + b"device::"


def test_a_challenge_is_repeated_until_the_device_accepts():
    wired = Wired(handshake=False)
    wired.host.connect(HOST_BANNER)
    wired.to_device()
    wired.device.authenticate(AuthKind.TOKEN, b"t" * 20)
    assert wired.to_host() == [PeerAuthenticated(AuthKind.TOKEN, b"t" * 20)]
    wired.host.authenticate(AuthKind.SIGNATURE, b"s" * 256)
    assert wired.to_device() == [PeerAuthenticated(AuthKind.SIGNATURE, b"s" * 256)]
    wired.device.authenticate(AuthKind.TOKEN, b"u" * 20)
    assert wired.to_host() == [PeerAuthenticated(AuthKind.TOKEN, b"u" * 20)]
    wired.host.authenticate(AuthKind.PUBLIC_KEY, b"key\0")
    assert wired.to_device() == [PeerAuthenticated(AuthKind.PUBLIC_KEY, b"key\0")]
    wired.device.connect(DEVICE_BANNER)
    wired.to_host()
    assert wired.host.state is State.ONLINE


@pytest.mark.parametrize("version", [VERSION_WITH_CHECKSUMS, VERSION_WITHOUT_CHECKSUMS])
def test_data_both_ways(version):
    wired = Wired(host_version=version)
    host_id, device_id = wired.open_stream("exec:cat")
    wired.host.send(host_id, b"question")
    assert wired.to_device() == [StreamData(device_id, b"question")]
    wired.device.acknowledge(device_id)
    wired.device.send(device_id, b"answer")
    assert wired.to_host() == [StreamAcknowledged(host_id), StreamData(host_id, b"answer")]


def test_checksums_are_sent_and_checked_with_an_old_peer_only():
    old, new = Wired(host_version=VERSION_WITH_CHECKSUMS), Wired()
    for wired, expected in ((old, checksum_of(b"abc")), (new, 0)):
        _, device_id = wired.open_stream()
        wired.device.send(device_id, b"abc")
        (packet,) = wired.device.data_to_send()
        assert struct.unpack("<6I", packet.header)[4] == expected
    bad = bytearray(raw(Command.OPEN, 9, 0, b"shell:\0"))
    bad[-2] ^= 1
    assert new.device.receive_data(bad) == [StreamRequested(2, "shell;")]
    with pytest.raises(RemoteProtocolError, match="checksum"):
        old.device.receive_data(bad)


def test_refused_stream():
    wired = Wired()
    host_id = wired.host.open("tcp:80")
    (event,) = wired.to_device()
    assert isinstance(event, StreamRequested)
    wired.device.refuse(event.stream_id)
    assert wired.to_host() == [StreamClosed(host_id)]
    assert wired.device.stream_ids() == wired.host.stream_ids() == []
    assert sent_by(wired.host) == b"", "a refusal is not answered"


def test_close_is_answered_once():
    wired = Wired()
    host_id, device_id = wired.open_stream()
    wired.host.close(host_id)
    assert wired.to_device() == [StreamClosed(device_id)]
    assert wired.to_host() == []
    assert sent_by(wired.host) == sent_by(wired.device) == b""


def test_packets_that_cross_a_close_are_dropped():
    wired = Wired()
    host_id, device_id = wired.open_stream()
    wired.host.send(host_id, b"too late")
    wired.device.close(device_id)
    assert wired.to_device() == []
    assert wired.to_host() == [StreamClosed(host_id)]


def test_old_peers_close_without_their_number():
    wired = Wired()
    _, device_id = wired.open_stream()
    assert wired.device.receive_data(raw(Command.CLOSE, 0, device_id)) == [StreamClosed(device_id)]


def test_packets_for_another_peers_stream_are_dropped():
    wired = Wired()
    host_id, device_id = wired.open_stream()
    for command in (Command.WRITE, Command.OKAY, Command.CLOSE):
        assert wired.device.receive_data(raw(command, host_id + 7, device_id, b"")) == []
    assert wired.device.stream_ids() == [device_id]


def test_a_surplus_okay_is_harmless():
    wired = Wired()
    host_id, device_id = wired.open_stream()
    assert wired.device.receive_data(raw(Command.OKAY, host_id, device_id)) == []
    assert wired.device.may_send(device_id)


def test_streams_are_independent():
    wired = Wired()
    first, second = wired.open_stream("shell:a"), wired.open_stream("shell:b")
    wired.device.send(first[1], b"1")
    assert not wired.device.may_send(first[1])
    assert wired.device.may_send(second[1])
    wired.device.send(second[1], b"2")
    assert wired.to_host() == [StreamData(first[0], b"1"), StreamData(second[0], b"2")]


def test_streams_are_bounded():
    wired = Wired()
    for _ in range(MAX_STREAMS):
        wired.open_stream()
    extra = wired.host.open("shell:")
    assert wired.to_device() == []
    assert wired.to_host() == [StreamClosed(extra)]


def test_a_lost_connection_closes_its_streams():
    wired = Wired()
    ids = [wired.open_stream()[1] for _ in range(3)]
    assert wired.device.connection_lost() == [StreamClosed(stream_id) for stream_id in ids]
    assert wired.device.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        wired.device.receive_data(b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0" * 24, "magic"),
        (struct.pack("<6I", 0x12345678, 0, 0, 0, 0, 0x12345678 ^ 0xFFFFFFFF), "unknown command"),
        (raw(Command.OPEN, 1, 0, b"shell:\0"), "OPEN while AWAITING_CONNECT"),
        (raw(Command.AUTH, 3, 0, b"key"), "AUTH while AWAITING_CONNECT"),
        (raw(Command.CONNECT, 0x00FFFFFF, 4096, b"host::"), "version"),
        (raw(Command.CONNECT, VERSION_WITH_CHECKSUMS, 4095, b"host::"), "too small"),
        (
            raw(Command.CONNECT, VERSION_WITH_CHECKSUMS, 4096, b"host::", checksum=False),
            "checksum",
        ),
        (
            struct.pack("<6I", Command.CONNECT, 0, 0, 4097, 0, Command.CONNECT ^ 0xFFFFFFFF),
            "payload of 4097 bytes",
        ),
    ],
)
def test_what_a_stranger_must_not_send(data, reason):
    device = Connection(Role.DEVICE)
    with pytest.raises(RemoteProtocolError, match=reason):
        device.receive_data(data)
    assert device.state is State.CLOSED


def test_what_a_connected_peer_must_not_send():
    for data, reason in (
        (raw(Command.CONNECT, VERSION_WITHOUT_CHECKSUMS, 4096, b"host::"), "CONNECT while ONLINE"),
        (raw(Command.OPEN, 0, 0, b"shell:"), "without a stream number"),
        (
            struct.pack(
                "<6I", Command.WRITE, 1, 1, MAX_PAYLOAD_BYTES + 1, 0, Command.WRITE ^ 0xFFFFFFFF
            ),
            "payload of",
        ),
    ):
        with pytest.raises(RemoteProtocolError, match=reason):
            Wired().device.receive_data(data)


def test_a_peer_that_ignores_flow_control():
    wired = Wired()
    host_id, device_id = wired.open_stream()
    wired.device.receive_data(raw(Command.WRITE, host_id, device_id, b"one"))
    with pytest.raises(RemoteProtocolError, match="before it was allowed"):
        wired.device.receive_data(raw(Command.WRITE, host_id, device_id, b"two"))


def test_our_own_misuse_is_another_error():
    wired = Wired()
    host_id, device_id = wired.open_stream()
    device = wired.device
    for misuse in (
        lambda: device.send(99, b"x"),
        lambda: device.send(device_id, b""),
        lambda: device.send(device_id, bytes(MAX_PAYLOAD_BYTES + 1)),
        lambda: device.acknowledge(device_id),
        lambda: device.accept(device_id),
        lambda: device.refuse(device_id),
        lambda: device.close(99),
        lambda: device.connect(DEVICE_BANNER),
        lambda: device.authenticate(AuthKind.TOKEN, b""),
        lambda: Connection(Role.HOST).open("shell:"),
    ):
        with pytest.raises(LocalProtocolError):
            misuse()
    device.send(device_id, b"fine")
    with pytest.raises(LocalProtocolError, match="before the peer acknowledged"):
        device.send(device_id, b"too early")
    assert wired.to_host() == [StreamData(host_id, b"fine")]


SESSION = (
    raw(Command.CONNECT, VERSION_WITH_CHECKSUMS, 8192, HOST_BANNER),
    raw(Command.OPEN, 5, 0, b"sync:\0"),
    raw(Command.WRITE, 5, 1, bytes(range(256)) * 8),
    raw(Command.OPEN, 6, 0, b"shell,v2,raw:echo \xff\0"),
    raw(Command.WRITE, 6, 2, b"x"),
    raw(Command.CLOSE, 5, 1),
    raw(Command.OKAY, 6, 2),
)


def play(chunks: list[bytes]) -> list[Event]:
    """A device that accepts and acknowledges everything; what it saw."""
    device = Connection(Role.DEVICE)
    seen: list[Event] = []
    for chunk in chunks:
        # One byte at a time inside receive_data would hide nothing: answers are given per chunk.
        view = memoryview(chunk)
        while view:
            buffer = device.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            for event in device.buffer_updated(count):
                match event:
                    case PeerConnected():
                        device.connect(DEVICE_BANNER)
                    case StreamRequested(stream_id=stream_id):
                        device.accept(stream_id)
                    case StreamData(stream_id=stream_id):
                        device.acknowledge(stream_id)
                seen += plain([event])
    return seen


@given(st.lists(st.integers(0, sum(map(len, SESSION))), max_size=40))
def test_fragmentation_does_not_matter(cuts):
    data = b"".join(SESSION)
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    events = play(chunks)
    assert events == play([data])
    assert [type(event) for event in events] == [
        PeerConnected,
        StreamRequested,
        StreamData,
        StreamRequested,
        StreamData,
        StreamClosed,
    ]


@given(st.binary(max_size=400))
def test_garbage_raises_nothing_but_the_protocol_error(data):
    for device in (Connection(Role.DEVICE), Wired().device):
        try:
            device.receive_data(data)
        except RemoteProtocolError:
            assert device.state is State.CLOSED


words = st.one_of(st.integers(0, 4), st.integers(0, 0xFFFFFFFF))
packets = st.builds(
    lambda command, arg0, arg1, payload, checksum: raw(
        command, arg0, arg1, payload, checksum=checksum
    ),
    st.sampled_from(Command),
    words,
    words,
    st.binary(max_size=64),
    st.booleans(),
)


@given(st.lists(packets, max_size=12))
def test_wellformed_nonsense_raises_nothing_but_the_protocol_error(nonsense):
    wired = Wired()
    wired.open_stream()
    device = wired.device
    try:
        for data in nonsense:
            for event in device.receive_data(data):
                if isinstance(event, StreamRequested):
                    device.accept(event.stream_id)
    except RemoteProtocolError:
        assert device.state is State.CLOSED
        return
    assert device.state is State.ONLINE
    assert len(device.stream_ids()) <= 1 + len(nonsense)
