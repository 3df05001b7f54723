"""Distributions: quantiles that are there, and those that are not."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.results import DeviceInfo
from droidmace.results.bench import BenchProcess, BenchResult, Distribution

SAMPLES = st.lists(st.floats(0, 1e9), min_size=1, max_size=150)


def test_quantiles_need_samples():
    one = Distribution.of([float(n) for n in range(1, 101)])
    assert (one.p50, one.p90, one.p99, one.maximum) == (50.5, 90.0, 99.0, 100.0)
    assert Distribution.of([1.0] * 99).p99 is None
    assert Distribution.of([1.0] * 10).p90 == 1.0
    assert Distribution.of([1.0] * 9).p90 is None


def test_one_sample():
    one = Distribution.of([3.0])
    assert (one.minimum, one.p50, one.mean, one.spread) == (3.0, 3.0, 3.0, 0.0)
    assert one.histogram == ((3.0, 3.0, 1),)


@given(SAMPLES)
def test_a_distribution_is_in_order_and_complete(samples):
    one = Distribution.of(samples)
    known = [one.minimum, one.p50, *(q for q in (one.p90, one.p99) if q is not None), one.maximum]
    assert known == sorted(known)
    assert sum(count for _, _, count in one.histogram) == len(samples)
    assert (one.histogram[0][0], one.histogram[-1][1]) == (min(samples), max(samples))
    for (_, end, _), (start, _, _) in zip(one.histogram, one.histogram[1:], strict=False):
        assert end == start
    for share, quantile in ((0.9, one.p90), (0.99, one.p99)):
        if quantile is not None:
            assert sum(sample <= quantile for sample in samples) >= share * len(samples)
    json.dumps(one.as_document(), allow_nan=False)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf], [-1.0]])
def test_what_is_no_time_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        Distribution.of(bad)


def test_figures_without_samples_are_left_out():
    result = BenchResult(
        DeviceInfo("x", "device"), "net", {}, {}, processes=(BenchProcess(1.0, 2.0, 3.0),)
    )
    assert result.figures == {
        "init_ms": (1.0,),
        "first_run_ms": (2.0,),
        "first_result_ms": (3.0,),
        "latency_ms": (3.0,),
    }
    document = result.as_document()
    assert document["latency_ms"]["count"] == 1
    assert "cold_init_ms" not in document
