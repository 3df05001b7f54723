"""The section ``droidmace: gate:``: thresholds that mean something, or a clear word."""

from __future__ import annotations

from pathlib import Path

import pytest

from droidmace.config import GateConfig, load_deployment
from droidmace.config.gate import VERDICTS
from droidmace.errors import ConfigError
from droidmace.results import Verdict

DEPLOYMENT = """
library_name: net
target_abis: [arm64-v8a]
models:
  net:
    platform: onnx
    model_file_path: net.onnx
    subgraphs:
      - {input_tensors: [x], input_shapes: ["1,4"], output_tensors: [y], output_shapes: ["1,2"]}
    runtime: gpu
"""


def gate(tmp_path: Path, text: str) -> GateConfig:
    path = tmp_path / "net.yml"
    path.write_text(f"{DEPLOYMENT}droidmace:\n  gate: {text}\n", "utf-8")
    return load_deployment(path).gate


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    assert gate(tmp_path, "{}") == GateConfig()
    assert gate(tmp_path, "{max_drift: 0.2}") == GateConfig(max_drift=0.2)


def test_all_of_it_can_be_said(tmp_path: Path) -> None:
    text = (
        "{min_startup_gain: 0.2, min_latency_gain: 0.05, min_agreement: 1, min_similarity: 0.9,"
        " max_drift: 0.05, max_slowdown: 0.5, cool_to_c: 40, cool_down_s: 60, accept: [ship]}"
    )
    assert gate(tmp_path, text) == GateConfig(0.2, 0.05, 1.0, 0.9, 0.05, 0.5, 40.0, 60.0, ("ship",))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{min_latency_gain: 1}", "min_latency_gain"),
        ("{min_latency_gain: -0.1}", "min_latency_gain"),
        ("{min_startup_gain: much}", "min_startup_gain"),
        ("{min_agreement: 1.01}", "min_agreement"),
        ("{min_similarity: .nan}", "min_similarity"),
        ("{max_drift: 0}", "max_drift"),
        ("{cool_down_s: 100000}", "cool_down_s"),
        ("{accept: [shipped]}", "unknown verdict 'shipped'"),
        ("{accept: []}", "accept"),
        ("{min_gain: 0.1}", "min_gain"),
        ("[ship]", "gate"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gate(tmp_path, text)
    assert complaint in str(caught.value)
    assert "net.yml" in str(caught.value)


def test_every_verdict_can_be_accepted() -> None:
    assert set(VERDICTS) == {verdict.value for verdict in Verdict}
    assert set(GateConfig().accept) < set(VERDICTS)
