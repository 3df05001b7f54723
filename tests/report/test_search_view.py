"""What a search found, in terminals of several widths."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console, RenderableType

from droidmace.report.search_view import SHOWN_WINNERS, blocks_text, search_view
from droidmace.report.text import shortened
from droidmace.results import KernelWinner, LatencyBlock, SearchPoint, SearchSummary

WINNERS = (
    KernelWinner("conv2d_1x1_opencl_kernel_1_14_14_96", (24, 4, 8, 0), "search", 1.112, 0.828),
    KernelWinner("depthwise_conv2d_ocl_kernel_24_4_14_1", None, "default", 0.42, 0.42),
    KernelWinner("eltwise_[bold]\x1b[2J_1", (4, 4, 14, 0), "phone", 0.2875, 0.139),
)
SUMMARY = SearchSummary(
    strategy="deep",
    processes=40,
    evaluations=412,
    refused=3,
    failed=0,
    resumed_runs=12,
    wall_s=30.0,
    mace_run_s=29.1,
    untuned_ms=71.3,
    mace_ms=60.2,
    best_ms=58.1,
    curve=(SearchPoint(10.0, 100, 71.0), SearchPoint(30.0, 412, 58.1)),
    winners=WINNERS,
)


def shown(view: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def row_of(text: str, start: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_effort_and_totals_are_told() -> None:
    text = words(shown(search_view(SUMMARY), 120))
    assert "search (deep)" in text
    assert "412 evaluations in 40 processes (3 refused, 12 from the journal)" in text
    assert "30 s, 97% of it mace_run" in text
    assert "untuned 71.3 ms, phone's tuner 60.2 ms (−15.6%), found 58.1 ms (−18.5%)" in text  # noqa: RUF001
    assert "best so far: ▇" in text or "best so far: █" in text
    alone = dataclasses.replace(SUMMARY, mace_ms=None, curve=(), winners=(), repeats=3)
    text = words(shown(search_view(alone), 120))
    assert "phone's tuner" not in text
    assert "best so far" not in text
    assert "3 searches" in text


def test_winners_stand_in_the_order_of_their_time() -> None:
    text = shown(search_view(SUMMARY), 120)
    assert row_of(text, "conv2d_1x1_1_14_14_96")[1:] == [
        "1.11", "0.828", "−25.5%", "24,4,8,0", "search",  # noqa: RUF001
    ]  # fmt: skip
    assert row_of(text, "depthwise_conv2d_24_4_14_1")[1:] == [
        "0.42", "0.42", "-", "default",
    ]  # fmt: skip
    assert "votes" not in text
    assert text.index("conv2d_1x1") < text.index("depthwise") < text.index("eltwise")
    assert "\x1b" not in text
    assert "eltwise_[bold]" in text


@pytest.mark.parametrize("width", [60, 80])
def test_narrow_terminals_break_no_row(width: int) -> None:
    voted = tuple(dataclasses.replace(one, stability=0.5, votes=4) for one in WINNERS)
    text = shown(search_view(dataclasses.replace(SUMMARY, winners=voted)), width)
    row = row_of(text, "conv2d_1x1_1_14_14_96")
    assert row[-1] == "2/4"
    assert "24,4,8,0" in row
    assert ("search" in row) == (width == 80)
    assert "24_4_14_1" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_many_winners_are_cut_and_counted() -> None:
    many = tuple(KernelWinner(f"key_{n}", (n,), "search", 2.0 * n + 1, float(n)) for n in range(30))
    text = shown(search_view(dataclasses.replace(SUMMARY, winners=many)))
    assert "key_29" in text
    assert f"{30 - SHOWN_WINNERS} kernels that take less" in text
    assert "key_3 " not in text


def test_blocks_tell_what_does_not_count() -> None:
    block = LatencyBlock((4.8, 5.2), (3.5, 3.6), hottest_c=41.0, gpu_mhz=585.0)
    lines = blocks_text(
        [
            block,
            block.as_thrown_out("its outer processes differ by +12.0%"),
            dataclasses.replace(block, hottest_c=55.0),
        ]
    )
    assert lines == [
        "latency: 2 of 3 blocks of four processes count; "
        "block 2 thrown out: its outer processes differ by +12.0%",
        "meanwhile: chip 41 to 55 °C, GPU 585 MHz",
    ]
    # A phone that is not steady throws out many: one line for all of them.
    unsteady = [block, *(block.as_thrown_out(f"reason {number}") for number in range(9))]
    assert blocks_text(unsteady)[:-1] == [
        "latency: 1 of 10 blocks of four processes count; why 9 were thrown out is in results.json"
    ]
    assert len(blocks_text([LatencyBlock((1.0, 1.0), (1.0, 1.0))])) == 1
    assert blocks_text([]) == []


@pytest.mark.parametrize(
    ("width", "expected"), [(0, ""), (1, "…"), (2, "…j"), (5, "a…hij"), (10, "abcdefghij")]
)
def test_texts_are_shortened_in_their_middle(width: int, expected: str) -> None:
    assert shortened("abcdefghij", width) == expected
