"""What a call of tune does before a phone is asked anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from droidmace.cli import build_app
from droidmace.errors import DeviceNotFoundError
from droidmace.workflows import tune, tune_request

FASHION = Path(__file__).parents[2] / "configs" / "fashion_mnist.yml"


def test_samples_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[int] = []
    load_samples = tune_request.load_samples

    def load(*given: Any) -> Any:
        samples = load_samples(*given)
        read.append(samples.size_bytes)
        return samples

    def find_workplace(*_: object, needed_bytes: int) -> None:
        assert needed_bytes > 2 * read[0] > 0
        raise DeviceNotFoundError("it is gone", serial="x")

    monkeypatch.setattr(tune_request, "load_samples", load)
    monkeypatch.setattr(tune, "find_workplace", find_workplace)
    arguments = ["tune", "-c", str(FASHION), "-s", "x", "--limit", "3", "--out", str(tmp_path)]
    result = CliRunner().invoke(build_app(), arguments)
    assert isinstance(result.exception, DeviceNotFoundError), result
    assert len(read) == 1
