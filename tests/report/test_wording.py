"""Numbers in sentences."""

from __future__ import annotations

from droidmace.wording import counted


def test_a_count_and_its_noun() -> None:
    assert [counted(n, "op") for n in range(3)] == ["0 ops", "1 op", "2 ops"]
    assert counted(1, "process", "processes") == "1 process"
    assert counted(7, "process", "processes") == "7 processes"
