"""A journal from elsewhere is replayed, or is one clear error; it breaks no strategy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from droidmace.errors import FormatError
from droidmace.tuning.journal import read_journal
from droidmace.tuning.replay import replay
from droidmace.tuning.strategies.catalogue import make_strategy

GOOD = [2, 4, 1, 0]


def journal(path: Path, odd: list[int], odd_ms: float = 2.0) -> Path:
    key = {"key": "conv2d_1x1_opencl_kernel_1_8_8_8", "gws": [2, 8, 8]}
    lines: list[dict[str, object]] = [
        {"journal": 1, "identity": {}},
        {"groups": [{"name": "g", "ops": ["g"], "keys": [key]}]},
        {"winner": key["key"], "values": odd},
    ]
    for params, time_ms in ((None, 1.0), (GOOD, 0.5), (odd, odd_ms)):
        lines.append(
            {"run": 0, "status": "ok", "rounds": 1, "choices": [[params]], "ms": [time_ms]}
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize("strategy", ["guided", "random", "mace", "exhaustive"])
@pytest.mark.parametrize("odd", [[], [7], [1] * 64, [0, 0, 0, 0], [4294967295] * 4])
def test_odd_values_break_no_strategy(tmp_path: Path, strategy: str, odd: list[int]) -> None:
    content = read_journal(journal(tmp_path / "a.jsonl", odd))
    report = replay(content, strategy, lambda seed: make_strategy(strategy, seed), 20, repeats=2)
    assert report.best_ms == 0.5
    # What is no size is no anchor of a search that goes on either.
    phones = [plan["g"][0] for plan in content.anchors[1:]]
    assert phones == ([tuple(odd)] if len(odd) == 4 and min(odd) else [])


def test_time_that_cannot_be_summed_is_damage(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="line 6: ms is not a time"):
        read_journal(journal(tmp_path / "a.jsonl", GOOD, 1e308))
