"""One session against another: verdicts, what is refused, and files that are none."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import FormatError, InputError
from droidmace.results import DeviceInfo
from droidmace.results.bench import SCHEMA, BenchProcess, BenchResult, Change
from droidmace.workflows.bench_compare import (
    Difference,
    check_comparable,
    compare,
    parse_bench,
    read_bench,
    record_of,
)
from droidmace.workflows.bench_request import BenchSettings

IDENTITY = {
    "model_graph": "a" * 64,
    "model_data": "b" * 64,
    "mace_run": "c" * 64,
    "serial": "one",
    "device_model": "MI 9",
    "soc": "msmnile",
    "gpu": "Adreno (TM) 640",
    "abi": "arm64-v8a",
    "driver": "2021",
}


def session(latency_ms: float, *, count: int = 8, rounds: int = 50, **identity: str) -> BenchResult:
    processes = tuple(
        BenchProcess(100.0 + n, 20.0, latency_ms * (1 + 0.002 * n), hottest_c=45.0, gpu_mhz=585.0)
        for n in range(count)
    )
    return BenchResult(
        device=DeviceInfo("one", "device"),
        model="net",
        identity=IDENTITY | identity,
        settings={"rounds": rounds, "governors_pinned": False},
        processes=processes,
        cold=(BenchProcess(900.0, 800.0), BenchProcess(910.0, 790.0)),
    )


def verdicts(before: BenchResult, after: BenchResult, **options):
    comparison = compare(record_of(before), record_of(after), **options)
    return {one.name: one.change for one in comparison.figures}, comparison


@pytest.mark.parametrize(
    ("after_ms", "change"),
    [(10.0, Change.OPEN), (12.0, Change.SLOWER), (8.0, Change.FASTER), (10.15, Change.OPEN)],
)
def test_what_the_latency_did(after_ms, change):
    found, comparison = verdicts(session(10.0), session(after_ms))
    assert found["latency_ms"] is change
    assert found["first_result_ms"] is Change.OPEN
    assert comparison.slower == (("latency_ms",) if change is Change.SLOWER else ())
    assert comparison.differences == ()
    (latency,) = (one for one in comparison.figures if one.name == "latency_ms")
    assert latency.low <= after_ms / 10 <= latency.high


def test_inferences_of_one_process_tell_nothing_of_the_next():
    # Two processes lie apart by more than the inferences of either.
    before, after = (
        replace(session(10.0), singles_ms=tuple(ms + 0.001 * n for n in range(100)))
        for ms in (1.9, 2.5)
    )
    found, comparison = verdicts(before, after)
    assert found["single_ms"] is Change.OPEN
    (single,) = (one for one in comparison.figures if one.name == "single_ms")
    assert single.ratio == pytest.approx(2.55 / 1.95, rel=0.01)
    assert (single.low, single.high, single.confidence) == (0.0, math.inf, 0.0)


def test_a_session_that_was_not_steady_is_told_of():
    warm = session(10.0)
    processes = warm.processes[:4] + tuple(
        replace(one, run_avg_ms=14.0) for one in warm.processes[4:]
    )
    warm = replace(warm, processes=processes)
    for side, sessions in (("before", (warm, session(10.0))), ("after", (session(10.0), warm))):
        (told,) = verdicts(*sessions)[1].differences
        assert told.startswith(f"{side}, the phone was not steady")


def test_a_gpu_that_sleeps_again_has_no_clock():
    awake = session(10.0)
    processes = tuple(
        replace(one, gpu_mhz=0.0 if n % 4 else 585.0) for n, one in enumerate(awake.processes)
    )
    dozing = replace(awake, processes=processes)
    assert record_of(dozing).gpu_mhz == 585.0
    assert verdicts(awake, dozing)[1].differences == ()


def test_a_tolerance_is_what_counts():
    found, _ = verdicts(session(10.0), session(10.5), tolerance=0.02)
    assert found["latency_ms"] is Change.SLOWER
    found, _ = verdicts(session(10.0), session(10.5), tolerance=0.10)
    assert found["latency_ms"] is Change.OPEN


@pytest.mark.parametrize("counts", [(3, 3), (1, 40), (2, 8), (30, 3)])
def test_too_few_samples_show_nothing(counts):
    before, after = counts
    found, comparison = verdicts(session(10.0, count=before), session(30.0, count=after))
    assert set(found.values()) == {Change.OPEN}
    json.dumps(comparison.as_document(), allow_nan=False)


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ({"model_data": "d" * 64}, Difference.MODEL),
        ({"soc": "kirin990"}, Difference.DEVICE),
        ({"rounds": 5}, Difference.ROUNDS),
    ],
)
def test_sessions_that_measured_something_else_are_refused(other, kind):
    before, after = record_of(session(10.0)), record_of(session(10.0, **other))
    with pytest.raises(InputError, match="measured something else") as refused:
        compare(before, after)
    assert f"--allow-different {kind}" in refused.value.hint
    allowed = compare(before, after, meant=[kind])
    assert allowed.differences[0].startswith(f"{kind} (as allowed)")
    assert check_comparable(before, after.identity, [kind])


def test_what_else_differs_is_told():
    hot = session(10.0, mace_run="e" * 64, serial="two", driver="2022")
    hot = replace(
        hot, processes=tuple(replace(one, hottest_c=60.0, gpu_mhz=400.0) for one in hot.processes)
    )
    _, comparison = verdicts(session(10.0), hot)
    assert set(comparison.differences) == {
        "another mace_run",
        "another phone of its kind",
        "another GPU driver",
        "the chip was 15 °C warmer",
        "the GPU's clock was -32%",
    }


def test_a_file_comes_back(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(session(10.0).as_document()))
    assert read_bench(path).figures == record_of(session(10.0)).figures
    assert read_bench(path).where == str(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "\udcff", "[" * 100_000, "{}", f'{{"schema": "{SCHEMA}"}}', "1e999"]
)
def test_a_file_that_is_none(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError) as refused:
        read_bench(path)
    assert refused.value.where == str(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read") as refused:
        read_bench(tmp_path / "none.json")
    assert "--out FILE" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("identity", "soc"), 5),
        (("settings", "rounds"), "50"),
        (("settings", "rounds"), 10**400),
        (("raw_samples",), None),
        (("raw_samples", "processes"), []),
        (("raw_samples", "processes", 0), {"init_ms": 1}),
        (("raw_samples", "processes", 0, "run_avg_ms"), -1),
        (("raw_samples", "processes", 0, "run_avg_ms"), True),
        (("raw_samples", "processes", 0, "hottest_c"), float("inf")),
        pytest.param(("raw_samples", "processes", 0, "hottest_c"), 10**400, id="huge"),
        (("raw_samples", "processes", 0, "gpu_mhz"), "585"),
        (("raw_samples", "processes"), [{}] * 2000),
        (("raw_samples", "singles_ms"), [0]),
    ],
)
def test_a_document_with_one_thing_wrong(keys, value):
    document = json.loads(json.dumps(session(10.0).as_document()))
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(FormatError) as refused:
        parse_bench(document, where="a.json")
    assert str(keys[0]) in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def values(place):
    return place.values() if isinstance(place, dict) else place


@settings(max_examples=200)
@given(st.data())
def test_any_value_anywhere_is_taken_or_refused(data):
    document = copy.deepcopy(json.loads(json.dumps(session(10.0, count=2).as_document())))
    place = document
    for _ in range(data.draw(st.integers(0, 3))):
        inner = [one for one in values(place) if isinstance(one, dict | list) and one]
        if not inner:
            break
        place = data.draw(st.sampled_from(inner))
    key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else [0]))
    place[key] = data.draw(JSON)
    try:
        record = parse_bench(document, where="x")
    except FormatError:
        return
    assert all(0 < value < 1e13 for samples in record.figures.values() for value in samples)


def test_other_runtimes_are_told():
    before, after = session(10.0, runtimes="CPU, GPU"), session(10.0, runtimes="CPU")
    assert "other runtimes" in verdicts(before, after)[1].differences


def test_the_cold_starts_that_are_made_unless_told_can_be_judged():
    def starts(init_ms: float) -> tuple[BenchProcess, ...]:
        return tuple(BenchProcess(init_ms + n, 800.0) for n in range(BenchSettings().cold_runs))

    before = replace(session(10.0), cold=starts(900.0))
    after = replace(session(10.0), cold=starts(9000.0))
    assert verdicts(before, after)[0]["cold_first_result_ms"] is Change.SLOWER
