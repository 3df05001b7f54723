"""ResizeBilinear, ResizeNearestNeighbor and ResizeBicubic.

Conventions: ``mace/ops/resize_*.cc``: ``size`` or, for the first two, ``height_scale`` and
``width_scale``, or a constant second input; ``coordinate_transformation_mode`` 0, 1 (half pixel)
or 2 (half pixel as PyTorch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import Shape, nhwc, unsupported
from droidmace.engine.opencl.local_size import Rule, resize
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import Tensor
from droidmace.engine.ops.base import NetContext, SingleOutputOp, per_pixel_gws, shape_key
from droidmace.formats.netdef import OperatorDef

_NEAREST_MODES = {"floor": 0, "round_prefer_floor": 1}


class Resize(SingleOutputOp):
    """Height and width changed by interpolation."""

    kernel: str
    modes: tuple[int, ...] = (0, 1, 2)
    rule: Rule = staticmethod(resize)

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.mode = op.int_arg("coordinate_transformation_mode", 0)
        if self.mode not in self.modes:
            raise unsupported(op, f"coordinate_transformation_mode {self.mode}")
        self.align_corners = bool(op.int_arg("align_corners"))
        self.factors = (0.0, 0.0)
        if op.type != "ResizeBicubic":
            self.factors = (op.float_arg("height_scale"), op.float_arg("width_scale"))

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        self.is_alias = shape == shapes[self.inputs[0]]
        return shape

    def scale(self, axis: int, before: int, after: int) -> float:
        """Input pixels for each output pixel."""
        if self.factors[axis] > 0:
            return 1 / self.factors[axis]
        if self.align_corners and after > 1:
            return (before - 1) / (after - 1)
        return before / after

    def options(self) -> tuple[str, ...]:
        """The kernel's build options."""
        return (f"-DCT_MODE={self.mode}",)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if self.is_alias:
            return []
        _, in_height, in_width, _ = nhwc(inputs[0].shape)
        _, height, width, _ = nhwc(output.shape)
        return [
            self.gpu.bind(
                "resize",
                self.kernel,
                options=self.options(),
                arguments=(
                    inputs[0],
                    output,
                    self.scale(0, in_height, height),
                    self.scale(1, in_width, width),
                    in_height,
                    height,
                ),
                key=shape_key(f"{self.kernel}_opencl_kernel", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=self.rule,
            )
        ]


class ResizeBilinear(Resize):
    """Between the four pixels around."""

    kernel = "resize_bilinear"


class ResizeBicubic(Resize):
    """Between the sixteen pixels around."""

    kernel = "resize_bicubic"


class ResizeNearestNeighbor(Resize):
    """The nearest pixel."""

    kernel = "resize_nearest_neighbor"
    modes = (0, 1)

    def options(self) -> tuple[str, ...]:
        """See :class:`Resize`."""
        name = self.op.str_arg("nearest_mode", "floor")
        if name not in _NEAREST_MODES:
            raise unsupported(self.op, f"nearest_mode {name}")
        rounding = 2 if self.align_corners else _NEAREST_MODES[name]
        return (*super().options(), f"-DNEAREST_MODE={rounding}")
