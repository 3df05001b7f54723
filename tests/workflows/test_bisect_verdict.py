"""From a wrong op and what else was tried to the cause."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from droidmace.errors import InputError
from droidmace.results import DeviceInfo
from droidmace.results.bisect import BisectResult, Cause, Suspect, TensorError
from droidmace.workflows.bisect_verdict import FP32, NO_WINOGRAD, ROUNDED, cause_of
from droidmace.workflows.reproducer import RESULT_NAME, write_reproducer

WRONG = TensorError(
    elements=64,
    relative=0.5,
    peak=0.5,
    lost=0,
    cosine=0.9,
    worst_index=(0,),
    worst_cpu=1.0,
    worst_gpu=1.5,
    cpu_peak=4.0,
)
SLIGHT = replace(WRONG, relative=0.05)
LOST = replace(WRONG, lost=3)
RIGHT = replace(WRONG, relative=1e-6, peak=1e-6)


def suspect(name: str, *, right: bool) -> Suspect:
    return Suspect(name, right, RIGHT if right else WRONG)


FP32_RIGHT, FP32_WRONG = suspect(FP32, right=True), suspect(FP32, right=False)
NOT_TRIED = Suspect(FP32, right=False, error=None, why_not="no run is left")


@pytest.mark.parametrize(
    ("error", "suspects", "half", "overflowing", "cause"),
    [
        (WRONG, [], False, False, Cause.KERNEL),
        (WRONG, [FP32_WRONG], True, False, Cause.KERNEL),
        # Much more than rounding, though only in half precision: its kernels are others.
        (WRONG, [FP32_RIGHT], True, False, Cause.KERNEL),
        (WRONG, [FP32_RIGHT, suspect(ROUNDED, right=True)], True, False, Cause.KERNEL),
        (WRONG, [FP32_RIGHT, suspect(ROUNDED, right=False)], True, False, Cause.PRECISION),
        (SLIGHT, [FP32_RIGHT], True, False, Cause.PRECISION),
        (LOST, [FP32_RIGHT], True, False, Cause.OVERFLOW),
        (LOST, [FP32_WRONG], True, False, Cause.KERNEL),
        (LOST, [NOT_TRIED], True, True, Cause.OVERFLOW),
        (LOST, [NOT_TRIED], True, False, Cause.KERNEL),
        # Saturated instead of lost.
        (WRONG, [FP32_RIGHT], True, True, Cause.OVERFLOW),
        (WRONG, [FP32_WRONG], True, True, Cause.KERNEL),
        # Large numbers are no trouble in 32 bits.
        (WRONG, [], False, True, Cause.KERNEL),
        (WRONG, [suspect(NO_WINOGRAD, right=True)], False, False, Cause.WINOGRAD),
        (SLIGHT, [FP32_RIGHT, suspect(NO_WINOGRAD, right=True)], True, False, Cause.WINOGRAD),
        (WRONG, [suspect(NO_WINOGRAD, right=False)], False, False, Cause.KERNEL),
    ],
)
def test_the_cause(
    error: TensorError, suspects: list[Suspect], half: bool, overflowing: bool, cause: Cause
) -> None:
    assert cause_of(error, suspects, half=half, overflowing=overflowing) is cause


@pytest.fixture
def result() -> BisectResult:
    return BisectResult(
        device=DeviceInfo("S1", "device"),
        model="net",
        data_type="fp16",
        sample="random input",
        op_count=3,
        cause=Cause.ROUNDING,
        sentence="It adds up.",
        culprit=None,
        outputs=(),
        ops=(),
        suspects=(),
        runs=(),
        run_limit=4,
    )


def write(folder: Path, result: BisectResult) -> None:
    write_reproducer(folder, None, None, {}, b"", result)  # type: ignore[arg-type]


def test_a_finding_without_a_part_is_written_and_replaced(
    tmp_path: Path, result: BisectResult
) -> None:
    folder = tmp_path / "out" / "found"
    write(folder, result)
    write(folder, replace(result, sentence="Once more."))
    assert (folder / "README.md").read_text() == "Once more.\n"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", RESULT_NAME]
    assert [path.name for path in folder.parent.iterdir()] == ["found"]


def test_a_folder_that_is_no_reproducer_stays(tmp_path: Path, result: BisectResult) -> None:
    precious = tmp_path / "found" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(InputError, match="no reproducer"):
        write(precious.parent, result)
    assert precious.read_text() == "mine"


def test_a_place_that_is_no_folder_is_told(tmp_path: Path, result: BisectResult) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "found", result)
