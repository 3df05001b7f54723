"""Nets to take apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from droidmace.formats.netdef import MultiNetDef, parse_model
from droidmace.graphs.parts import Dissection

SAMPLES = Path(__file__).parents[1] / "samples"
FASHION = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "fashion_mnist"


@pytest.fixture(params=["tiny", "fashion"])
def files(request: pytest.FixtureRequest) -> tuple[MultiNetDef, bytes]:
    stem = SAMPLES / "tiny_gpu" if request.param == "tiny" else FASHION
    graph = parse_model(stem.with_suffix(".pb").read_bytes())
    return graph, stem.with_suffix(".data").read_bytes()


@pytest.fixture
def dissection(files: tuple[MultiNetDef, bytes]) -> Dissection:
    return Dissection(files[0])
