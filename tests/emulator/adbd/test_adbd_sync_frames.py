"""Sync frames: requests in, replies out."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.emulator.adbd import sync_frames
from droidmace.emulator.adbd.errors import RemoteProtocolError
from droidmace.emulator.adbd.sync_frames import (
    ListRequest,
    Quit,
    ReceiveRequest,
    SendData,
    SendDone,
    SendRequest,
    StatKind,
    StatRequest,
    SyncDecoder,
    SyncEvent,
)


def frame(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body


def joined(events: list[SyncEvent]) -> list[object]:
    """Events with neighbouring pieces of content put together."""
    result: list[object] = []
    for event in events:
        if isinstance(event, SendData):
            before = result.pop() if result and isinstance(result[-1], bytes) else b""
            result.append(before + bytes(event.data))
        else:
            result.append(event)
    return result


SESSION = (
    frame(b"STAT", b"/a"),
    frame(b"STA2", b"/b"),
    frame(b"LST2", b"/c"),
    frame(b"LIST", b"/d"),
    frame(b"LIS2", b"/e"),
    frame(b"RECV", b"/f"),
    frame(b"RCV2", b"/g") + struct.pack("<4sI", b"RCV2", 0),
    frame(b"SEND", b"/a,b/c,33188"),
    frame(b"DATA", b"x" * 100),
    frame(b"DATA", b""),
    frame(b"DATA", b"y" * 50),
    struct.pack("<4sI", b"DONE", 1_700_000_000),
    frame(b"SND2", b"/with,comma") + struct.pack("<4sII", b"SND2", 0o100755, 4),
    struct.pack("<4sI", b"DONE", 5),
    frame(b"QUIT", b""),
)
EXPECTED = [
    StatRequest(StatKind.V1, b"/a"),
    StatRequest(StatKind.FOLLOW, b"/b"),
    StatRequest(StatKind.NO_FOLLOW, b"/c"),
    ListRequest(b"/d", 1),
    ListRequest(b"/e", 2),
    ReceiveRequest(b"/f", 0),
    ReceiveRequest(b"/g", 0),
    SendRequest(b"/a,b/c", 0o100644, 0),
    b"x" * 100 + b"y" * 50,
    SendDone(1_700_000_000),
    SendRequest(b"/with,comma", 0o100755, 4),
    SendDone(5),
    Quit(),
]


@given(st.lists(st.integers(0, sum(map(len, SESSION))), max_size=60))
def test_fragmentation_does_not_matter(cuts):
    data = b"".join(SESSION)
    edges = [0, *sorted(cuts), len(data)]
    decoder = SyncDecoder()
    events = [e for a, b in itertools.pairwise(edges) for e in decoder.feed(data[a:b])]
    assert joined(events) == EXPECTED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(b"EVIL", b"/"), "unknown sync request"),
        (struct.pack("<4sI", b"STAT", 1025), "path of 1025 bytes"),
        (struct.pack("<4sI", b"STAT", 0), "path of 0 bytes"),
        (frame(b"STAT", b"/a\0b"), "NUL"),
        (frame(b"SEND", b"/no-mode"), "decimal mode"),
        (frame(b"SEND", b",33188"), "decimal mode"),
        (frame(b"SEND", b"/a,-1"), "decimal mode"),
        (frame(b"SEND", b"/a,33188") + frame(b"STAT", b"/a"), "in the middle of a file"),
        (frame(b"SEND", b"/a,33188") + struct.pack("<4sI", b"DATA", 65537), "DATA frame of 65537"),
        (frame(b"SND2", b"/a") + b"SEND" + bytes(8), "after SND2"),
        (frame(b"RCV2", b"/a") + b"RECV" + bytes(4), "after RCV2"),
    ],
)
def test_what_a_host_must_not_send(data, reason):
    with pytest.raises(RemoteProtocolError, match=reason):
        SyncDecoder().feed(data)


@given(
    st.lists(st.one_of(st.sampled_from(SESSION), st.binary(max_size=24)), max_size=10).map(b"".join)
)
def test_nonsense_raises_nothing_but_the_protocol_error(data):
    decoder = SyncDecoder()
    try:
        events = decoder.feed(data)
    except RemoteProtocolError:
        return
    content = sum(len(event.data) for event in events if isinstance(event, SendData))
    assert content <= len(data)


def test_stat_replies(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, (1000, 2000))
    status = path.stat()
    reply = sync_frames.stat_reply(StatKind.V1, status, 0)
    assert struct.unpack("<4sIII", reply) == (b"STAT", status.st_mode, 5, 2000)
    assert sync_frames.stat_reply(StatKind.V1, None, 2) == b"STAT" + bytes(12)
    for kind in (StatKind.FOLLOW, StatKind.NO_FOLLOW):
        fields = struct.unpack("<4sIQQIIIIQqqq", sync_frames.stat_reply(kind, status, 0))
        assert fields[:3] == (kind.value, 0, status.st_dev)
        assert fields[4] == status.st_mode
        assert fields[8:11] == (5, 1000, 2000)
        missing = struct.unpack("<4sIQQIIIIQqqq", sync_frames.stat_reply(kind, None, 2))
        assert missing == (kind.value, 2, *(0,) * 10)


def test_sizes_beyond_32_bits(tmp_path):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 5 << 30)
    status = path.stat()
    assert struct.unpack("<4sIII", sync_frames.stat_reply(StatKind.V1, status, 0))[2] == 1 << 30
    reply = sync_frames.stat_reply(StatKind.FOLLOW, status, 0)
    assert struct.unpack("<4sIQQIIIIQqqq", reply)[8] == 5 << 30


def test_listing_frames_have_their_sizes():
    status = Path("/").stat()
    assert len(sync_frames.entry(1, b"name", status, 0)) == 20 + 4
    assert len(sync_frames.entry(2, b"name", status, 0)) == 76 + 4
    assert sync_frames.end_of_list(1) == b"DONE" + bytes(16)
    assert sync_frames.end_of_list(2) == b"DONE" + bytes(72)


def test_a_failure_says_why():
    assert sync_frames.fail("no") == b"FAIL\x02\x00\x00\x00no"
