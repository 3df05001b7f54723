"""Comparisons that would say nothing, and advice that fits where it is given."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from droidmace.errors import InputError
from droidmace.workflows.validate_plan import Plan
from tests.workflows.fashion_requests import request

PLUGIN = """
import numpy as np

class AccuracyValidator(object):
    def sample_size(self):
        return 3

    def batch_size(self):
        return 2

    def preprocess(self, start, end, **kwargs):
        return {"image": np.zeros((end - start, 1, 28, 28))}

    def postprocess(self, start, end, outputs, **kwargs):
        pass

    def result(self):
        return "fine"
"""


@pytest.fixture
def unlabelled(tmp_path: Path) -> dict[str, Any]:
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 28, 28), np.uint8))
    return {"arrays": "images.npz"}


def test_outputs_are_not_held_against_themselves(
    tmp_path: Path, unlabelled: dict[str, Any]
) -> None:
    on_cpu = {"runtime": "cpu"}
    with pytest.raises(InputError, match=r"--against cpu: fashion_mnist runs on .* itself"):
        Plan(request(tmp_path, model=on_cpu, samples=unlabelled, against="cpu"))
    with pytest.raises(InputError, match=r"droidmace\.validate\.against: .* itself"):
        Plan(request(tmp_path, model=on_cpu, samples=unlabelled, validate={"against": "cpu"}))
    both = {"runtime": "cpu+gpu"}
    with Plan(request(tmp_path, model=both, samples=unlabelled, against="cpu")) as plan:
        assert plan.compares


def test_a_reference_that_is_missing_is_named_where_it_is_missed(
    tmp_path: Path, unlabelled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"no labels, and nothing .*droidmace\[reference\]"):
        Plan(request(tmp_path, samples=unlabelled))


def test_a_plugin_is_not_told_to_bring_labels(tmp_path: Path) -> None:
    (tmp_path / "validator.py").write_text(PLUGIN)
    with Plan(request(tmp_path, samples={"plugin": "validator.py"})) as plan:
        assert plan.has_classes
        assert plan.warnings == ()


def test_a_label_that_the_model_does_not_know_is_found_before_a_phone_works(
    tmp_path: Path,
) -> None:
    labels = np.array([3, 9, 4, 10])
    np.savez(tmp_path / "images.npz", images=np.zeros((4, 28, 28), np.uint8), labels=labels)
    with pytest.raises(InputError, match=r"images\.npz\[3\] has the label 10, .* 0 to 9") as caught:
        Plan(request(tmp_path, samples={"arrays": "images.npz"}))
    assert "label_offset" in str(caught.value.hint)
    with Plan(request(tmp_path, samples={"arrays": "images.npz", "label_offset": -1})) as plan:
        assert plan.first.label == 2
    with Plan(request(tmp_path, samples={"arrays": "images.npz", "limit": 3})) as plan:
        assert plan.count == 3


@pytest.mark.parametrize(("of_file", "option"), [(4, None), (None, 4), (1, 4)])
def test_more_samples_than_there_are_are_not_silently_fewer(
    tmp_path: Path, unlabelled: dict[str, Any], of_file: int | None, option: int | None
) -> None:
    given = request(tmp_path, samples=unlabelled | ({"limit": of_file} if of_file else {}))
    with pytest.raises(InputError, match="4 samples are asked for, there are 3") as caught:
        Plan(replace(given, limit=option))
    said = "--limit" if option else "droidmace.dataset.limit"
    assert f"lower {said}," in str(caught.value.hint)
