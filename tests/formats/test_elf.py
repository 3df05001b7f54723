"""The head of an executable."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.formats.elf import HEAD_BYTES, SCRIPT, executable_abi


def head(machine: int, data: int = 1) -> bytes:
    return b"\x7fELF" + bytes([2, data, 1]) + bytes(9) + struct.pack("<HH", 3, machine)


@pytest.mark.parametrize(
    ("machine", "abi"), [(3, "x86"), (40, "armeabi-v7a"), (62, "x86_64"), (183, "arm64-v8a")]
)
def test_known_machines(machine: int, abi: str) -> None:
    assert executable_abi(head(machine)) == abi


def test_a_real_program_is_recognised() -> None:
    with Path(sys.executable).resolve().open("rb") as stream:
        start = stream.read(HEAD_BYTES)
    assert executable_abi(start) in {"x86_64", "arm64-v8a"}


def test_a_script_runs_everywhere() -> None:
    assert executable_abi(b"#!/system/bin/sh\n") == SCRIPT


@pytest.mark.parametrize(
    ("data", "complaint", "offset"),
    [
        (b"", "not an executable", 0),
        (b"hello", "not an executable", 0),
        (head(183)[:12], "cut off", 12),
        (head(183, data=2), "big-endian", 5),
        (head(8), "ELF machine 8", 18),
    ],
)
def test_what_no_phone_runs(data: bytes, complaint: str, offset: int) -> None:
    with pytest.raises(FormatError, match=complaint) as caught:
        executable_abi(data)
    assert caught.value.offset == offset


@given(st.binary(max_size=64))
def test_any_bytes_give_an_abi_or_a_format_error(data: bytes) -> None:
    try:
        abi = executable_abi(data)
    except FormatError:
        return
    assert abi in {"x86", "armeabi-v7a", "x86_64", "arm64-v8a", SCRIPT}
