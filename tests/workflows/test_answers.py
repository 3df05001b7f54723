"""Outputs as they come back from a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from droidmace.devices.local import LocalDevice
from droidmace.errors import DeviceError
from droidmace.macerun.invocation import TensorArg
from droidmace.workflows import answers
from droidmace.workflows.answers import read_output, sample_suffixes


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
