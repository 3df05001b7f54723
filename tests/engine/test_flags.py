"""The command line as gflags reads it."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.engine.flags import Flags, UsageError, parse_flags

_NAMES = [field.name for field in fields(Flags)]


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--round=7"], "round", 7),
        (["-round=7"], "round", 7),
        (["--round", "7"], "round", 7),
        (["--round=-1"], "round", -1),
        (["--round=0x10"], "round", 16),
        (["--round=1", "--round=2"], "round", 2),
        (["--input_file=a=b"], "input_file", "a=b"),
        (["--input_file="], "input_file", ""),
        (["--input_file", "--round=2"], "input_file", "--round=2"),
        (["--benchmark"], "benchmark", True),
        (["--benchmark=false"], "benchmark", False),
        (["--benchmark=Y"], "benchmark", True),
        (["--benchmark", "--nobenchmark"], "benchmark", False),
        (["word", "--round=3", "word"], "round", 3),
        (["--", "--round=3"], "round", 1),
    ],
)
def test_ways_to_say_it(arguments: list[str], name: str, value: object) -> None:
    assert parse_flags(arguments) == Flags(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nosuchflag"], "unknown command line flag 'nosuchflag'"),
        (["--x=1"], "unknown command line flag 'x'"),
        (["--noround"], "unknown command line flag 'noround'"),
        (["--round=many"], "illegal value 'many' specified for int32 flag 'round'"),
        (["--round=4294967296"], "illegal value '4294967296' specified for int32 flag 'round'"),
        (["--round="], "illegal value '' specified for int32 flag 'round'"),
        (["--benchmark=maybe"], "illegal value 'maybe' specified for bool flag 'benchmark'"),
        (["--round"], "flag '--round' is missing its argument"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    assert parse_flags(arguments) == UsageError(f"ERROR: {message}\n")


def test_all_errors_are_reported_at_once() -> None:
    error = parse_flags(["--y", "--round=2", "--x"])
    assert isinstance(error, UsageError)
    assert error.text.count("ERROR: ") == 2


def test_help_lists_every_flag() -> None:
    text = parse_flags(["--help"])
    assert isinstance(text, UsageError)
    assert text.is_help
    assert all(f"-{name} " in text.text for name in _NAMES)


_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        Flags,
        model_file=_TEXT,
        input_shape=_TEXT,
        output_dir=_TEXT,
        round=st.integers(-(2**31), 2**31 - 1),
        benchmark=st.booleans(),
    )
)
def test_what_is_written_is_read(flags: Flags) -> None:
    words = [f"--{name}={value}" for name, value in asdict(flags).items()]
    assert parse_flags(words) == flags


@given(st.lists(_TEXT, max_size=8))
def test_any_words_give_flags_or_an_error(words: list[str]) -> None:
    parsed = parse_flags(words)
    assert isinstance(parsed, Flags | UsageError)
    if isinstance(parsed, UsageError):
        assert parsed.text
