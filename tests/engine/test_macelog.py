"""Log lines, levels, and numbers as C++ prints them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_harness import AbortedError, LogReader

from droidmace.engine.macelog import MaceLog, StdioStream, atoi, format_float, format_vector


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
