"""What an op's arguments mean, on any runtime: activations, windows, shapes.

Conventions: activations are NHWC; ``padding_values`` are totals per axis, the smaller half before
(``mace/ops/common/conv_pool_2d_util.cc``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

Shape = tuple[int, ...]
OUT_OF_RESOURCES = "Out of resources"
"""MACE's words for a device that lacks memory or refuses a command."""
PADDING_VALID, PADDING_SAME, PADDING_FULL = 0, 1, 2
_INT32_MAX = (1 << 31) - 1


def unsupported(op: OperatorDef, what: str) -> EngineError:
    """The error for something this engine cannot run; names the op."""
    return EngineError(f"Unsupported: op {op.name!r} ({op.type}): {what}")


def nhwc(shape: Shape) -> tuple[int, int, int, int]:
    """``shape`` with four axes: a matrix is a batch of single pixels, a vector one pixel.

    Raises ``EngineError`` for any other rank.
    """
    if len(shape) == 4:
        return (shape[0], shape[1], shape[2], shape[3])
    if len(shape) == 2:
        return (shape[0], 1, 1, shape[1])
    if len(shape) <= 1:
        return (1, 1, 1, shape[0] if shape else 1)
    raise EngineError(f"Unsupported: a tensor of shape {list(shape)}: 4, 2 or 1 axes are")


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
            raise unsupported(op, f"activation {name}")
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
        """From an op's arguments ``strides``, ``dilations``, ``padding_values``, ``padding``.

        Raises ``EngineError`` for what no kernel takes.
        """
        padding = op.ints_arg("padding_values")
        if len(padding) not in (0, 2) or any(abs(total) > _INT32_MAX for total in padding):
            raise unsupported(op, f"padding_values {list(padding)}")
        padding_type = op.int_arg("padding", PADDING_SAME)
        if padding_type not in (PADDING_VALID, PADDING_SAME, PADDING_FULL):
            raise unsupported(op, f"padding {padding_type}")
        return cls(
            kernel=kernel,
            stride=_pair(op, "strides"),
            dilation=_pair(op, "dilations"),
            padding=(padding[0], padding[1]) if padding else None,
            padding_type=padding_type,
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
    if len(values) != 2 or min(values) < 1 or max(values) > _INT32_MAX:
        raise unsupported(op, f"{name} {list(values)}")
    return (values[0], values[1])


def reshaped(op: OperatorDef, source: Shape, constant: Shape) -> Shape:
    """The shape that Reshape, Flatten, Squeeze or Identity gives a tensor of shape ``source``.

    ``constant`` is the shape the op's second input holds, if any. Raises ``EngineError``.
    """
    target = _reshaped(op, source, constant)
    if math.prod(target) != math.prod(source):
        raise unsupported(op, f"{list(source)} to {list(target)}")
    return target


def shape_from(op: OperatorDef, values: npt.NDArray[Any]) -> Shape:
    """The shape that a constant of ``op`` holds. Raises ``EngineError`` if it holds none."""
    if values.dtype.kind != "i" or values.ndim != 1:
        raise unsupported(op, f"a shape of {values.dtype} in {list(values.shape)}")
    return tuple(int(size) for size in values)


def _reshaped(op: OperatorDef, source: Shape, constant: Shape) -> Shape:
    if op.type == "Identity":
        return source
    if op.type == "Squeeze":
        axes = op.ints_arg("axis")
        if any(not -len(source) <= axis < len(source) for axis in axes):
            raise unsupported(op, f"axis {list(axes)} of {list(source)}")
        gone = {axis % len(source) for axis in axes} if axes else set(range(len(source)))
        return tuple(size for i, size in enumerate(source) if size != 1 or i not in gone) or (1,)
    dims = op.ints_arg("dim") or constant
    if not dims and op.output_shapes:
        dims = op.output_shapes[0].dims
    if not dims:
        raise unsupported(op, "its shape is not constant")
    if any(size < -1 or (size == 0 and i >= len(source)) for i, size in enumerate(dims)):
        raise unsupported(op, f"the shape {list(dims)}")
    sizes = [source[i] if size == 0 else size for i, size in enumerate(dims)]
    known = math.prod(size for size in sizes if size != -1)
    return tuple(math.prod(source) // max(known, 1) if size == -1 else size for size in sizes)
