"""Log lines, levels, and numbers as C++ prints them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from engine_harness import AbortedError, LogReader

from droidmace.engine.macelog import Logcat, MaceLog, StdioStream, atoi, format_float, format_vector


def test_lines(log_reader: LogReader) -> None:
    mace = log_reader.log
    mace.info("a.cc:1", "one")
    mace.warning("a.cc:2", "two")
    mace.error("a.cc:3", "three")
    mace.vlog(3, "a.cc:4", "four")
    mace.vlog(4, "a.cc:5", "too detailed")
    mace.plain("as it is\n")
    with pytest.raises(AbortedError):
        mace.fatal("a.cc:6", "six")
    assert log_reader.text == (
        "I mace/a.cc:1] one\nW mace/a.cc:2] two\nE mace/a.cc:3] three\nI mace/a.cc:4] four\n"
        "as it is\nF mace/a.cc:6] six\n"
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "IVWE"),
        ({"MACE_CPP_MIN_VLOG_LEVEL": "-1"}, "IWE"),
        ({"MACE_CPP_MIN_LOG_LEVEL": "W", "MACE_CPP_MIN_VLOG_LEVEL": "9"}, "WE"),
        ({"MACE_CPP_MIN_LOG_LEVEL": "error"}, "E"),
        ({"MACE_CPP_MIN_LOG_LEVEL": "nonsense"}, "IVWE"),
    ],
)
def test_levels(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        mace = MaceLog.from_environment(environ, StdioStream(file.fileno()))
        mace.info("a:1", "I")
        mace.vlog(0, "a:1", "V")
        mace.warning("a:1", "W")
        mace.error("a:1", "E")
        mace.flush()
    assert "".join(line[-1] for line in path.read_text().splitlines()) == expected


def test_a_pipe_gets_whole_blocks_only() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    stream = StdioStream(writer)
    stream.write("x" * 100)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    stream.write("y" * 4096)
    assert os.read(reader, 1 << 16)
    stream.flush()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1560.391, "1560.39"), (0.910, "0.91"), (104.2371, "104.237"), (31080.761, "31080.8")],
)
def test_doubles_print_as_in_the_samples(value: float, text: str) -> None:
    assert format_float(value) == text


def test_vectors_and_numbers() -> None:
    assert format_vector((16, 3, 3)) == "[16, 3, 3]"
    assert [atoi(text) for text in ("12x", " -3", "", "x", "+7")] == [12, -3, 0, 0, 7]


def test_logcat_has_the_lines_too_and_at_once(tmp_path: Path) -> None:
    path = tmp_path / "main"
    path.write_text("earlier\n", encoding="utf-8")
    with (tmp_path / "out").open("wb") as out:
        stream = StdioStream(out.fileno())
        mace = MaceLog.from_environment({"ANDROID_LOG_FILE": str(path)}, stream)
        mace.warning("core/kv_storage.cc:90", "first\nsecond")
        mace.vlog(1, "a.cc:5", "too detailed")
        lines = path.read_text(encoding="utf-8").splitlines()
    stamp = r"\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +\d+ +\d+ "
    assert lines[0] == "earlier"
    assert re.fullmatch(stamp + r"W MACE: kv_storage\.cc:90 first", lines[1])
    assert re.fullmatch(stamp + r"W MACE: second", lines[2])
    assert lines[1].split()[2] == str(os.getpid())
    assert len(lines) == 3


def test_logcat_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    assert Logcat.from_environment({"ANDROID_LOG_FILE": str(tmp_path / "no" / "main")}) is None
    assert Logcat.from_environment({}) is None
    Logcat("/dev/full").write("I", "a.cc:1", "there is no room for this")


def test_logcat_forgets_what_is_oldest(tmp_path: Path) -> None:
    path = tmp_path / "main"
    logcat = Logcat(str(path), limit_bytes=4000)
    for number in range(1000):
        logcat.write("E", "a.cc:1", f"retry {number}")
        assert path.stat().st_size <= 4000
    words = [line.split("retry ")[1] for line in path.read_text().splitlines()]
    assert len(words) > 20
    assert words == [str(number) for number in range(1000 - len(words), 1000)]
