"""When a search from the host is not worth its processes."""

from __future__ import annotations

import pytest

from droidmace.results import RunTimes
from droidmace.workflows.search_cost import is_tuned_at_once


@pytest.mark.parametrize(
    ("times", "at_once"),
    [
        (RunTimes(init_ms=320.0, warmup_ms=770.0, run_avg_ms=1.6), True),
        (RunTimes(init_ms=400.0, warmup_ms=800.0, run_avg_ms=76.0), False),
        (RunTimes(init_ms=400.0, warmup_ms=800.0, run_avg_ms=None), False),
        (None, False),
    ],
)
def test_a_tiny_model_is_left_to_the_phones_tuner(times: RunTimes | None, at_once: bool) -> None:
    assert is_tuned_at_once(times) is at_once
