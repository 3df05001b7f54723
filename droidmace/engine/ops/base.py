"""What every GPU op is, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from droidmace.engine.attributes import Shape, nhwc, unsupported
from droidmace.engine.axis_order import takes_nchw
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.engine.opencl.tensor import Tensor, TensorMemory, WeightTable, blocks
from droidmace.engine.opencl.weights import Weights
from droidmace.engine.shapes import output_shapes
from droidmace.errors import EngineError
from droidmace.formats.netdef import NetDef, OperatorDef


class NotOnGpuError(EngineError):
    """The GPU has no kernel for what an op asks for; the CPU may run it."""


def not_on_gpu(op: OperatorDef, what: str) -> NotOnGpuError:
    """The error for something only the CPU may be able to run; names the op."""
    return NotOnGpuError(unsupported(op, what).message)


@dataclass(frozen=True)
class NetContext:
    """What an op may use while it is made: the device, the constants, the net it belongs to."""

    gpu: Gpu
    weights: Weights
    net: NetDef
    memory: TensorMemory


class GpuOp(ABC):
    """One op of the graph on the GPU.

    Making it uploads its weights. ``output_shapes`` is asked before ``bind``; both may be called
    again when the model's input gets another shape. All raise ``EngineError``.
    """

    is_alias = False
    """Whether the output is the input's memory under another name and shape."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        self.op = op
        self.context = context
        self.gpu = context.gpu
        self.inputs = [name for name in op.inputs if name not in context.weights]
        if not self.inputs:
            raise unsupported(op, "all its inputs are constant")
        self.outputs = list(op.outputs)

    @abstractmethod
    def output_shapes(self, shapes: Mapping[str, Shape]) -> list[Shape]:
        """The outputs' shapes, given those of the activations that the op reads."""

    @abstractmethod
    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Dispatch]:
        """Build the op's kernels for these tensors, in the order they are to run.

        ``inputs``: the activations it reads, then its scratch.
        """

    def vector(self, index: int, channels: int) -> WeightTable:
        """Input ``index``, a constant with one value per channel.

        The size is checked: a kernel that reads past the end of a tensor may crash the driver.
        """
        if index >= len(self.op.inputs):
            raise unsupported(self.op, f"{len(self.op.inputs)} inputs are too few")
        name = self.op.inputs[index]
        count = self.context.weights.array(name).size
        if count != channels:
            raise unsupported(self.op, f"{name!r} has {count} values for {channels} channels")
        return self.context.weights.vector(name)

    def inferred_shapes(self, shapes: Mapping[str, Shape]) -> list[Shape]:
        """What :func:`droidmace.engine.shapes.output_shapes` says of this op."""
        constants = {
            name: self.context.weights.array(name)
            for name in self.op.inputs
            if name in self.context.weights
        }
        known = [
            constants[name].shape if name in constants else shapes[name] for name in self.op.inputs
        ]
        return output_shapes(self.op, known, constants, on_gpu=True)

    def scratch_shapes(self) -> list[Shape]:
        """Shapes of tensors that the op needs between its own kernels."""
        return []


class SingleOutputOp(GpuOp):
    """An op with one output, as most are."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        if len(op.outputs) != 1:
            raise unsupported(op, f"{len(op.outputs)} outputs")
        self.output = op.outputs[0]

    @abstractmethod
    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :meth:`GpuOp.output_shapes`."""

    @abstractmethod
    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :meth:`GpuOp.bind`."""

    def output_shapes(self, shapes: Mapping[str, Shape]) -> list[Shape]:
        """See :class:`GpuOp`."""
        return [self.output_shape(shapes)]

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Dispatch]:
        """See :class:`GpuOp`."""
        return self.bind_single(inputs, outputs[0])


def nhwc_axis(op: OperatorDef, axis: int, rank: int) -> int:
    """``axis`` of ``op``, counted from either end of ``rank`` axes, as an axis of an NHWC tensor.

    Tensors of fewer axes are seen as pixels: see :func:`droidmace.engine.attributes.nhwc`. Raises
    ``EngineError``.
    """
    if not -rank <= axis < rank:
        raise unsupported(op, f"axis {axis} of {rank}")
    axis %= rank
    if rank == 4:
        return (0, 3, 1, 2)[axis] if takes_nchw(op, on_gpu=True) else axis
    if rank == 2:
        return (0, 3)[axis]
    return 3


def per_pixel_gws(shape: Shape) -> tuple[int, int, int]:
    """One work-item for each four channels of a pixel: (channel blocks, width, batch * height)."""
    batch, height, width, channels = nhwc(shape)
    return (blocks(channels), width, batch * height)


def shape_key(prefix: str, *numbers: object) -> str:
    """A tuning key: its parts joined by ``_``."""
    return "_".join((prefix, *(str(number) for number in numbers)))
