"""What a bench session says of its own samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.workflows.bench_compare import unsteadiness


@pytest.mark.parametrize(
    ("samples", "change"),
    [
        ([10, 10, 10, 10, 10, 10], ""),
        ([10, 10, 11, 12, 13, 13], "+30%"),
        ([10, 10, 10, 9, 8, 8], "-20%"),
        # One disturbed process is an outlier, not a drift.
        ([10, 10, 10, 10, 10, 10, 10, 10, 30], ""),
        ([10, 20, 30, 40, 50], ""),
    ],
)
def test_a_phone_that_changes_its_speed(samples, change):
    said = unsteadiness(samples)
    assert bool(said) == bool(change)
    assert change in said


@given(st.lists(st.floats(1, 1.09), max_size=40))
def test_scatter_within_a_tenth_is_no_drift(samples):
    assert unsteadiness(samples) == ""
