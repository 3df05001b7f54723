"""Whoever ends a tuning run hears what is kept of its search, in whichever phase it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from droidmace.errors import DeviceError
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.tuning.journal import Journal
from droidmace.tuning.search import RunRecord, RunStatus
from droidmace.workflows.phone_tuner import TUNED
from droidmace.workflows.tune import _Story
from droidmace.workflows.tune_request import TuneRequest

KEY = "conv2d_1x1_opencl_kernel_1_32_32_32"


@pytest.fixture
def story() -> _Story:
    return _Story(cast(TuneRequest, None), lambda _: None, lambda _: None)


@pytest.fixture
def journal(story: _Story, tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "net.search.jsonl", {"model": "net"}) as journal:
        story._journal = journal
        yield journal


def interrupted(story: _Story, how: BaseException) -> list[str]:
    with pytest.raises(type(how)) as ended, story._kept_told():
        raise how
    return getattr(ended.value, "__notes__", [])


@pytest.mark.parametrize("how", [KeyboardInterrupt(), SystemExit(143)])
def test_what_the_phone_s_tuner_has_found_is_kept_for_the_next_time(
    story: _Story, journal: Journal, how: BaseException
) -> None:
    assert interrupted(story, KeyboardInterrupt()) == []
    journal.append_winner(KEY, (4, 4, 1, 0))
    journal.append_step(TUNED, 3.0)
    again = "the same command goes on from there, unless told --fresh"
    said = f"1 tuned kernel is kept in {journal.path}: {again}"
    assert interrupted(story, how) == [said]


def test_a_tuner_that_was_broken_off_leaves_a_file(story: _Story, journal: Journal) -> None:
    journal.append_winner(KEY, (4, 4, 1, 0))
    path = journal.path.with_name("net.search.salvaged.bin")
    assert interrupted(story, KeyboardInterrupt()) == [f"1 tuned kernel was saved in {path}"]
    assert TunedParameters.parse(path.read_bytes()).entries == {KEY: (4, 4, 1, 0)}


def test_an_error_tells_it_behind_its_own_hint(story: _Story, journal: Journal) -> None:
    journal.append_step(TUNED, 3.0)
    for _ in range(2):
        journal.append(RunRecord({}, RunStatus.OK, 3))
    with pytest.raises(DeviceError) as caught, story._kept_told():
        raise DeviceError("it is gone", hint="plug it in")
    assert str(caught.value.hint).startswith("plug it in; 2 runs of the search are kept in ")


def test_nothing_is_said_of_a_search_that_has_not_begun(story: _Story) -> None:
    assert interrupted(story, KeyboardInterrupt()) == []
