"""The tables below the run order: real output, and any text."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from droidmace.macerun.op_summary import MAX_TYPES, OpSummaryReader
from droidmace.macerun.output import OutputParser
from droidmace.results.bench import OpTypeStat

LOG = Path(__file__).parents[1] / "samples" / "logs" / "gpu_benchmark.txt"
FRAGMENTS = st.sampled_from(
    [
        "Stat by Op Type",
        "Stat by MACs(Multiply-Accumulation)",
        "Summary of Ops' Stat",
        "| Op Type | Count | Avg(ms) | MACs |",
        "| Conv2D | 2 | 0.194 | 241,664 |",
        "| total | round |",
        "| round | first(ms) | avg(ms) |",
        "| 10 | 0.5 | 0.4 |",
        "-----",
        "",
    ]
)


def read(lines):
    reader = OpSummaryReader()
    for line in lines:
        reader.line(line)
    return reader


def texts(data: bytes) -> list[str]:
    lines = OutputParser().feed(data)
    return [line.log.text for line in lines if line.log is not None]


def test_a_real_table():
    reader = read(texts(LOG.read_bytes()))
    assert reader.by_type[0] == OpTypeStat("Conv2D", 2, 0.194, 241_664)
    assert [one.op_type for one in reader.by_type] == [
        "Conv2D", "DepthwiseConv2d", "FullyConnected", "BufferTransform", "Reduce", "Softmax",
    ]  # fmt: skip
    assert sum(one.macs for one in reader.by_type) == reader.macs == 278_848
    assert reader.rounds == 10
    times = [reader.total_ms(column) for column in ("first", "min", "max", "avg")]
    assert times == [0.563, 0.351, 0.563, 0.387]


def test_of_two_reports_the_last_counts():
    once = texts(LOG.read_bytes())
    twice = read([*once, *(line.replace("241,664", "7") for line in once)])
    assert len(twice.by_type) == 6
    assert twice.by_type[0].macs == 7


def test_without_tables_nothing_is_known():
    reader = read(["Average latency: 1 ms", "| Op Type | Count |", "| Conv2D | 2 |"])
    assert (reader.by_type, reader.macs, reader.rounds, reader.total_ms("avg")) == (
        (),
        None,
    ) + (None,) * 2


def test_no_more_rows_are_kept_than_there_can_be_types():
    head = ["Stat by Op Type", "| Op Type | Count | Avg(ms) | MACs |"]
    reader = read([*head, *(f"| T{n} | 1 | 0.1 | 0 |" for n in range(MAX_TYPES + 5))])
    assert len(reader.by_type) == MAX_TYPES


@given(st.lists(FRAGMENTS | st.text(max_size=60), max_size=40))
def test_any_text_is_read_without_complaint(lines):
    reader = read(lines)
    for one in reader.by_type:
        assert one.count >= 0
        assert one.avg_ms >= 0
        assert one.macs >= 0
    for value in (reader.macs, reader.rounds, reader.total_ms("avg")):
        assert value is None or value >= 0


@given(
    st.lists(
        st.tuples(st.text("abcXYZ2", min_size=1, max_size=12), st.integers(0, 10**15)), max_size=20
    )
)
def test_whatever_mace_writes_comes_back(rows):
    head = ["--", "  Stat by Op Type", "--", "| Op Type | Count | Avg(ms) | MACs |", "--"]
    table = [f"| {name} | 1 | 0.250 | {macs:,} |" for name, macs in rows]
    reader = read([*head, *table, "--"])
    assert [(one.op_type, one.macs) for one in reader.by_type] == rows
