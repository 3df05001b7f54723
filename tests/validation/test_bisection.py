"""The search by itself: right, and within its looks, for every chain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.validation.bisection import narrowed, positions, run_limit


@given(st.integers(1, 10_000))
def test_the_limit_is_the_logarithm_and_three(ops: int) -> None:
    assert run_limit(ops) == math.floor(math.log2(ops) + 3)


def test_a_net_without_ops_cannot_be_searched() -> None:
    with pytest.raises(ValueError, match="nothing"):
        run_limit(0)


@given(st.data())
def test_the_first_wrong_position_is_found_within_the_looks(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3000))
    culprit = data.draw(st.integers(0, count - 1))
    looks = data.draw(st.integers(1, 14))
    asked: list[int] = []

    def are_wrong(these: Sequence[int]) -> list[bool]:
        asked.append(len(these))
        assert list(these) == sorted(set(these))
        return [one >= culprit for one in these]

    found = narrowed(-1, count - 1, looks, are_wrong)
    assert found == (culprit - 1, culprit)
    assert len(asked) <= looks
    # As few positions at once as the looks allow.
    assert max(asked, default=0) <= math.ceil(count ** (1 / looks)) or looks * 2 > count


@given(st.integers(-1, 50), st.integers(2, 500), st.integers(1, 10))
def test_positions_lie_strictly_between(right: int, span: int, looks: int) -> None:
    found = positions(right, right + span, looks)
    assert found
    assert all(right < one < right + span for one in found)


def test_neighbours_leave_nothing_to_ask() -> None:
    assert positions(4, 5, 3) == []


def test_without_a_look_the_range_stays() -> None:
    assert narrowed(-1, 9, 0, lambda _: []) == (-1, 9)
