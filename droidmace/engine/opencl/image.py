"""Tensors as OpenCL images: their sizes, their memory, the way in and out of buffers.

Layouts: ``kernels/common.h`` and ``kernels/buffer_to_image.cl``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from droidmace.engine.attributes import OUT_OF_RESOURCES, Shape, nhwc
from droidmace.engine.macelog import format_vector
from droidmace.engine.opencl.device import describe_error
from droidmace.engine.opencl.local_size import filter_2d, row_2d
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.errors import EngineError

ImageSize = tuple[int, int]
"""Width and height in pixels."""
HostArray = npt.NDArray[np.float32] | npt.NDArray[np.float16]
_IMAGE_ALLOCATOR = "runtimes/opencl/opencl_image_allocator.cc"
_BUFFER_ALLOCATOR = "runtimes/opencl/opencl_buffer_allocator.cc"
_IMAGE_TOO_LARGE = "CL_INVALID_IMAGE_SIZE"
_TRANSFORMS = "buffer_to_image"


@dataclass(frozen=True, slots=True, eq=False)
class ImageTensor:
    """An activation: its shape and the image that holds it (which may be larger)."""

    shape: Shape
    image: cl.Image


def blocks(channels: int) -> int:
    """Pixels for that many channels, four to each."""
    return -(-channels // 4)


def activation_size(shape: Shape) -> ImageSize:
    """Image of an activation."""
    batch, height, width, channels = nhwc(shape)
    return (blocks(channels) * width, batch * height)


def allocate_image(gpu: Gpu, size: ImageSize, *, half: bool) -> cl.Image:
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
    try:
        return cl.Buffer(gpu.device.context, cl.mem_flags.READ_WRITE, size_bytes)
    except cl.Error as exc:
        what = f"Buffer with {size_bytes} bytes"
        raise _not_allocated(gpu, f"{_BUFFER_ALLOCATOR}:48", what, describe_error(exc)) from exc


def _not_allocated(gpu: Gpu, where: str, what: str, reason: str) -> EngineError:
    gpu.log.warning(where, f"Allocate OpenCL {what} failed because of {reason}")
    return EngineError(OUT_OF_RESOURCES, details=f"{what}: {reason}")


def bind_upload(
    gpu: Gpu, buffer: cl.Buffer, target: ImageTensor, *, nchw: bool = False, half: bool = False
) -> Dispatch:
    """Buffer to activation image; the buffer is NHWC unless ``nchw``."""
    shape = target.shape
    _, height, width, channels = nhwc(shape)
    return gpu.bind(
        _TRANSFORMS,
        "in_out_buffer_to_image",
        options=_buffer_options(nchw=nchw, half=half),
        arguments=(buffer, height, width, channels, target.image),
        key=f"in_out_buffer_to_image_{format_vector(shape)}",
        gws=activation_size(shape),
        rule=row_2d,
    )


def bind_download(
    gpu: Gpu, source: ImageTensor, buffer: cl.Buffer, *, nchw: bool = False
) -> Dispatch:
    """Activation image to buffer of 32-bit floats; NHWC unless ``nchw``."""
    shape = source.shape
    _, height, width, channels = nhwc(shape)
    return gpu.bind(
        _TRANSFORMS,
        "in_out_image_to_buffer",
        options=_buffer_options(nchw=nchw),
        arguments=(buffer, height, width, channels, source.image),
        key=f"in_out_image_to_buffer_{format_vector(shape)}",
        gws=activation_size(shape),
        rule=row_2d,
    )


class WeightImages:
    """Constants on the device, each uploaded and transformed once.

    The transforms run, and are tuned, when an op asks for them: while the engine starts.
    """

    def __init__(self, gpu: Gpu, tensors: dict[str, HostArray], *, half: bool) -> None:
        self._gpu = gpu
        self._tensors = tensors
        self._half = half
        self._images: dict[tuple[str, str], cl.Image] = {}
        self._pending: list[Dispatch] = []

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def array(self, name: str) -> HostArray:
        """The constant's values. Raises ``EngineError`` when there is none of that name."""
        try:
            return self._tensors[name]
        except KeyError:
            raise EngineError(f"Unsupported: {name!r} is no constant of the model") from None

    def filter_shape(self, name: str) -> tuple[int, int, int, int]:
        """The four sizes of a filter. Raises ``EngineError`` for any other rank."""
        shape = self.array(name).shape
        if len(shape) != 4:
            raise EngineError(f"Unsupported: filter {name!r} has the shape {list(shape)}")
        return (shape[0], shape[1], shape[2], shape[3])

    def convolution_filter(self, name: str) -> cl.Image:
        """OIHW filter: [input channels, output blocks * taps]."""
        out_channels, in_channels, height, width = self.filter_shape(name)
        taps = height * width
        size = (blocks(in_channels) * 4, blocks(out_channels) * taps)
        sizes = (out_channels, in_channels, taps)
        return self._image("filter_buffer_to_image", name, size, sizes)

    def depthwise_filter(self, name: str) -> cl.Image:
        """1IHW filter: [taps, channel blocks]."""
        _, channels, height, width = self.filter_shape(name)
        taps = height * width
        size = (taps, blocks(channels))
        return self._image("dw_filter_buffer_to_image", name, size, (channels, taps))

    def fully_connected_weight(self, name: str) -> cl.Image:
        """OIHW weight: [input blocks * taps, output channels]."""
        out_channels, in_channels, height, width = self.filter_shape(name)
        taps = height * width
        size = (blocks(in_channels) * taps, out_channels)
        return self._image("weight_width_buffer_to_image", name, size, (in_channels, taps))

    def vector(self, name: str) -> cl.Image:
        """A value per channel: one row of blocks."""
        count = self.array(name).size
        return self._image("arg_buffer_to_image", name, (blocks(count), 1), (count,))

    def activation(self, name: str) -> ImageTensor:
        """A constant in the place of an activation."""
        shape = self.array(name).shape
        sizes = nhwc(shape)[1:]
        image = self._image("in_out_buffer_to_image", name, activation_size(shape), sizes)
        return ImageTensor(shape, image)

    def finish(self) -> None:
        """Wait for the transforms and let go of the buffers they read. Raises ``EngineError``."""
        self._gpu.finish()
        self._pending.clear()

    def _image(self, kernel: str, name: str, size: ImageSize, sizes: tuple[int, ...]) -> cl.Image:
        image = self._images.get((kernel, name))
        if image is None:
            image = self._images[kernel, name] = self._transform(kernel, name, size, sizes)
        return image

    def _transform(
        self, kernel: str, name: str, size: ImageSize, sizes: tuple[int, ...]
    ) -> cl.Image:
        values = np.ascontiguousarray(self.array(name))
        if values.dtype.kind != "f":
            raise EngineError(f"Unsupported: {name!r} is of {values.dtype}, not of floats")
        image = allocate_image(self._gpu, size, half=self._half)
        buffer = allocate_buffer(self._gpu, max(values.nbytes, 4))
        self._gpu.upload(buffer, values)
        dispatch = self._gpu.bind(
            _TRANSFORMS,
            kernel,
            options=_buffer_options(half=values.dtype == np.float16),
            arguments=(buffer, *sizes, image),
            key=f"{kernel}_{format_vector(values.shape)}",
            gws=size,
            rule=filter_2d if kernel == "filter_buffer_to_image" else row_2d,
        )
        self._gpu.run(dispatch)
        self._pending.append(dispatch)
        return image


def float32_buffer_bytes(shape: Shape) -> int:
    """Bytes of a buffer of 32-bit floats of that shape."""
    return 4 * math.prod(shape)


def _buffer_options(*, nchw: bool = False, half: bool = False) -> tuple[str, ...]:
    return tuple(
        option for option, wanted in (("-DBUFFER_NCHW", nchw), ("-DBUFFER_HALF", half)) if wanted
    )
