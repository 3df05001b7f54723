"""What a result is called, so that results of another kind are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from droidmace.workflows.validate import _result_name
from tests.workflows.fashion_requests import request


def test_every_kind_of_comparison_has_a_name_of_its_own(tmp_path: Path) -> None:
    place: Any = SimpleNamespace(file_name="net.phone")
    stored = tmp_path / "cpu.npz"
    names = [
        _result_name(replace(request(tmp_path), against=against), place)
        for against in (None, "none", "cpu", str(stored))
    ]
    assert names == [
        "net.phone.validation.json",
        "net.phone.against_none.validation.json",
        "net.phone.against_cpu.validation.json",
        "net.phone.against_cpu.npz.validation.json",
    ]
