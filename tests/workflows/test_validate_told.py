"""Whoever ends a validation hears what is kept; what is kept fits only what made it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from droidmace.bundle.manifest import FileRecord
from droidmace.devices.probe import ProbeReport
from droidmace.validation.store import OutputStore
from droidmace.workflows.batch import ChunkOutputs
from droidmace.workflows.validate import _kept_told, _other_work, _remove, _Story
from droidmace.workflows.validate_plan import Plan
from droidmace.workflows.validate_request import ValidateRequest
from tests.workflows.fashion_requests import request, subgraph

IDENTITY = {"graph": "a"}


def test_a_job_that_is_ended_by_sigterm_is_told_what_it_kept(tmp_path: Path) -> None:
    with OutputStore(tmp_path / "outputs", IDENTITY) as store:
        outputs = {"y": np.zeros((3, 2), np.float32)}
        store.append(ChunkOutputs(first=0, outputs=outputs, wall_s=1.0, run_s=1.0))
    with pytest.raises(SystemExit) as ended, _kept_told(tmp_path, IDENTITY, 10):
        raise SystemExit(143)
    assert ended.value.code == 143
    (told,) = ended.value.__notes__
    assert "3 of 10 samples are done and kept" in told


def test_what_the_phone_s_processor_has_done_is_kept_as_well(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with OutputStore(work / "cpu", {**IDENTITY, "runtime": "cpu"}) as store:
        outputs = {"y": np.zeros((7, 2), np.float32)}
        store.append(ChunkOutputs(first=0, outputs=outputs, wall_s=1.0, run_s=1.0))
    with pytest.raises(KeyboardInterrupt) as ended, _kept_told(work, IDENTITY, 5):
        raise KeyboardInterrupt
    (told,) = ended.value.__notes__
    assert "0 of 5 samples are done, 5 on the phone's processor and kept" in told
    assert (work / "cpu").is_dir()


def test_a_folder_without_a_sample_goes(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with OutputStore(work / "outputs", IDENTITY):
        pass
    with pytest.raises(KeyboardInterrupt) as ended, _kept_told(work, IDENTITY, 5):
        raise KeyboardInterrupt
    assert ended.value.__notes__ == ["0 of 5 samples are done"]
    assert not work.exists()


def test_what_cannot_be_read_hides_no_interruption(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with OutputStore(work / "outputs", IDENTITY):
        pass
    for path in (work / "outputs").iterdir():
        path.unlink()
        path.mkdir()
    with pytest.raises(KeyboardInterrupt) as ended, _kept_told(work, IDENTITY, 5):
        raise KeyboardInterrupt
    (told,) = ended.value.__notes__
    assert f"what is in {work} cannot be read" in told


def _identity(given: ValidateRequest) -> dict[str, str]:
    with Plan(given) as plan:
        return plan.identity


def test_outputs_of_another_tensor_order_are_not_gone_on_from(tmp_path: Path) -> None:
    first = request(tmp_path, against="none")
    # The same bytes with one channel; for mace_run it is another tensor.
    other = {"input_shapes": ["1,28,28,1"], "input_data_formats": ["NHWC"]}
    second = request(tmp_path, model={"subgraphs": [{**subgraph(), **other}]}, against="none")
    assert _identity(first) == _identity(request(tmp_path, against="none"))
    assert _identity(first) != _identity(second)


def test_of_a_linked_folder_of_work_only_the_link_goes(tmp_path: Path) -> None:
    elsewhere, work = tmp_path / "elsewhere", tmp_path / "net.validation.work"
    elsewhere.mkdir()
    (elsewhere / "outputs").write_bytes(b"mine")
    work.symlink_to(elsewhere)
    _remove(work)
    assert not work.is_symlink()
    assert (elsewhere / "outputs").read_bytes() == b"mine"


def test_runs_that_were_broken_off_are_told_but_for_the_one_that_goes_on(tmp_path: Path) -> None:
    names = [f"net.phone.{letter}.validation.work" for letter in "abc"]
    assert _other_work(tmp_path / names[0]) == ()
    for name in names:
        (tmp_path / name).mkdir()
    (told,) = _other_work(tmp_path / names[0])
    assert "2 broken-off runs" in told
    assert f"({names[1]}, {names[2]})" in told


def _whole_identity(fingerprint: str) -> dict[str, str]:
    place = SimpleNamespace(
        report=ProbeReport("x", {"ro.build.fingerprint": fingerprint}),
        binary_record=lambda: FileRecord("mace_run", "0" * 64, 1),
    )
    setup = SimpleNamespace(plan=SimpleNamespace(identity={}), place=place)
    return _Story(cast(ValidateRequest, None), lambda _: None)._identity(cast(Any, setup))


def test_outputs_of_another_build_of_the_phone_are_not_gone_on_from() -> None:
    """An update may bring another OpenCL driver."""
    assert _whole_identity("brand/a:11") == _whole_identity("brand/a:11")
    assert _whole_identity("brand/a:11") != _whole_identity("brand/a:12")
