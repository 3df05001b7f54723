"""Reductions: Reduce, SqrDiffMean, and the moments that normalisations need (``reduce.cl``)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from droidmace.engine.attributes import Shape, nhwc, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.engine.opencl.tensor import Tensor, blocks
from droidmace.engine.ops.base import (
    NetContext,
    SingleOutputOp,
    nhwc_axis,
    not_on_gpu,
    per_pixel_gws,
    shape_key,
)
from droidmace.formats.netdef import OperatorDef

_TILE = 16
_AXIS_NAMES = "NHWC"


class ReduceType(IntEnum):
    """``mace/ops/common/reduce_type.h``."""

    MEAN = 0
    MIN = 1
    MAX = 2
    PROD = 3
    SUM = 4


class OfValues(IntEnum):
    """What of the values is reduced."""

    THEMSELVES = 0
    MAGNITUDE = 1
    SQUARE = 2
    SQUARED_DISTANCE = 3


def tile_shapes(shape: Shape) -> list[Shape]:
    """What lies between an image and its reduction to one pixel: the results of all but the last
    stage."""
    batch, height, width, channels = nhwc(shape)
    between: list[Shape] = []
    while height > _TILE or width > _TILE:
        height, width = -(-height // _TILE), -(-width // _TILE)
        between.append((batch, height, width, channels))
    return between


def bind_over_pixels(
    gpu: Gpu,
    kind: ReduceType,
    stages: Sequence[Tensor],
    of: OfValues = OfValues.THEMSELVES,
    mean: Tensor | None = None,
) -> list[Dispatch]:
    """Reduce ``stages[0]`` over height and width by way of the others to the last.

    ``mean``: per image and channel, for distances.
    """
    _, height, width, _ = nhwc(stages[0].shape)
    # scaled down at every stage: 16-bit floats could not hold the sum of a large image
    scale = 1.0 / (height * width) if kind is ReduceType.MEAN else 1.0
    dispatches = []
    for source, target in itertools.pairwise(stages):
        own_scale = scale
        if kind is ReduceType.MEAN and target is not stages[-1]:
            own_scale = 1.0 / (_TILE * _TILE)
            scale /= own_scale
        dispatches.append(_bind_tiles(gpu, kind, source, target, own_scale, of, mean))
        of, mean = OfValues.THEMSELVES, None
    return dispatches


def _bind_tiles(
    gpu: Gpu,
    kind: ReduceType,
    source: Tensor,
    target: Tensor,
    scale: float,
    of: OfValues,
    mean: Tensor | None,
) -> Dispatch:
    _, in_height, in_width, channels = nhwc(source.shape)
    batch, height, width, _ = nhwc(target.shape)
    gws = (width, height, batch * blocks(channels))
    means = () if mean is None else (mean,)
    return gpu.bind(
        "reduce",
        "reduce_hw",
        options=(f"-DREDUCE_TYPE={int(kind)}", *((f"-DREDUCE_INPUT={int(of)}",) if of else ())),
        arguments=(source, *means, target, in_height, in_width, blocks(channels), scale),
        key=shape_key("reduce_hw_opencl_kernel", *gws),
        gws=gws,
        rule=local_size.default_3d,
    )


def bind_over_channels(gpu: Gpu, kind: ReduceType, source: Tensor, target: Tensor) -> Dispatch:
    """Reduce over the channels."""
    batch, height, width, channels = nhwc(source.shape)
    gws = (1, width, batch * height)
    scale = 1.0 / channels if kind is ReduceType.MEAN else 1.0
    return gpu.bind(
        "reduce",
        "reduce_c",
        options=(f"-DREDUCE_TYPE={int(kind)}",),
        arguments=(source, target, channels, scale),
        key=shape_key("reduce_c_opencl_kernel", *gws),
        gws=gws,
        rule=local_size.default_3d,
    )


def _bind_over_axes(
    gpu: Gpu, kind: ReduceType, axes: Sequence[int], source: Tensor, target: Tensor
) -> Dispatch:
    """Reduce over some of the axes N, H and W."""
    batch, height, width, _ = nhwc(source.shape)
    count = math.prod((batch, height, width)[axis] for axis in axes)
    names = [_AXIS_NAMES[axis] for axis in axes]
    return gpu.bind(
        "reduce",
        "reduce_axes",
        options=(f"-DREDUCE_TYPE={int(kind)}", *(f"-DREDUCE_{name}" for name in names)),
        arguments=(
            source,
            target,
            batch,
            height,
            nhwc(target.shape)[1],
            1.0 / count if kind is ReduceType.MEAN else 1.0,
        ),
        key=shape_key(f"reduce_{''.join(names).lower()}_opencl_kernel", *nhwc(source.shape)),
        gws=per_pixel_gws(target.shape),
        rule=local_size.default_3d,
    )


@dataclass(frozen=True, slots=True)
class _Stage:
    """A step of a reduction: the shapes on its way, the last being its result's."""

    shapes: tuple[Shape, ...]
    bind: Callable[[Sequence[Tensor]], list[Dispatch]]


class Reduce(SingleOutputOp):
    """Mean, minimum, maximum, product or sum over any axes."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        kind = op.int_arg("reduce_type", ReduceType.MEAN)
        if kind not in list(ReduceType):
            raise unsupported(op, f"reduce type {kind}")
        self.kind = ReduceType(kind)
        self.axes: list[int] = []
        self._stages: list[_Stage] = []

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        source = shapes[self.inputs[0]]
        (shape,) = self.inferred_shapes(shapes)
        rank = len(source)
        given = self.op.ints_arg("axis") or range(rank)
        self.axes = sorted({nhwc_axis(self.op, axis, rank) for axis in given})
        self._stages = self._plan(nhwc(source), self.axes)
        kept = self._stages[-1].shapes[-1]
        if len(shape) not in (0, 1, 2, 4) or (nhwc(shape) != kept and math.prod(kept) != 1):
            raise not_on_gpu(self.op, f"axis {list(given)} without keepdims")
        return shape

    def _plan(self, shape: Shape, axes: Sequence[int]) -> list[_Stage]:
        """Height and width together first, then what else is not channels, then those."""
        stages = []
        batch, _, _, channels = shape
        pixel_axes = [axis for axis in axes if axis != 3]
        if 1 in pixel_axes and 2 in pixel_axes:
            one_pixel = (batch, 1, 1, channels)
            stages.append(
                _Stage(
                    (*tile_shapes(shape), one_pixel),
                    lambda tensors: bind_over_pixels(self.gpu, self.kind, tensors),
                )
            )
            shape = one_pixel
            pixel_axes = [axis for axis in pixel_axes if axis == 0]
        if pixel_axes:
            shape = tuple(1 if axis in pixel_axes else size for axis, size in enumerate(shape))
            stages.append(
                _Stage(
                    (shape,),
                    lambda tensors: [
                        _bind_over_axes(self.gpu, self.kind, pixel_axes, tensors[0], tensors[1])
                    ],
                )
            )
        if 3 in axes:
            stages.append(
                _Stage(
                    ((*shape[:3], 1),),
                    lambda tensors: [
                        bind_over_channels(self.gpu, self.kind, tensors[0], tensors[1])
                    ],
                )
            )
        return stages

    def scratch_shapes(self) -> list[Shape]:
        """See :class:`GpuOp`."""
        return [shape for stage in self._stages for shape in stage.shapes][:-1]

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        tensors = [*inputs, output]
        dispatches = []
        for stage in self._stages:
            dispatches += stage.bind(tensors[: len(stage.shapes) + 1])
            tensors = tensors[len(stage.shapes) :]
        return dispatches


class SqrDiffMean(SingleOutputOp):
    """Mean over the pixels of the squared distance from a value per image and channel."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        if len(self.inputs) != 2:
            raise not_on_gpu(self.op, "a constant input")
        (shape,) = self.inferred_shapes(shapes)
        if nhwc(shapes[self.inputs[1]]) != nhwc(shape):
            raise not_on_gpu(self.op, f"a mean of shape {list(shapes[self.inputs[1]])}")
        self._between = tile_shapes(shapes[self.inputs[0]])
        return shape

    def scratch_shapes(self) -> list[Shape]:
        """See :class:`GpuOp`."""
        return self._between

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source, mean, *between = inputs
        stages = [source, *between, output]
        return bind_over_pixels(self.gpu, ReduceType.MEAN, stages, OfValues.SQUARED_DISTANCE, mean)
