"""The section ``droidmace: search:`` and the durations in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.config import SearchConfig, SearchKind, parse_duration_s
from droidmace.errors import ConfigError
from droidmace.yamltree import load_yaml


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], SearchConfig]:
    def run(text: str) -> SearchConfig:
        path = tmp_path / "net.yml"
        path.write_text(text, "utf-8")
        return SearchConfig.read(load_yaml(path))

    return run


def test_a_section_says_what_a_search_may_cost(read: Callable[[str], SearchConfig]) -> None:
    config = read("{kind: deep, budget: 1h30m, evaluations: 5000, repeats: 3}")
    assert config == SearchConfig(SearchKind.DEEP, 5400.0, 5000, 3)
    assert read("{budget: 90}").budget_s == 90
    assert read("{}") == SearchConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: quick}", "unknown search 'quick'"),
        ("{budget: soon}", "'soon' is not a time"),
        ("{budget: 0}", "not between 1s and 168h"),
        ("{budget: 999h}", "not between 1s and 168h"),
        ("{evaluations: 0}", "0 is not between 1 and"),
        ("{repeats: 1000}", "1000 is not between"),
        ("{strategy: deep}", "strategy"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(
    read: Callable[[str], SearchConfig], text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(text)
    assert str(caught.value.where).endswith("net.yml:1")


@given(st.integers(0, 100), st.integers(0, 59), st.integers(1, 59))
def test_every_way_to_write_a_duration_means_the_same(h: int, m: int, s: int) -> None:
    total_s = 3600 * h + 60 * m + s
    assert parse_duration_s(f"{h}h{m}m{s}s") == parse_duration_s(str(total_s)) == total_s


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_clear_error(text: str) -> None:
    try:
        assert 1 <= parse_duration_s(text) <= 7 * 86_400
    except ConfigError as error:
        assert error.hint
