"""Machine code for NVIDIA's GPUs, in the place of the assembly that their OpenCL hands out.

``CL_PROGRAM_BINARIES`` is PTX there, text that is compiled again whenever it is loaded: more than
half of what a start with compiled programs takes, unless the driver has kept the result. Its CUDA
library does that compilation alone, and its OpenCL loads what comes of it. Functions, constants and
the order of the calls: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__MODULE.html
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Protocol, Self, cast

import pyopencl as cl

_LIBRARY = "libcuda.so.1"
_EXTENSION = "cl_nv_device_attribute_query"
_INPUT_IS_PTX = 1
_OPTION_TARGET = 9
# the driver tells the arguments' kinds from the text, of images as well
_IMAGES = (b".texref", b".surfref", b".samplerref")


class CudaLibrary(Protocol):
    """Functions of the CUDA driver's interface, by name; they return a status."""

    def __getattr__(self, name: str) -> Callable[..., int]: ...


class _CudaError(Exception):
    """A call into the CUDA library that failed."""


class Linker:
    """Makes machine code for ``device`` while it is open; takes a CUDA context when first needed.

    ``library``: another CUDA library than the driver's.
    """

    def __init__(self, device: cl.Device, library: CudaLibrary | None = None) -> None:
        self._device = device
        self._library = library
        self._opened = contextlib.ExitStack()
        self._context: ctypes.c_void_p | None = None
        self._is_useless = _EXTENSION not in device.extensions

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def machine_code(self, binary: bytes) -> bytes | None:
        """What the device runs, for the PTX that is its program's ``binary``.

        None for anything but PTX, for kernels that take images, and where there is no CUDA library
        or it refuses.
        """
        if self._is_useless or not is_ptx(binary) or any(mark in binary for mark in _IMAGES):
            return None
        device = self._device
        target = 10 * device.compute_capability_major_nv + device.compute_capability_minor_nv
        try:
            library = self._library or _library()
            if self._context is None:
                self._context = self._opened.enter_context(_retained(library))
            with _current(library, self._context):
                return _linked(library, binary.rstrip(b"\0") + b"\0", target)
        except (OSError, AttributeError, _CudaError):  # no library, an old one, a refusal
            # asked once more, it would refuse once more, each time after a while
            self._is_useless = True
            return None


def is_ptx(binary: bytes) -> bool:
    """Whether the binary is PTX: text with the directives that it has to begin with."""
    return b"\n.version " in binary and b"\n.target " in binary


@functools.cache
def _library() -> CudaLibrary:
    library = cast(CudaLibrary, ctypes.CDLL(_LIBRARY))
    _call(library, "cuInit", ctypes.c_uint(0))
    return library


def _call(library: CudaLibrary, name: str, *arguments: object) -> None:
    status = getattr(library, name)(*arguments)
    if status:
        raise _CudaError(f"{name}: {status}")


@contextlib.contextmanager
def _retained(library: CudaLibrary) -> Iterator[ctypes.c_void_p]:
    """A device's context; any device's will do, since the target is named."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _call(library, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    _call(library, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        yield context
    finally:
        library.cuDevicePrimaryCtxRelease_v2(device)


@contextlib.contextmanager
def _current(library: CudaLibrary, context: ctypes.c_void_p) -> Iterator[None]:
    """This thread's context, for no longer than it takes: OpenCL uses others."""
    _call(library, "cuCtxPushCurrent_v2", context)
    try:
        yield
    finally:
        library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _linked(library: CudaLibrary, ptx: bytes, target: int) -> bytes:
    """``ptx``, which ends with 0, compiled for ``target``: 90 for compute capability 9.0."""
    options = (ctypes.c_int * 1)(_OPTION_TARGET)
    values = (ctypes.c_void_p * 1)(target)
    state = ctypes.c_void_p()
    _call(library, "cuLinkCreate_v2", ctypes.c_uint(1), options, values, ctypes.byref(state))
    try:
        _call(
            library,
            "cuLinkAddData_v2",
            state,
            ctypes.c_int(_INPUT_IS_PTX),
            ctypes.c_char_p(ptx),
            ctypes.c_size_t(len(ptx)),
            ctypes.c_char_p(b"program"),
            ctypes.c_uint(0),
            None,
            None,
        )
        code, size = ctypes.c_void_p(), ctypes.c_size_t()
        _call(library, "cuLinkComplete", state, ctypes.byref(code), ctypes.byref(size))
        return ctypes.string_at(code, size.value)  # it goes with the state
    finally:
        library.cuLinkDestroy(state)
