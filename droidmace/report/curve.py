"""How a search came to its result: the best total so far as a picture and as a line of text."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from droidmace.results import SearchPoint, SearchSummary
from droidmace.wording import printable

_WIDTH, _HEIGHT = 800, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 590, 84, 346
_LABEL_STEP = 17
_MAX_TITLE = 90
_BARS = "▁▂▃▄▅▆▇█"
_SHORTEST_S = 0.01
_MINUTE_S, _HOUR_S = 60.0, 3600.0

# Dark on light, and the other way round where the viewer asks for that. Plain rules only: many
# viewers know no CSS variables.
_LIGHT = {
    "page": "#ffffff", "title": "#1f2328", "soft": "#59636e", "grid": "#d8dee4",
    "best": "#0969da", "untuned": "#9a3412", "phone": "#7c5e10", "final": "#1a7f37",
}  # fmt: skip
_DARK = {
    "page": "#0d1117", "title": "#f0f6fc", "soft": "#9198a1", "grid": "#30363d",
    "best": "#58a6ff", "untuned": "#ff9b6a", "phone": "#e3b341", "final": "#56d364",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Mark:
    """A total that stands for the whole search."""

    kind: str
    label: str
    total_ms: float


@dataclass(frozen=True, slots=True)
class _Scale:
    """A linear scale from values to places in the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def best_so_far_svg(summary: SearchSummary, title: str) -> str:
    """A search as a standalone SVG picture: the best total (ms) over the evaluations.

    Horizontal marks: untuned, the phone's own tuner where it ran, and what was found. The upper
    scale is wall time. Needs no fonts or scripts of its own, and follows the viewer's colour
    scheme.
    """
    points = _points(summary)
    marks = _marks(summary)
    totals = [point.best_ms for point in points] + [mark.total_ms for mark in marks]
    across = _Scale(0.0, max(points[-1].evaluations if points else 0, 1), _LEFT, _RIGHT)
    up = _Scale(*_padded(totals), _BOTTOM, _TOP)
    shown = printable(title)
    shown = shown if len(shown) <= _MAX_TITLE else shown[: _MAX_TITLE - 1] + "…"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' width="{_WIDTH}" height="{_HEIGHT}" role="img">',
        f"<title>{escape(shown)}</title>",
        f"<desc>{escape(_description(summary))}</desc>",
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
        _text(_LEFT, 26, shown, "title"),
        *_scales(points, across, up),
        *_drawn_marks(marks, up),
    ]
    if points:
        parts.append(f'<path class="best" d="{_steps(points, across, up)}"/>')
    else:
        parts.append(
            _text((_LEFT + _RIGHT) / 2, _BOTTOM - 12, "nothing was measured", "soft", "middle")
        )
    return "\n".join([*parts, "</svg>", ""])


def sparkline(summary: SearchSummary, width: int = 40) -> str:
    """The same in one line: a bar for each ``1 / width`` of the evaluations; empty without any."""
    points = _points(summary)
    if not points or width < 1:
        return ""
    evaluations = [point.evaluations for point in points]
    first = summary.untuned_ms if math.isfinite(summary.untuned_ms) else points[0].best_ms
    values = []
    for column in range(1, width + 1):
        reached = bisect.bisect_right(evaluations, evaluations[-1] * column / width)
        values.append(points[reached - 1].best_ms if reached else first)
    low, high = min(values), max(*values, first)
    span = high - low
    return "".join(
        _BARS[round((value - low) / span * (len(_BARS) - 1)) if span > 0 else 0] for value in values
    )


def figure(value: float) -> str:
    """Four significant digits: more would be noise."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def change(after: float, before: float) -> str:
    """By how much ``after`` differs from ``before``, in percent; empty where that has no sense."""
    if not (math.isfinite(after) and math.isfinite(before) and before > 0):
        return ""
    return f"{100 * (after / before - 1):+.1f}%".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.3g} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.3g} min"
    return f"{seconds / _HOUR_S:.3g} h"


def _style() -> str:
    return (
        "text{font:12px system-ui,sans-serif}text.title{font-size:15px;font-weight:600}"
        "path{fill:none;stroke-width:1}path.best{stroke-width:2;stroke-linejoin:round}"
        "path.mark{stroke-width:1.5;stroke-dasharray:5 4}"
        f"{_colours(_LIGHT)}@media (prefers-color-scheme:dark){{{_colours(_DARK)}}}"
    )


def _colours(of: Mapping[str, str]) -> str:
    filled = "".join(
        f"{'rect' if kind == 'page' else 'text'}.{kind}{{fill:{colour}}}"
        for kind, colour in of.items()
    )
    drawn = "".join(f"path.{kind}{{stroke:{colour}}}" for kind, colour in of.items())
    return filled + drawn


def _points(summary: SearchSummary) -> list[SearchPoint]:
    """Those that can be drawn, in the order of evaluations."""
    known = [
        point
        for point in summary.curve
        if math.isfinite(point.best_ms) and math.isfinite(point.wall_s)
    ]
    return sorted(known, key=lambda point: point.evaluations)


def _marks(summary: SearchSummary) -> list[_Mark]:
    found = [_Mark("untuned", "untuned", summary.untuned_ms)]
    if summary.mace_ms is not None:
        found.append(_Mark("phone", "phone's tuner", summary.mace_ms))
    found.append(_Mark("final", "found", summary.best_ms))
    return [mark for mark in found if math.isfinite(mark.total_ms)]


def _description(summary: SearchSummary) -> str:
    words = [f"{mark.label} {figure(mark.total_ms)} ms" for mark in _marks(summary)]
    return f"{summary.evaluations} evaluations by {summary.strategy}: {', '.join(words)}"


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with air around it, never empty."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    # Totals that differ by rounding only are one.
    air = max(0.08 * (high - low), 1e-6 * abs(high), 1e-6)
    return low - air, high + air


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round values within the range: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _scales(points: Sequence[SearchPoint], across: _Scale, up: _Scale) -> Iterator[str]:
    for value in _ticks(up.low, up.high, 5):
        y = up(value)
        yield _line(_LEFT, y, _RIGHT, y, "grid")
        yield _text(_LEFT - 8, y + 4, f"{value:.6g}", "soft", "end")
    yield _text(_LEFT - 8, _TOP - 12, "ms", "soft", "end")
    for value in _ticks(across.low, across.high, 6):
        if value == int(value):
            yield _line(across(value), _BOTTOM, across(value), _BOTTOM + 5, "grid")
            yield _text(across(value), _BOTTOM + 20, f"{value:.0f}", "soft", "middle")
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 40, "evaluations", "soft", "middle")
    yield _line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "grid")
    yield from _times(points, across)


def _times(points: Sequence[SearchPoint], across: _Scale) -> Iterator[str]:
    """The upper scale: when the search was where; evaluations do not come at an even pace."""
    last_s = max((point.wall_s for point in points), default=0.0)
    if last_s < _SHORTEST_S:
        return
    unit_s, unit = (
        (1.0, "s")
        if last_s < 3 * _MINUTE_S
        else (_MINUTE_S, "min") if last_s < 3 * _HOUR_S else (_HOUR_S, "h")
    )  # fmt: skip
    yield _text(_LEFT - 8, _TOP - 34, unit, "soft", "end")
    yield _line(_LEFT, _TOP - 26, _RIGHT, _TOP - 26, "grid")
    free_from = -math.inf
    for value in _ticks(0.0, last_s / unit_s, 6):
        x = across(_evaluations_at(points, value * unit_s))
        if x < free_from:
            continue
        free_from = x + 34
        yield _line(x, _TOP - 30, x, _TOP - 26, "grid")
        yield _text(x, _TOP - 34, f"{value:.4g}", "soft", "middle")


def _evaluations_at(points: Sequence[SearchPoint], wall_s: float) -> float:
    before_s, before = 0.0, 0
    for point in points:
        if point.wall_s >= wall_s:
            span_s = point.wall_s - before_s
            share = (wall_s - before_s) / span_s if span_s > 0 else 1.0
            return before + max(share, 0.0) * (point.evaluations - before)
        before_s, before = point.wall_s, point.evaluations
    return before


def _drawn_marks(marks: Sequence[_Mark], up: _Scale) -> Iterator[str]:
    """Lines across, each with its name beside it; names keep their distance from each other."""
    untuned_ms = next((one.total_ms for one in marks if one.kind == "untuned"), math.nan)
    ordered = sorted(marks, key=lambda one: up(one.total_ms))
    places: list[float] = []
    for mark in ordered:
        lowest = places[-1] + _LABEL_STEP if places else _TOP
        places.append(max(up(mark.total_ms) + 4, lowest))
    overhang = max(places[-1] - (_BOTTOM + 4), 0.0) if places else 0.0
    for mark, place in zip(ordered, places, strict=True):
        y = up(mark.total_ms)
        yield _line(_LEFT, y, _RIGHT, y, f"mark {mark.kind}")
        words = f"{mark.label} {figure(mark.total_ms)}"
        if mark.kind != "untuned" and (gain := change(mark.total_ms, untuned_ms)):
            words += f", {gain}"
        yield _text(_RIGHT + 8, place - overhang, words, mark.kind)


def _steps(points: Sequence[SearchPoint], across: _Scale, up: _Scale) -> str:
    """A total holds until the next evaluation brings another one."""
    first = points[0]
    height = f"{up(first.best_ms):.1f}"
    path = [f"M{across(first.evaluations):.1f} {height}"]
    for point in points[1:]:
        new = f"{up(point.best_ms):.1f}"
        if new != height:
            path.append(f"H{across(point.evaluations):.1f}V{new}")
            height = new
    path.append(f"H{across(points[-1].evaluations):.1f}")
    return "".join(path)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str = "soft", anchor: str = "") -> str:
    attributes = f' class="{kind}"'
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'
