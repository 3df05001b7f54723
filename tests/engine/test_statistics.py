"""The benchmark tables: arithmetic and layout."""

from __future__ import annotations

import dataclasses
import re

from engine_harness import SAMPLES, LogReader

from droidmace.engine.net import OpTiming
from droidmace.engine.stats import OpStatistics, format_table, multiply_adds

_CONV = OpTiming(
    name="conv",
    type="Conv2D",
    start_us=1000,
    end_us=1300,
    output_shape=(1, 4, 4, 8),
    strides=(1, 1),
    paddings=(2, 2),
    dilations=(1, 1),
    kernels=(8, 5, 3, 3),
)
_SOFTMAX = OpTiming(
    name="softmax", type="Softmax", start_us=1400, end_us=1500, output_shape=(1, 1, 1, 8)
)


def _cells(text: str) -> dict[str, list[str]]:
    """Rows by their last cell (the op's name)."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if "|" in line
    ]
    return {row[-1]: row for row in rows}


def _tables(log_reader: LogReader, *runs: list[OpTiming]) -> str:
    statistics = OpStatistics()
    for run in runs:
        statistics.add_run(run)
    statistics.log_tables(log_reader.log)
    return re.sub(r"(?m)^I mace/utils/statistics.cc:343\] ", "", log_reader.text)


def test_table_is_laid_out_as_maces() -> None:
    """The table of a real run, from its own cells."""
    real = (SAMPLES / "logs" / "gpu_benchmark.txt").read_text(encoding="utf-8")
    lines = [line.partition("cc:343] ")[2] for line in real.splitlines() if "cc:343] " in line]
    begin = next(i for i, line in enumerate(lines) if line.endswith("Stat by Op Type")) - 1
    table = lines[begin : begin + 12]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table if "|" in line]
    assert format_table("Stat by Op Type", cells[0], cells[1:]).splitlines() == table


def test_times_are_means_over_runs(log_reader: LogReader) -> None:
    slower = dataclasses.replace(_CONV, start_us=9000, end_us=9500)
    after = dataclasses.replace(_SOFTMAX, start_us=9600, end_us=9700)
    text = _tables(log_reader, [_CONV, _SOFTMAX], [slower, after])
    by_order = _cells(text.split("Sort by Computation Time")[0])
    # (300 + 500) of 1000 us; 8 * 16 * 45 = 5760 multiply-adds in 400 us
    assert by_order["conv"] == [
        "Conv2D",
        "0.000",
        "0.300",
        "0.400",
        "80.000",
        "80.000",
        "0.014",
        "[1,1]",
        "[2,2]",
        "[8,5,3,3]",
        "[1,4,4,8]",
        "[1,1]",
        "conv",
    ]
    assert by_order["softmax"][1:6] == ["0.500", "0.100", "0.100", "20.000", "100.000"]
    assert "|     2 |     0.400 |    0.600 |   0.400 |   0.600 |   0.500 | 100.000 |" in text
    assert text.rstrip().endswith("2 ops total.")


def test_nothing_measured_prints_nothing(log_reader: LogReader) -> None:
    assert _tables(log_reader, []) == ""


def test_multiply_adds_as_mace_counts_them() -> None:
    depthwise = OpTiming(
        "d", "DepthwiseConv2d", 0, 1, output_shape=(1, 16, 16, 16), kernels=(1, 16, 3, 3)
    )
    layer = OpTiming(
        "f", "FullyConnected", 0, 1, output_shape=(1, 1, 1, 10), kernels=(10, 32, 1, 1)
    )
    # the figures of tests/samples/logs/gpu_benchmark.txt
    assert multiply_adds(depthwise) == 36_864
    assert multiply_adds(layer) == 320
    assert multiply_adds(_SOFTMAX) == 0


def test_multiply_adds_of_products_and_transposed_convolutions() -> None:
    """Counted by their outputs, as ``StatMACs`` does."""
    counted = {
        ("Deconv2D", (1, 8, 8, 4), (4, 3, 2, 2)): 256 * 12,
        ("DepthwiseDeconv2d", (1, 8, 8, 4), (1, 4, 2, 2)): 256 * 4,
        ("MatMul", (2, 3, 5), (2, 3, 4)): 30 * 4,
        ("ResizeBilinear", (1, 8, 8, 4), ()): 256 * 3,
        ("BatchNorm", (1, 8, 8, 4), ()): 256,
    }
    for (kind, shape, kernels), expected in counted.items():
        timing = OpTiming("o", kind, 0, 1, output_shape=shape, kernels=kernels)
        assert multiply_adds(timing) == expected, kind


def test_all_outputs_have_their_shapes_in_the_table(log_reader: LogReader) -> None:
    split = OpTiming("s", "Split", 0, 10, output_shape=(1, 2), other_shapes=((1, 3), (1, 4)))
    assert _cells(_tables(log_reader, [split]))["s"][10] == "[1,2:1,3:1,4]"
