"""Similarity of outputs, against its definition written out value by value."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.results.validation import OutputSimilarity
from droidmace.validation.similarity import SimilarityTally


def tally(outputs: Any, reference: Any, **how: Any) -> OutputSimilarity:
    """All at once."""
    one = SimilarityTally("y", **how)
    one.add(np.array(outputs, dtype=np.float32), np.array(reference, dtype=np.float32))
    return one.result()


def cosine(found: list[float], wanted: list[float]) -> float:
    """Of one sample, by its definition."""
    if not all(map(math.isfinite, (*found, *wanted))):
        return 0.0
    a, b = math.hypot(*found), math.hypot(*wanted)
    if a == 0 or b == 0:
        return 1.0 if a == b else 0.0
    return sum(x * y for x, y in zip(found, wanted, strict=True)) / (a * b)


def sqnr(found: list[float], wanted: list[float]) -> float:
    """Of one sample, by its definition, in dB."""
    if not all(map(math.isfinite, (*found, *wanted))):
        return -math.inf
    noise = sum((x - y) ** 2 for x, y in zip(found, wanted, strict=True))
    signal = sum(y * y for y in wanted)
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and reference (n, elements), partly equal, zero or not finite."""
    count, elements = draw(st.integers(1, 20)), draw(st.integers(1, 6))
    value = st.one_of(
        st.sampled_from([0.0, 0.0, 1.0, -1.0, np.nan, np.inf]), st.floats(-1e3, 1e3, width=32)
    )
    rows = st.lists(value, min_size=count * elements, max_size=count * elements)
    found, wanted = (
        np.array(draw(rows), dtype=np.float32).reshape(count, elements) for _ in range(2)
    )
    same = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    found[same] = wanted[same]
    return found, wanted


@settings(deadline=None)
@given(pairs(), st.data())
def test_any_split_says_what_the_definition_says(
    given_pairs: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    found, wanted = given_pairs
    streamed = SimilarityTally("y", tolerance=(0.5, 0.1))
    begin = 0
    while begin < len(found):
        end = begin + data.draw(st.integers(1, len(found)))
        streamed.add(found[begin:end], wanted[begin:end])
        begin = end
    result = streamed.result()
    assert result == tally(found, wanted, tolerance=(0.5, 0.1))

    rows = list(zip(found.astype(float).tolist(), wanted.astype(float).tolist(), strict=True))
    cosines, ratios = [cosine(*row) for row in rows], [sqnr(*row) for row in rows]
    assert result.cosine.minimum == pytest.approx(min(cosines), abs=1e-12)
    assert result.cosine.maximum == pytest.approx(max(cosines), abs=1e-12)
    assert result.cosine.mean == pytest.approx(statistics.fmean(cosines), abs=1e-12)
    assert cosines[result.worst_sample] == pytest.approx(min(cosines), abs=1e-12)
    assert result.sqnr_db.minimum == pytest.approx(min(ratios), rel=1e-9, abs=1e-9)
    assert result.sqnr_db.maximum == pytest.approx(max(ratios), rel=1e-9, abs=1e-9)

    fine = [all(map(math.isfinite, (*a, *b))) for a, b in rows]
    errors = [
        [abs(x - y) for x, y in zip(*row, strict=True)] if ok else []
        for row, ok in zip(rows, fine, strict=True)
    ]
    largest = max((max(one, default=0.0) for one in errors), default=0.0)
    assert result.max_abs_error == pytest.approx(largest, rel=1e-12)
    if largest:
        assert max(errors[result.worst_error_sample]) == pytest.approx(largest, rel=1e-12)
    assert result.not_finite == int((~np.isfinite(found)).sum())
    assert result.reference_not_finite == int((~np.isfinite(wanted)).sum())
    assert result.not_finite_samples == fine.count(False)
    outside = [
        [error > max(0.5, 0.1 * abs(y)) for error, y in zip(one, row[1], strict=True)]
        if one
        else [True] * len(row[1])
        for one, row in zip(errors, rows, strict=True)
    ]
    assert result.outside == sum(map(sum, outside))
    assert result.outside_samples == sum(map(any, outside))


def test_what_maces_own_tool_computes() -> None:
    """``calculate_similarity`` and ``calculate_sqnr`` of MACE's validate.py, on one sample."""
    x, y = np.array([3.0, 4.0, 0.0]), np.array([3.0, 4.0, 0.5])
    result = tally([y], [x])
    assert result.cosine.minimum == pytest.approx(25 / (5 * math.sqrt(25.25)))
    assert 10 ** (result.sqnr_db_overall / 10) == pytest.approx(25 / 0.25)
    assert result.max_abs_error == 0.5
    assert result.max_rel_error == 0.125


def test_equal_outputs_are_just_that() -> None:
    values = np.random.default_rng(0).normal(size=(50, 33))
    result = tally(values, values, tolerance=(0.0, 0.0))
    assert (result.cosine.minimum, result.cosine.maximum) == (1.0, 1.0)
    assert result.sqnr_db.minimum == result.sqnr_db_overall == math.inf
    assert result.max_abs_error == result.max_rel_error == result.outside == 0
    assert result.as_document()["sqnr_db_overall"] is None


def test_rows_of_zeros() -> None:
    zeros, ones = np.zeros((1, 4)), np.ones((1, 4))
    assert tally(zeros, zeros).cosine.minimum == 1.0
    assert tally(zeros, ones).cosine.minimum == 0.0
    beside_nothing = tally(ones, zeros)
    assert beside_nothing.cosine.minimum == 0.0
    assert beside_nothing.sqnr_db.minimum == -math.inf
    assert beside_nothing.max_rel_error == math.inf


def test_a_row_that_is_not_finite_does_not_poison_the_others() -> None:
    wanted = np.ones((3, 2))
    found = wanted.copy()
    found[1, 0] = np.inf
    found[2] += 0.1
    result = tally(found, wanted)
    assert (result.cosine.minimum, result.worst_sample) == (0.0, 1)
    assert result.sqnr_db.minimum == result.sqnr_db.mean == -math.inf
    assert result.sqnr_db_overall == pytest.approx(10 * math.log10(4 / 0.02), rel=1e-5)
    assert result.max_abs_error == pytest.approx(0.1, rel=1e-5)
    assert result.worst_error_sample == 2


def test_only_rows_that_are_not_finite() -> None:
    result = tally([[np.nan, 1.0]], [[1.0, 1.0]], tolerance=(1.0, 1.0))
    assert result.cosine.mean == 0.0
    assert result.sqnr_db_overall == -math.inf
    assert (result.max_abs_error, result.outside, result.outside_samples) == (0.0, 2, 1)


def test_percentiles_are_of_samples() -> None:
    wanted = np.ones((200, 1))
    found = wanted + np.arange(200)[:, np.newaxis]
    result = tally(found, wanted)
    ratios = sorted(-20 * math.log10(error) for error in range(1, 200))
    assert result.sqnr_db.minimum == pytest.approx(ratios[0])
    assert result.sqnr_db.p1 == pytest.approx(ratios[1])
    assert result.sqnr_db.median == pytest.approx(ratios[99])
    assert result.sqnr_db.maximum == math.inf
    assert result.worst_error_sample == 199


def test_whole_numbers_and_large_outputs_go_in_pieces() -> None:
    wanted = np.arange(3 * 700_000, dtype=np.int32).reshape(3, -1)
    found = wanted.copy()
    found[2, -1] = 0
    one = SimilarityTally("y")
    one.add(found, wanted)
    result = one.result()
    assert (result.max_abs_error, result.worst_error_sample, result.samples) == (2_099_999, 2, 3)
    assert result.worst_sample == 2


def test_our_own_mistakes() -> None:
    one = SimilarityTally("y")
    with pytest.raises(ValueError, match="no sample"):
        one.result()
    with pytest.raises(ValueError, match="next to a reference"):
        one.add(np.zeros((1, 2)), np.zeros((2, 2)))
    one.add(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="3 values, before 2"):
        one.add(np.zeros((1, 3)), np.zeros((1, 3)))
