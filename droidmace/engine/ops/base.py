"""What every GPU op is, and what ops share: activations, strides and paddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from droidmace.engine.opencl.image import ImageTensor, Shape, WeightImages, blocks, nhwc
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.errors import EngineError
from droidmace.formats.netdef import NetDef, OperatorDef

PADDING_VALID, PADDING_SAME, PADDING_FULL = 0, 1, 2


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
            raise self.unsupported(op, f"{len(op.outputs)} outputs")
        self.op = op
        self.context = context
        self.gpu = context.gpu
        self.inputs = [name for name in op.inputs if name not in context.weights]
        self.output = op.outputs[0]

    @abstractmethod
    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The output's shape, given those of the activations that the op reads."""

    @abstractmethod
    def bind(self, inputs: Sequence[ImageTensor], output: ImageTensor) -> list[Dispatch]:
        """Build the op's kernels for these images, in the order they are to run."""

    def scratch_shapes(self) -> list[Shape]:
        """Activation shapes of images that the op needs between its own kernels."""
        return []

    @staticmethod
    def unsupported(op: OperatorDef, what: str) -> EngineError:
        """The error for something this engine cannot run; names the op."""
        return EngineError(f"Unsupported: op {op.name!r} ({op.type}): {what}")


@dataclass(frozen=True, slots=True)
class FusedActivation:
    """An activation within another kernel: its build option, and the two numbers it takes."""

    options: tuple[str, ...]
    max_limit: float
    coefficient: float

    @classmethod
    def of(cls, op: OperatorDef) -> FusedActivation:
        """The activation of ``op``. Raises ``EngineError`` for a name MACE does not know."""
        name = op.str_arg("activation", "NOOP")
        if name == "NOOP":
            return cls((), 0.0, 0.0)
        if name == "HARDSIGMOID":
            limits = (op.float_arg("hardsigmoid_alpha"), op.float_arg("hardsigmoid_beta"))
        else:
            limits = (op.float_arg("max_limit"), op.float_arg("activation_coefficient"))
        if name not in ACTIVATIONS:
            raise GpuOp.unsupported(op, f"activation {name}")
        return cls((f"-DUSE_{name}",), *limits)

    @property
    def arguments(self) -> tuple[float, float]:
        """What the kernel takes."""
        return (self.max_limit, self.coefficient)


ACTIVATIONS = ("RELU", "RELUX", "TANH", "SIGMOID", "LEAKYRELU", "ELU", "HARDSIGMOID")


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides over height and width: kernel, stride, dilation, total padding."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int] | None
    padding_type: int

    @classmethod
    def of(cls, op: OperatorDef, kernel: tuple[int, int]) -> Window:
        """From an op's arguments ``strides``, ``dilations``, ``padding_values``, ``padding``."""
        padding = op.ints_arg("padding_values")
        return cls(
            kernel=kernel,
            stride=_pair(op, "strides"),
            dilation=_pair(op, "dilations"),
            padding=(padding[0], padding[1]) if len(padding) == 2 else None,
            padding_type=op.int_arg("padding", PADDING_SAME),
        )

    def slide(
        self, size: tuple[int, int], *, ceil: bool = False
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Output (height, width) over an input of ``size``, and the total padding used."""
        results = [self._slide_axis(axis, size[axis], ceil=ceil) for axis in (0, 1)]
        return (results[0][0], results[1][0]), (results[0][1], results[1][1])

    def _slide_axis(self, axis: int, size: int, *, ceil: bool) -> tuple[int, int]:
        stride = self.stride[axis]
        extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1
        if self.padding is not None:
            total = self.padding[axis]
            span = size + total - extent
            return (-(-span // stride) if ceil else span // stride) + 1, total
        if self.padding_type == PADDING_VALID:
            out = (size - extent) // stride + 1
        elif self.padding_type == PADDING_SAME:
            out = (size - 1) // stride + 1
        else:
            out = (size + extent - 2) // stride + 1
        return out, max(0, (out - 1) * stride + extent - size)


def _pair(op: OperatorDef, name: str) -> tuple[int, int]:
    values = op.ints_arg(name, (1, 1))
    if len(values) != 2 or min(values) < 1:
        raise GpuOp.unsupported(op, f"{name} {list(values)}")
    return (values[0], values[1])


def per_pixel_gws(shape: Shape) -> tuple[int, int, int]:
    """One work-item per pixel of the image: (channel blocks, width, batch * height)."""
    batch, height, width, channels = nhwc(shape)
    return (blocks(channels), width, batch * height)


def shape_key(prefix: str, *numbers: object) -> str:
    """A tuning key: its parts joined by ``_``."""
    return "_".join((prefix, *(str(number) for number in numbers)))
