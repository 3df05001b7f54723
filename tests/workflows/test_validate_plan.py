"""What of a validation is refused before a phone is asked anything."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from droidmace.errors import ConfigError, InputError, MissingExtraError
from droidmace.workflows import validate_plan
from droidmace.workflows.validate import validate
from droidmace.workflows.validate_plan import Plan, _is_vector
from tests.workflows.fashion_requests import document, request, subgraph


@pytest.fixture
def no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((3, 28, 28), np.uint8))
    return path


ASKING: dict[str, dict[str, Any]] = {
    "--against": {"against": "reference"},
    "droidmace.validate.against": {"validate": {"against": "reference"}},
    "validation_threshold of fashion_mnist": {"model": {"validation_threshold": {"GPU": 0.9}}},
    "the gate cosine": {"validate": {"gates": {"cosine": 0.9}}},
    "the gate agreement": {"validate": {"gates": {"top1": 0.5, "agreement": 0.9}}},
}


@pytest.mark.parametrize("asked_by", ASKING)
@pytest.mark.usefixtures("no_onnxruntime")
def test_a_comparison_that_is_asked_for_is_not_left_out(tmp_path: Path, asked_by: str) -> None:
    with pytest.raises(MissingExtraError) as caught:
        Plan(request(tmp_path, **ASKING[asked_by]))
    assert "droidmace[reference]" in str(caught.value.hint)
    assert f"{asked_by} asks for a comparison" in str(caught.value.hint)


@pytest.mark.parametrize("asked_by", ASKING)
def test_a_comparison_needs_an_onnx_model(tmp_path: Path, asked_by: str) -> None:
    given: dict[str, Any] = dict(ASKING[asked_by])
    (tmp_path / "net.pb").write_bytes(b"")
    given["model"] = {
        "platform": "tensorflow",
        "model_file_path": str(tmp_path / "net.pb"),
        **given.get("model", {}),
    }
    with pytest.raises(ConfigError, match=f"{asked_by} asks for a comparison.* no ONNX model"):
        Plan(request(tmp_path, **given))


@pytest.mark.usefixtures("no_onnxruntime")
@pytest.mark.parametrize(
    "given", [{}, {"model": {"validation_threshold": {"CPU": 0.9}}}, {"against": "none"}]
)
def test_the_default_comparison_may_be_missing(tmp_path: Path, given: dict[str, Any]) -> None:
    with Plan(request(tmp_path, **given)) as plan:
        assert not plan.compares
        assert any("onnxruntime" in said for said in plan.warnings) == ("against" not in given)


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_threshold_that_is_set_aside_is_told(tmp_path: Path) -> None:
    given = request(tmp_path, model={"validation_threshold": {"GPU": 0.9}}, against="none")
    with Plan(given) as plan:
        assert any("validation_threshold of fashion_mnist" in said for said in plan.warnings)


@pytest.mark.parametrize(
    ("gates", "complaint"),
    [({"cosine": 0.9}, "the gate cosine needs something"), ({"top1_loss": 0.1}, "top1_loss needs")],
)
def test_a_gate_without_a_comparison_is_refused(
    tmp_path: Path, gates: dict[str, float], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        Plan(request(tmp_path, validate={"gates": gates}, against="none"))


@pytest.mark.parametrize("gate", ["top1", "top5", "top1_loss"])
def test_a_gate_without_labels_is_refused(tmp_path: Path, unlabelled: Path, gate: str) -> None:
    with pytest.raises(InputError, match=f"the gate {gate} needs labels"):
        Plan(request(tmp_path, validate={"gates": {gate: 0.5}}, dataset=unlabelled))


def test_agreement_needs_no_labels(tmp_path: Path, unlabelled: Path) -> None:
    given = request(tmp_path, validate={"gates": {"agreement": 0.5}}, dataset=unlabelled)
    with Plan(given) as plan:
        assert plan.has_classes
        assert any("droidmace.dataset.labels, or with --dataset" in told for told in plan.warnings)


def test_a_share_of_the_first_few_needs_more_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many as the example's model has.
    monkeypatch.setattr(validate_plan, "TOP", 10)
    with pytest.raises(InputError, match="top5 needs more than 10 classes, and there are 10"):
        Plan(request(tmp_path, validate={"gates": {"top5": 0.9}}, against="none"))


def test_neither_labels_nor_a_reference(tmp_path: Path, unlabelled: Path) -> None:
    with pytest.raises(InputError, match="no labels, and nothing"):
        Plan(request(tmp_path, dataset=unlabelled, against="none"))


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 10), True), ((1, 1, 1, 1001), True), ((1, 2, 5, 1), False), ((1, 1), False)],
)
def test_without_labels_only_a_list_of_values_is_taken_for_classes(
    shape: tuple[int, ...], *, classes: bool
) -> None:
    assert _is_vector(shape) == classes


def test_too_few_stored_outputs_are_refused(tmp_path: Path, unlabelled: Path) -> None:
    stored = stored_outputs(tmp_path, rows=2)
    with pytest.raises(InputError, match="outputs of 2 samples, and 3 are asked for") as caught:
        Plan(request(tmp_path, against=str(stored), dataset=unlabelled))
    assert "--limit 2" in str(caught.value.hint)


def stored_outputs(tmp_path: Path, *, rows: int) -> Path:
    path = tmp_path / "outputs.npz"
    np.savez(path, probabilities=np.zeros((rows, 10), np.float32))
    return path


def test_a_plan_that_fails_closes_what_it_opened(tmp_path: Path, unlabelled: Path) -> None:
    given = request(
        tmp_path,
        validate={"gates": {"top1": 0.5}},
        against=str(stored_outputs(tmp_path, rows=3)),
        dataset=unlabelled,
    )
    # The error keeps the plan alive by its traceback: nothing is closed for want of a reference.
    with pytest.raises(InputError, match="the gate top1 needs labels") as caught:
        Plan(given)
    assert caught.tb is not None
    assert _open_below(tmp_path) == []


def test_a_plan_that_is_left_closes_what_it_opened(tmp_path: Path, unlabelled: Path) -> None:
    stored = stored_outputs(tmp_path, rows=3)
    with Plan(request(tmp_path, against=str(stored), dataset=unlabelled)):
        assert _open_below(tmp_path) != []
    assert _open_below(tmp_path) == []


def _open_below(folder: Path) -> list[Path]:
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [target for link in links if (target := link.readlink()).is_relative_to(folder)]


def test_outputs_are_kept_under_a_name_that_says_what_they_are(tmp_path: Path) -> None:
    given = replace(request(tmp_path), save_outputs=tmp_path / "outputs.bin")
    with pytest.raises(InputError, match=r"kept as \.npz"):
        validate(given, lambda _: None)


def test_places_that_cannot_be_written_are_refused_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    below = tmp_path / "file" / "outputs.npz"
    given = request(tmp_path)
    for wrong in (replace(given, out_dir=below), replace(given, save_outputs=below)):
        with pytest.raises(InputError, match="cannot be written to"):
            validate(wrong, lambda _: None)


@pytest.mark.parametrize("asked", [False, True])
def test_too_few_stored_outputs_are_an_error_only_if_asked_for(tmp_path: Path, asked: bool) -> None:
    one = tmp_path / "one.bin"
    np.zeros(10, "<f4").tofile(one)
    (tmp_path / "net.pb").write_bytes(b"")
    model = {
        "platform": "tensorflow",
        "model_file_path": str(tmp_path / "net.pb"),
        "subgraphs": [{**subgraph(), "validation_outputs_data": [str(one)]}],
    }
    given = request(tmp_path, model=model, against="reference" if asked else None)
    if asked:
        with pytest.raises(InputError, match="1 samples, and 1,000 are asked for"):
            Plan(given)
        return
    with Plan(given) as plan:
        assert not plan.compares
        assert any("1 samples, and 1,000 are asked for" in said for said in plan.warnings)


@pytest.mark.parametrize("asked", [False, True])
def test_stored_outputs_of_other_samples_are_not_compared_with(
    tmp_path: Path, unlabelled: Path, asked: bool
) -> None:
    stored = tmp_path / "outputs.bin"
    np.zeros(10 * 1000, "<f4").tofile(stored)
    (tmp_path / "net.pb").write_bytes(b"")
    model = {
        "platform": "tensorflow",
        "model_file_path": str(tmp_path / "net.pb"),
        "subgraphs": [{**subgraph(), "validation_outputs_data": [str(stored)]}],
    }
    with Plan(request(tmp_path, model=model, samples=document()["droidmace"]["dataset"])) as plan:
        assert plan.compares
    given = request(
        tmp_path, model=model, against="reference" if asked else None, dataset=unlabelled
    )
    with pytest.raises(InputError, match="--dataset names other samples|nothing to hold"):
        Plan(given)
    # A file that the user names is theirs to answer for.
    with Plan(request(tmp_path, model=model, against=str(stored), dataset=unlabelled)) as plan:
        assert plan.compares


def test_a_data_set_is_closed_where_a_plan_is_refused_for_it(
    tmp_path: Path, unlabelled: Path
) -> None:
    given = replace(request(tmp_path, against="none", dataset=unlabelled), limit=99)
    with pytest.raises(InputError, match="99 samples are asked for") as caught:
        Plan(given)
    assert caught.tb is not None
    assert _open_below(tmp_path) == []
