"""What inspect shows, in terminals of several widths."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from droidmace.report.inspect_view import inspection_view
from droidmace.report.text import narrowest, wrapped

HASH = "8a60a7a1354ec0314c884cb119c056abecc578fa01048e0237da091b6ac70aa8"
PROGRAM = "fashion_mnist_compiled_opencl_kernel.MI9.msmnile.bin"


@dataclass(frozen=True)
class Fact:
    label: str
    value: object


@dataclass(frozen=True)
class Column:
    label: str
    detail: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]
    detail: bool = False


@dataclass(frozen=True)
class Inspection:
    path: str = "a/bundle"
    title: str = "bundle"
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = field(default_factory=tuple)


FILES = Section(
    "Artefacts",
    [Column("file"), Column("kind"), Column("bytes"), Column("SHA-256"), Column("x", detail=True)],
    [(PROGRAM, "compiled-program", 267252, HASH, "unseen")],
)
NETS = Section(
    "Nets",
    [Column(name) for name in ("net", "runtime", "memory", "data type", "weight bytes", "layout")],
    [("default_graph", "GPU", "GPU_IMAGE", "DT_FLOAT", 5928, "NHWC")],
)


def shown(inspection: Inspection, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(inspection_view(inspection))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def joined(lines: Sequence[str]) -> str:
    return "".join("".join(lines).split())


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_nothing_is_lost_and_short_words_stay_whole(width: int) -> None:
    lines = shown(Inspection(sections=[NETS]), width)
    words = set(" ".join(lines).split())
    assert {"runtime", "memory", "GPU", "GPU_IMAGE", "DT_FLOAT", "NHWC", "layout"} <= words
    assert {"default_graph"} <= words or {"default_", "graph"} <= words
    assert max(map(len, lines)) <= width


def test_names_break_at_their_joints() -> None:
    lines = shown(Inspection(sections=[FILES]), 80)
    pieces = [line.split()[0] for line in lines if "opencl" in line or "MI9" in line]
    assert pieces
    assert all(piece.endswith(("_", ".", "bin")) for piece in pieces)
    assert "unseen" not in joined(lines)
    assert any("267 252" in line for line in shown(Inspection(sections=[FILES]), 60))


def test_a_table_that_is_too_wide_becomes_a_list() -> None:
    lines = shown(Inspection(sections=[FILES]), 48)
    stripped = [line.strip() for line in lines]
    assert "kind     compiled-program" in stripped
    assert "bytes    267 252" in stripped
    assert HASH in joined(lines).replace("SHA-256", "")
    assert PROGRAM in joined(lines)
    many = Section("Many", [Column("a"), Column("b")], [("first", 1), ("second", 2)])
    assert "first" in " ".join(shown(Inspection(sections=[many]), 12))


@pytest.mark.parametrize("width", [60, 80])
def test_facts_are_folded_beside_their_labels(width: int) -> None:
    info = "QUALCOMM Snapdragon(TM), FULL_PROFILE, OpenCL 2.0 QUALCOMM build: commit #3dad7f8ed7"
    facts = [Fact("SHA-256 of the graph", HASH), Fact("platform info", info), Fact("none", None)]
    lines = shown(Inspection(facts=facts), width)
    assert lines[1].startswith("SHA-256 of the graph  8a60a7")  # no empty line before it
    assert max(map(len, lines)) <= width
    assert HASH in joined(lines)
    told = " ".join(" ".join(lines).split())
    for word in info.split():
        assert word in told
    assert "none" not in told


def test_what_a_file_says_moves_no_cursor() -> None:
    bad = "\x1b[2J[bold]\r"
    section = Section("T", [Column("name")], [(bad,)])
    text = "\n".join(shown(Inspection(facts=[Fact("f", bad)], sections=[section]), 60))
    assert "\x1b" not in text
    assert "[bold]" in text


@given(st.text(st.sampled_from("ab_ ./,-Z9"), max_size=80), st.integers(1, 30))
def test_wrapped_text_is_the_text(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    if text.strip() and text == text.strip():
        assert all(line.strip() for line in lines)


@given(st.lists(st.text(st.sampled_from("abcXYZ019"), min_size=1, max_size=12), min_size=1))
def test_short_words_are_never_broken(words: list[str]) -> None:
    text = " ".join(words)
    lines = wrapped(text, narrowest(text))
    assert [word for line in lines for word in line.split()] == words
