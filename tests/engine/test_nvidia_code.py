"""Machine code in the place of PTX: when it is asked for, and what becomes of failures.

The CUDA library is a fake that answers as the real one does: statuses, and memory of its own.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import pytest

from droidmace.engine.opencl.nvidia import Linker

_PTX = b"//\n// Generated\n//\n\n.version 9.0\n.target sm_90\n.entry k() { ret; }\n\0"
_CODE = b"\x7fELF machine code"


@dataclass
class _Device:
    """What is asked of an OpenCL device."""

    extensions: str = "cl_khr_fp64 cl_nv_device_attribute_query"
    compute_capability_major_nv: int = 9
    compute_capability_minor_nv: int = 0


@dataclass
class _Cuda:
    """A CUDA library; ``refused`` is the function that fails."""

    refused: str = ""
    lacks: str = ""
    called: list[str] = field(default_factory=list)
    target: int = 0
    source: bytes = b""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu") or name == self.lacks:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.called.append(name)
            if name == self.refused:
                return 218
            if name == "cuLinkCreate_v2":
                self.target = arguments[2][0]
            if name == "cuLinkAddData_v2":
                self.source = ctypes.string_at(arguments[2], arguments[3].value)
            if name == "cuLinkComplete":
                self._kept = ctypes.create_string_buffer(_CODE)
                arguments[1]._obj.value = ctypes.addressof(self._kept)
                arguments[2]._obj.value = len(_CODE)
            return 0

        return function


def _machine_code(
    binary: bytes, device: _Device | None = None, cuda: _Cuda | None = None
) -> bytes | None:
    with Linker(device or _Device(), cuda) as linker:
        return linker.machine_code(binary)


def test_ptx_becomes_code_for_the_device() -> None:
    cuda = _Cuda()
    assert _machine_code(_PTX, cuda=cuda) == _CODE
    assert cuda.target == 90
    assert cuda.source == _PTX
    # everything is given back
    assert cuda.called[-3:] == [
        "cuLinkDestroy",
        "cuCtxPopCurrent_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]


def test_one_context_serves_all_programs() -> None:
    cuda = _Cuda()
    with Linker(_Device(), cuda) as linker:
        assert [linker.machine_code(_PTX) for _ in range(3)] == [_CODE] * 3
    assert cuda.called.count("cuLinkDestroy") == 3
    # between two programs OpenCL finds the thread as it was
    assert cuda.called.count("cuCtxPushCurrent_v2") == cuda.called.count("cuCtxPopCurrent_v2") == 3
    assert cuda.called.count("cuDevicePrimaryCtxRetain") == 1
    assert cuda.called.count("cuDevicePrimaryCtxRelease_v2") == 1


def test_a_library_that_refuses_is_not_asked_again() -> None:
    cuda = _Cuda("cuLinkComplete")
    with Linker(_Device(), cuda) as linker:
        assert [linker.machine_code(_PTX) for _ in range(3)] == [None] * 3
    assert cuda.called.count("cuLinkComplete") == 1


@pytest.mark.parametrize(
    "binary",
    [b"", b"\x7fELF", b"poclbin\0", _PTX.replace(b".entry", b".global .texref t;\n.entry")],
)
def test_other_binaries_stay_what_they_are(binary: bytes) -> None:
    cuda = _Cuda()
    assert _machine_code(binary, cuda=cuda) is None
    assert not cuda.called


def test_a_device_that_does_not_tell_its_kind_keeps_ptx() -> None:
    cuda = _Cuda()
    assert _machine_code(_PTX, _Device(extensions="cl_khr_fp64"), cuda) is None
    assert not cuda.called


@pytest.mark.parametrize(
    ("refused", "given_back"),
    [
        ("cuDeviceGet", []),
        ("cuDevicePrimaryCtxRetain", []),
        ("cuCtxPushCurrent_v2", ["cuDevicePrimaryCtxRelease_v2"]),
        ("cuLinkCreate_v2", ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]),
        ("cuLinkAddData_v2", ["cuLinkDestroy", "cuCtxPopCurrent_v2"]),
        ("cuLinkComplete", ["cuLinkDestroy", "cuCtxPopCurrent_v2"]),
    ],
)
def test_a_refusal_keeps_ptx_and_gives_back_what_was_taken(
    refused: str, given_back: list[str]
) -> None:
    cuda = _Cuda(refused)
    assert _machine_code(_PTX, cuda=cuda) is None
    after = cuda.called[cuda.called.index(refused) + 1 :]
    assert after[: len(given_back)] == given_back


def test_a_library_without_the_function_keeps_ptx() -> None:
    cuda = _Cuda(lacks="cuLinkCreate_v2")
    assert _machine_code(_PTX, cuda=cuda) is None
    assert cuda.called[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_without_the_library_ptx_stays() -> None:
    """On machines without NVIDIA's driver, such as those that test this."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert _machine_code(_PTX) is None
    else:
        assert _machine_code(_PTX.replace(b"ret;", b"no such instruction;")) is None
