"""What every GPU op is, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyopencl as cl

from droidmace.engine.attributes import Shape, nhwc, unsupported
from droidmace.engine.opencl.image import ImageTensor, WeightImages, blocks
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.formats.netdef import NetDef, OperatorDef


@dataclass(frozen=True)
class NetContext:
    """What an op may use while it is made: the device, the constants, the net it belongs to.

    ``half``: activations and weights are kept as 16-bit floats.
    """

    gpu: Gpu
    weights: WeightImages
    net: NetDef
    half: bool


class GpuOp(ABC):
    """One op of the graph on the GPU.

    Making it uploads its weights. ``output_shape`` is asked before ``bind``; both may be called
    again when the model's input gets another shape. All raise ``EngineError``.
    """

    is_alias = False
    """Whether the output is the input's image under another name and shape."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        if len(op.outputs) != 1:
            raise unsupported(op, f"{len(op.outputs)} outputs")
        self.op = op
        self.context = context
        self.gpu = context.gpu
        self.inputs = [name for name in op.inputs if name not in context.weights]
        if not self.inputs:
            raise unsupported(op, "all its inputs are constant")
        self.output = op.outputs[0]

    @abstractmethod
    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The output's shape, given those of the activations that the op reads."""

    @abstractmethod
    def bind(self, inputs: Sequence[ImageTensor], output: ImageTensor) -> list[Dispatch]:
        """Build the op's kernels for these images, in the order they are to run."""

    def vector(self, index: int, channels: int) -> cl.Image:
        """Input ``index``, a constant with one value per channel.

        The size is checked: a kernel that reads past the end of an image may crash the driver.
        """
        if index >= len(self.op.inputs):
            raise unsupported(self.op, f"{len(self.op.inputs)} inputs are too few")
        name = self.op.inputs[index]
        count = self.context.weights.array(name).size
        if count != channels:
            raise unsupported(self.op, f"{name!r} has {count} values for {channels} channels")
        return self.context.weights.vector(name)

    def scratch_shapes(self) -> list[Shape]:
        """Activation shapes of images that the op needs between its own kernels."""
        return []


def per_pixel_gws(shape: Shape) -> tuple[int, int, int]:
    """One work-item per pixel of the image: (channel blocks, width, batch * height)."""
    batch, height, width, channels = nhwc(shape)
    return (blocks(channels), width, batch * height)


def shape_key(prefix: str, *numbers: object) -> str:
    """A tuning key: its parts joined by ``_``."""
    return "_".join((prefix, *(str(number) for number in numbers)))
