"""Tensors on the device: in images or in buffers, and the way in and out.

A kernel is written once for both (``kernels/common.h``); a tensor knows which arguments and build
options it brings to one. Layouts: ``kernels/common.h`` and ``kernels/buffer_to_image.cl``.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from droidmace.engine.attributes import OUT_OF_RESOURCES, Shape, nhwc
from droidmace.engine.macelog import format_vector
from droidmace.engine.opencl.arena import CHUNK_BYTES, Arena
from droidmace.engine.opencl.device import describe_error
from droidmace.engine.opencl.local_size import round_up, whole_row_2d
from droidmace.engine.opencl.runtime import Dispatch, Gpu, KernelArgument
from droidmace.errors import EngineError

Size = tuple[int, int]
"""Of an image: width and height in pixels. Of a buffer: elements, and 1."""
HostArray = npt.NDArray[np.float32] | npt.NDArray[np.float16]
_IMAGE_ALLOCATOR = "runtimes/opencl/opencl_image_allocator.cc"
_BUFFER_ALLOCATOR = "runtimes/opencl/opencl_buffer_allocator.cc"
_IMAGE_TOO_LARGE = "CL_INVALID_IMAGE_SIZE"
TRANSFORMS = "buffer_to_image"
"""The program of the kernels between plain buffers and tensors."""
NARROW = 4
"""Channels that every kernel reads at once; so many fit into a pixel of a buffer on any device."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An activation on the device: its shape and what holds it (which may be larger).

    ``stride``: elements from one pixel to the next; only a buffer has it.
    """

    shape: Shape
    memory: cl.Image | cl.Buffer
    build_options: tuple[str, ...] = ()
    stride: int = 0

    @property
    def arguments(self) -> tuple[KernelArgument, ...]:
        """What the macros IN and OUT take."""
        width = nhwc(self.shape)[2]
        return (self.memory, width, self.stride) if self.stride else (self.memory, width)


@dataclass(frozen=True, slots=True, eq=False)
class WeightTable:
    """A constant as a table of pixels with four values each: ``size`` is (width, height)."""

    size: Size
    memory: cl.Image | cl.Buffer
    build_options: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[KernelArgument, ...]:
        """What the macro WEIGHTS takes."""
        if isinstance(self.memory, cl.Image):
            return (self.memory,)
        return (self.memory, self.size[0])


def blocks(channels: int) -> int:
    """Pixels for that many channels, four to each."""
    return -(-channels // 4)


def transform_gws(shape: Shape) -> tuple[int, int]:
    """One work-item for each four channels of a pixel: (blocks * W, N * H)."""
    batch, height, width, channels = nhwc(shape)
    return (blocks(channels) * width, batch * height)


class TensorMemory(ABC):
    """Where a net's tensors lie, of 32-bit or 16-bit floats."""

    build_options: tuple[str, ...]

    def __init__(self, gpu: Gpu, *, half: bool) -> None:
        self.gpu = gpu
        self.half = half

    @abstractmethod
    def activation_size(self, shape: Shape) -> Size:
        """What an activation of that shape needs."""

    @abstractmethod
    def bytes_of(self, size: Size) -> int:
        """How much memory that is."""

    @abstractmethod
    def allocate(self, size: Size) -> cl.Image | cl.Buffer:
        """New memory. Raises ``EngineError``, with the reason on the log."""

    def allocate_bytes(self, size_bytes: int) -> cl.Buffer:
        """A new plain buffer. Raises ``EngineError``, with the reason on the log."""
        return allocate_buffer(self.gpu, size_bytes)

    def is_plain(self, shape: Shape) -> bool:
        """Whether an activation of that shape lies as 32-bit floats without gaps."""
        return False

    @abstractmethod
    def activation(self, shape: Shape, memory: cl.Image | cl.Buffer) -> Tensor:
        """An activation of that shape in ``memory``."""

    @abstractmethod
    def weight_table(self, size: Size) -> WeightTable:
        """A new table of ``size`` pixels."""

    @abstractmethod
    def as_activation(self, vector: WeightTable, channels: int) -> Tensor:
        """A row of blocks as an activation of one pixel."""


class ImageMemory(TensorMemory):
    """RGBA images, which know the type of their elements themselves."""

    build_options = ()

    def activation_size(self, shape: Shape) -> Size:
        """See :class:`TensorMemory`."""
        return transform_gws(shape)

    def bytes_of(self, size: Size) -> int:
        """See :class:`TensorMemory`."""
        return size[0] * size[1] * 4 * (2 if self.half else 4)

    def allocate(self, size: Size) -> cl.Image:
        """See :class:`TensorMemory`."""
        return allocate_image(self.gpu, size, half=self.half)

    def activation(self, shape: Shape, memory: cl.Image | cl.Buffer) -> Tensor:
        """See :class:`TensorMemory`."""
        return Tensor(shape, memory)

    def weight_table(self, size: Size) -> WeightTable:
        """See :class:`TensorMemory`."""
        return WeightTable(size, self.allocate(size))

    def as_activation(self, vector: WeightTable, channels: int) -> Tensor:
        """See :class:`TensorMemory`."""
        return Tensor((1, 1, 1, channels), vector.memory)


class BufferMemory(TensorMemory):
    """Buffers: pixel after pixel, the channels rounded up to what suits the device."""

    def __init__(self, gpu: Gpu, *, half: bool) -> None:
        super().__init__(gpu, half=half)
        self.build_options = ("-DBUFFER_MEMORY", *(("-DHALF_STORAGE",) if half else ()))
        self._element_bytes = 2 if half else 4
        self._arena: Arena | None = None
        if not gpu.device.is_cpu:
            alignment = gpu.device.device.mem_base_addr_align // 8
            chunk_bytes = min(CHUNK_BYTES, gpu.device.max_allocation_bytes)
            allocate = functools.partial(allocate_buffer, gpu)
            self._arena = Arena(allocate, alignment, chunk_bytes)

    def allocate_bytes(self, size_bytes: int) -> cl.Buffer:
        """See :class:`TensorMemory`; on a GPU a piece of a larger buffer."""
        if self._arena is None:
            return super().allocate_bytes(size_bytes)
        try:
            return self._arena.allocate(size_bytes)
        except cl.Error as exc:
            what = f"Buffer with {size_bytes} bytes"
            raise _not_allocated(
                self.gpu, f"{_BUFFER_ALLOCATOR}:48", what, describe_error(exc)
            ) from exc

    def activation_size(self, shape: Shape) -> Size:
        """See :class:`TensorMemory`."""
        batch, height, width, _ = nhwc(shape)
        return (batch * height * width * self._stride(shape), 1)

    def bytes_of(self, size: Size) -> int:
        """See :class:`TensorMemory`."""
        return size[0] * size[1] * self._element_bytes

    def allocate(self, size: Size) -> cl.Buffer:
        """See :class:`TensorMemory`."""
        return self.allocate_bytes(self.bytes_of(size))

    def activation(self, shape: Shape, memory: cl.Image | cl.Buffer) -> Tensor:
        """See :class:`TensorMemory`."""
        return Tensor(shape, memory, self.build_options, self._stride(shape))

    def is_plain(self, shape: Shape) -> bool:
        """See :class:`TensorMemory`."""
        batch, height, width, channels = nhwc(shape)
        has_gaps = channels != self._stride(shape) and batch * height * width > 1
        return not (self.half or has_gaps)

    def weight_table(self, size: Size) -> WeightTable:
        """See :class:`TensorMemory`."""
        return WeightTable(size, self.allocate((size[0] * 4, size[1])), self.build_options)

    def as_activation(self, vector: WeightTable, channels: int) -> Tensor:
        """See :class:`TensorMemory`."""
        return Tensor((1, 1, 1, channels), vector.memory, self.build_options, vector.size[0] * 4)

    def _stride(self, shape: Shape) -> int:
        channels, alignment = nhwc(shape)[3], self.gpu.device.channel_alignment
        # an image of few channels would be mostly padding
        return NARROW if channels <= NARROW else round_up(channels, alignment)


def allocate_image(gpu: Gpu, size: Size, *, half: bool) -> cl.Image:
    """A new image; 16-bit floats if ``half``.

    Raises ``EngineError``, with the reason on the log, when the device cannot hold it.
    """
    gpu.risk_failure()
    limit = gpu.device.max_image_size
    what = f"image with shape: {format_vector(size)}"
    if size[0] > limit[0] or size[1] > limit[1]:
        error = _not_allocated(gpu, f"{_IMAGE_ALLOCATOR}:48", what, _IMAGE_TOO_LARGE)
        gpu.log.warning(
            f"{_IMAGE_ALLOCATOR}:54", f"The allowable OpenCL image size is: {limit[0]}x{limit[1]}"
        )
        raise error
    if size[0] * size[1] * (8 if half else 16) > gpu.device.max_allocation_bytes:
        raise _beyond_limit(gpu, f"{_IMAGE_ALLOCATOR}:48", what)
    kind = cl.channel_type.HALF_FLOAT if half else cl.channel_type.FLOAT
    try:
        return cl.create_image(
            gpu.device.context,
            cl.mem_flags.READ_WRITE,
            cl.ImageFormat(cl.channel_order.RGBA, kind),
            shape=size,
        )
    except cl.Error as exc:
        raise _not_allocated(gpu, f"{_IMAGE_ALLOCATOR}:48", what, describe_error(exc)) from exc


def allocate_buffer(gpu: Gpu, size_bytes: int) -> cl.Buffer:
    """A new buffer. Raises ``EngineError``, with the reason on the log."""
    gpu.risk_failure()
    what = f"Buffer with {size_bytes} bytes"
    if size_bytes > gpu.device.max_allocation_bytes:
        raise _beyond_limit(gpu, f"{_BUFFER_ALLOCATOR}:48", what)
    try:
        return cl.Buffer(gpu.device.context, cl.mem_flags.READ_WRITE, size_bytes)
    except cl.Error as exc:
        raise _not_allocated(gpu, f"{_BUFFER_ALLOCATOR}:48", what, describe_error(exc)) from exc


def _beyond_limit(gpu: Gpu, where: str, what: str) -> EngineError:
    error = _not_allocated(gpu, where, what, "CL_OUT_OF_RESOURCES")
    gpu.log.warning(
        where, f"The largest OpenCL allocation is: {gpu.device.max_allocation_bytes} bytes"
    )
    return error


def wrap_values(gpu: Gpu, values: HostArray) -> cl.Buffer:
    """A buffer to be read that is ``values``: a CPU's driver need not copy them.

    Raises ``EngineError``, with the reason on the log.
    """
    gpu.risk_failure()
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
    try:
        return cl.Buffer(gpu.device.context, flags, hostbuf=values)
    except cl.Error as exc:
        what = f"Buffer with {values.nbytes} bytes"
        raise _not_allocated(gpu, f"{_BUFFER_ALLOCATOR}:48", what, describe_error(exc)) from exc


def _not_allocated(gpu: Gpu, where: str, what: str, reason: str) -> EngineError:
    gpu.log.warning(where, f"Allocate OpenCL {what} failed because of {reason}")
    return EngineError(OUT_OF_RESOURCES, details=f"{what}: {reason}")


def bind_upload(
    gpu: Gpu, buffer: cl.Buffer, target: Tensor, *, nchw: bool = False, half: bool = False
) -> Dispatch:
    """Buffer to activation; the buffer is NHWC without gaps unless ``nchw``."""
    shape = target.shape
    _, height, width, channels = nhwc(shape)
    return gpu.bind(
        TRANSFORMS,
        "in_out_buffer_to_image",
        options=buffer_options(nchw=nchw, half=half),
        arguments=(buffer, height, width, channels, target),
        key=f"in_out_buffer_to_image_{format_vector(shape)}",
        gws=transform_gws(shape),
        rule=whole_row_2d,
    )


def bind_download(gpu: Gpu, source: Tensor, buffer: cl.Buffer, *, nchw: bool = False) -> Dispatch:
    """Activation to buffer of 32-bit floats; NHWC without gaps unless ``nchw``."""
    shape = source.shape
    _, height, width, channels = nhwc(shape)
    return gpu.bind(
        TRANSFORMS,
        "in_out_image_to_buffer",
        options=buffer_options(nchw=nchw),
        arguments=(buffer, height, width, channels, source),
        key=f"in_out_image_to_buffer_{format_vector(shape)}",
        gws=transform_gws(shape),
        rule=whole_row_2d,
    )


def float32_buffer_bytes(shape: Shape) -> int:
    """Bytes of a buffer of 32-bit floats of that shape."""
    return 4 * math.prod(shape)


def buffer_options(*, nchw: bool = False, half: bool = False) -> tuple[str, ...]:
    """Build options for a buffer that is NCHW, or of 16-bit floats."""
    return tuple(
        option for option, wanted in (("-DBUFFER_NCHW", nchw), ("-DBUFFER_HALF", half)) if wanted
    )
