"""Names of one GPU, as OpenCL, OpenGL and the kernel give them, and names of two."""

from __future__ import annotations

import pytest

from droidmace.workflows.shipped_files import same_gpu


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Adreno(TM) 640", "Adreno (TM) 640"),
        ("Adreno(TM) 640", "Adreno640v2"),
        ("Mali-G78 r0p1", "Mali-G78"),
        ("Mali-G78", "Mali-G78 MC14"),
        ("PowerVR Rogue GE8320", "PowerVR Rogue GE8320"),
    ],
)
def test_spellings_of_one_gpu_are_the_same(one: str, other: str) -> None:
    assert same_gpu(one, other)
    assert same_gpu(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Adreno(TM) 640", "Adreno (TM) 650"),
        ("Adreno(TM) 640", "Adreno (TM) 64"),
        ("Adreno(TM) 640", "Mali-G78"),
        ("Mali-G78", "Mali-G77"),
        ("Mali-G710", "Mali-G71"),
        ("PowerVR Rogue GE8320", "PowerVR Rogue GE8300"),
    ],
)
def test_two_gpus_are_not(one: str, other: str) -> None:
    assert not same_gpu(one, other)
