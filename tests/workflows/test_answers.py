"""Outputs as they come back from a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from droidmace.devices.local import LocalDevice
from droidmace.errors import DeviceError
from droidmace.macerun.invocation import TensorArg, sample_file_name
from droidmace.workflows import answers
from droidmace.workflows.answers import Answers, compare_answers, read_output, sample_suffixes
from droidmace.workflows.measure import Layout, Measurer
from droidmace.workflows.samples import load_samples
from tests.workflows.fashion_requests import request, subgraph


@pytest.mark.parametrize(("data_type", "kind"), [("int32", "<i4"), ("float32", "<f4")])
def test_values_keep_their_type(tmp_path: Path, data_type: str, kind: str) -> None:
    # Read as float32, -1 would be no number at all, and the answers wrong.
    rows = np.array([[-1, 2], [3, -4], [5, 6]], kind)
    suffixes = sample_suffixes(3)
    for suffix, row in zip(suffixes, rows, strict=True):
        (tmp_path / f"a_b{suffix}").write_bytes(row.tobytes())
    (tmp_path / "a_b_1_000000").write_bytes(b"the output a/b/1 of the first sample")
    tensor = TensorArg("a/b", (1, 2), data_type)
    found = read_output(LocalDevice(tmp_path), str(tmp_path), tensor, suffixes)
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, rows)


def test_many_samples_take_several_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_READ_BYTES", 8)
    suffixes = sample_suffixes(5)
    for index, suffix in enumerate(suffixes):
        (tmp_path / f"y{suffix}").write_bytes(np.float32(index).tobytes())
    found = read_output(LocalDevice(tmp_path), str(tmp_path), TensorArg("y", (1,)), suffixes)
    assert found.ravel().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_an_output_that_shrank_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "y_000000").write_bytes(b"abc")
    with pytest.raises(DeviceError, match="3 of 4 bytes"):
        read_output(LocalDevice(tmp_path), str(tmp_path), TensorArg("y", (1,)), ["_000000"])


@dataclass
class FirstClass:
    """Stands in for the processes: every sample is of the first class."""

    folder: Path
    outputs: tuple[TensorArg, ...]

    def run_batch(self, input_dir: str, suffixes: Sequence[str], *, tuned: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for suffix in suffixes:
            for tensor in self.outputs:
                values = np.eye(1, tensor.size_bytes // 4, dtype="<f4")
                (self.folder / sample_file_name(tensor, suffix)).write_bytes(values.tobytes())


def answers_of(tmp_path: Path, **tensors: Any) -> Answers:
    """Of three images of the example's, whose deployment file tells other ``tensors``."""
    given = request(tmp_path, model={"subgraphs": [{**subgraph(), **tensors}]})
    model, layout = given.phone.model, Layout(str(tmp_path), "mace_run", "net")
    outputs = tuple(TensorArg(one.name, one.shape) for one in model.outputs)
    return compare_answers(
        LocalDevice(tmp_path),
        cast("Measurer", FirstClass(Path(layout.batch_output), outputs)),
        layout,
        model,
        load_samples(given.phone.deployment, model, limit=3),
        lambda *_: None,
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where reference outputs are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_the_model_is_asked_as_well(tmp_path: Path) -> None:
    found = answers_of(tmp_path)
    assert found.accuracy.agreement == found.accuracy.untuned_agreement == 0.0
    assert found.warnings == ()


def test_a_cache_that_cannot_be_used_is_told(tmp_path: Path, cache: Path) -> None:
    cache.write_bytes(b"no folder")
    found = answers_of(tmp_path)
    assert found.accuracy.agreement == 0.0
    (warning,) = found.warnings
    assert warning.startswith(f"reference outputs are not kept: {cache}")


@pytest.mark.usefixtures("cache")
def test_a_model_that_is_another_by_now_ends_no_tuning(tmp_path: Path) -> None:
    found = answers_of(tmp_path, output_tensors=["gone"])
    assert found.accuracy.agreement is None
    assert found.accuracy.unchanged == 1.0
    (warning,) = found.warnings
    assert "fashion_mnist.onnx: it has no tensor 'gone'" in warning
    assert "check output_tensors" in warning
    assert warning.endswith("; tuned is compared with untuned")
