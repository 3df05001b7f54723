"""The picture of a search, and its line in the terminal."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.report.curve import best_so_far_svg, change, duration, sparkline
from droidmace.results import SearchPoint, SearchSummary

SVG = "{http://www.w3.org/2000/svg}"
CURVE = tuple(SearchPoint(2.0 * n, 10 * n, 71.3 - n) for n in range(1, 12))


def summary(**changes: Any) -> SearchSummary:
    settings: dict[str, Any] = {
        "strategy": "guided",
        "processes": 40,
        "evaluations": 110,
        "refused": 3,
        "failed": 1,
        "resumed_runs": 0,
        "wall_s": 22.0,
        "mace_run_s": 21.0,
        "untuned_ms": 71.3,
        "mace_ms": 65.0,
        "best_ms": 60.3,
        "curve": CURVE,
        "winners": (),
    }
    return SearchSummary(**(settings | changes))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def path_of_best(svg: str) -> str:
    [path] = [
        element.attrib["d"]
        for element in ET.fromstring(svg).iter(f"{SVG}path")
        if element.attrib["class"] == "best"
    ]
    return path


def test_the_picture_names_its_marks_and_scales() -> None:
    svg = best_so_far_svg(summary(), title="net on MI 9")
    shown = texts(svg)
    assert "net on MI 9" in shown
    assert "untuned 71.3" in shown
    assert "phone's tuner 65, −8.8%" in shown  # noqa: RUF001
    assert "found 60.3, −15.4%" in shown  # noqa: RUF001
    assert {"ms", "s", "evaluations", "0", "100"} <= set(shown)
    assert "phone's tuner" not in " ".join(texts(best_so_far_svg(summary(mace_ms=None), "net")))


def test_the_line_goes_in_steps_from_the_first_to_the_last_total() -> None:
    path = path_of_best(best_so_far_svg(summary(), "net"))
    assert re.fullmatch(r"M[\d.]+ [\d.]+(H[\d.]+V[\d.]+){10}H[\d.]+", path)
    heights = [float(y) for y in re.findall(r"V([\d.]+)", path)]
    assert heights == sorted(heights)  # a smaller total stands lower in the picture
    assert path.endswith("H590.0")
    flat = [SearchPoint(float(n), n, 5.0) for n in range(1, 1000)]
    assert len(path_of_best(best_so_far_svg(summary(curve=tuple(flat)), "net"))) < 40


def test_the_picture_needs_nothing_from_elsewhere_and_knows_the_dark() -> None:
    svg = best_so_far_svg(summary(), "net")
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"<script|href|url\(|@import|@font-face|<!", svg)
    assert len(svg) < 10_000


@pytest.mark.parametrize("title", ["<script>alert(1)</script>", "a & b]]>", "\x00\x1b[31m\ufffe"])
def test_titles_are_escaped(title: str) -> None:
    svg = best_so_far_svg(summary(), title)
    assert "<script" not in svg
    assert "\x1b" not in svg
    texts(svg)


def test_a_search_that_measured_nothing_is_drawn_as_that() -> None:
    none = summary(curve=(), untuned_ms=math.inf, best_ms=math.nan, mace_ms=None)
    assert "nothing was measured" in texts(best_so_far_svg(none, "net"))
    assert sparkline(none) == ""


NUMBERS = st.floats(0, 1e9) | st.sampled_from([math.inf, math.nan])


@given(
    st.text(max_size=120),
    st.lists(st.builds(SearchPoint, NUMBERS, st.integers(0, 10**9), NUMBERS), max_size=20),
    NUMBERS,
    NUMBERS | st.none(),
    NUMBERS,
)
def test_any_search_is_drawn(
    title: str, curve: list[SearchPoint], untuned: float, mace: float | None, best: float
) -> None:
    of = summary(curve=tuple(curve), untuned_ms=untuned, mace_ms=mace, best_ms=best)
    svg = best_so_far_svg(of, title)
    drawn = ET.fromstring(svg)
    drawing = " ".join(element.attrib.get("d", "") for element in drawn.iter())
    assert "nan" not in drawing
    assert "inf" not in drawing
    for element in drawn.iter(f"{SVG}text"):
        assert 0 <= float(element.attrib["x"]) <= 800
        assert 0 <= float(element.attrib["y"]) <= 400
    assert len(sparkline(of, 30)) in (0, 30)


def test_the_line_of_text_falls_with_the_total() -> None:
    line = sparkline(summary(), 11)
    assert line[0] == "▇"  # one step below untuned, where the scale ends
    assert line[-1] == "▁"
    assert list(line) == sorted(line, reverse=True)
    assert sparkline(summary(curve=(SearchPoint(1.0, 4, 71.3),)), 3) == "▁▁▁"


def test_words_for_changes_and_times() -> None:
    assert change(50.0, 100.0) == "−50.0%"  # noqa: RUF001
    assert change(101.0, 100.0) == "+1.0%"
    assert change(1.0, 0.0) == change(math.inf, 1.0) == ""
    assert [duration(s) for s in (0.25, 59.0, 600.0, 9000.0)] == [
        "0.25 s",
        "59 s",
        "10 min",
        "2.5 h",
    ]
