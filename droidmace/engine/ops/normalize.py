"""Normalisations by what a tensor itself holds: InstanceNorm, GroupNorm, MVNorm, LpNorm.

Each reduces over the pixels first, then over the channels of a group, if groups are larger than
one channel; then every value is normalised (``kernels/normalize.cl``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import FusedActivation, Shape, nhwc, unsupported
from droidmace.engine.axis_order import takes_nchw
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import Tensor, WeightTable, blocks
from droidmace.engine.ops.base import (
    NetContext,
    SingleOutputOp,
    not_on_gpu,
    per_pixel_gws,
    shape_key,
)
from droidmace.engine.ops.reduce import OfValues, ReduceType, bind_over_pixels, tile_shapes
from droidmace.formats.netdef import OperatorDef

_LP_EPSILON = 1e-6  # mace/ops/lpnorm.cc


class Normalization(SingleOutputOp):
    """What they share: scratch tensors, group sums, the last step."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.activation = FusedActivation.of(op)
        self.affine: list[WeightTable] = []
        self.group_size = 1
        self._tiles: list[Shape] = []
        self._moment: Shape = ()

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        (shape,) = self.inferred_shapes(shapes)
        if len(shape) != 4:
            raise not_on_gpu(self.op, f"{len(shape)} axes")
        self.set_groups(shape[3])
        self._tiles = tile_shapes(shape)
        self._moment = (shape[0], 1, 1, shape[3])
        return shape

    def set_groups(self, channels: int) -> None:
        """Decide over how many channels together moments are taken."""

    def scratch_shapes(self) -> list[Shape]:
        """Two moments, room to sum up groups, and the stages of reducing."""
        return [self._moment] * 3 + self._tiles

    def _moments(
        self,
        kind: ReduceType,
        source: Tensor,
        scratch: Sequence[Tensor],
        target: Tensor,
        of: OfValues,
        mean: Tensor | None = None,
    ) -> list[Dispatch]:
        """``target``: the mean or sum over each group of channels, for each of its channels."""
        spare, *tiles = scratch[2:]
        grouped = self.group_size > 1
        last = spare if grouped else target
        dispatches = bind_over_pixels(self.gpu, kind, [source, *tiles, last], of, mean)
        if grouped:
            batch, _, _, channels = nhwc(target.shape)
            scale = 1.0 / self.group_size if kind is ReduceType.MEAN else 1.0
            dispatches.append(
                self.gpu.bind(
                    "normalize",
                    "group_mean",
                    arguments=(spare, target, channels, self.group_size, scale),
                    key=shape_key("group_mean_opencl_kernel", batch, channels, self.group_size),
                    gws=(blocks(channels), batch),
                    rule=local_size.row_2d,
                )
            )
        return dispatches

    def _normalize(
        self,
        source: Tensor,
        output: Tensor,
        *,
        mean: Tensor | None = None,
        spread: Tensor | None = None,
        power: int = 2,
        epsilon: float = 0.0,
        epsilon_last: bool = False,
    ) -> Dispatch:
        """Take ``mean`` off, divide by ``spread`` or its root, scale, activate."""
        _, height, _, channels = nhwc(output.shape)
        options = [
            *(("-DCENTER",) if mean is not None else ()),
            *((f"-DPOWER={power}",) if spread is not None else ()),
            *(("-DEPSILON_LAST",) if epsilon_last else ()),
            *(("-DAFFINE",) if self.affine else ()),
            *self.activation.options,
        ]
        return self.gpu.bind(
            "normalize",
            "normalize_pixels",
            options=options,
            arguments=(
                source,
                *(() if mean is None else (mean,)),
                *(() if spread is None else (spread, epsilon)),
                *self.affine,
                height,
                channels,
                *self.activation.arguments,
                output,
            ),
            key=shape_key(f"{self.op.type.lower()}_opencl_kernel", *nhwc(output.shape)),
            gws=per_pixel_gws(output.shape),
            rule=local_size.default_3d,
        )

    def _center_and_divide(
        self,
        inputs: Sequence[Tensor],
        output: Tensor,
        epsilon: float,
        *,
        divide: bool = True,
        epsilon_last: bool = False,
    ) -> list[Dispatch]:
        """Mean off, then divided by the standard deviation."""
        source, *scratch = inputs
        mean, variance = scratch[:2]
        dispatches = self._moments(ReduceType.MEAN, source, scratch, mean, OfValues.THEMSELVES)
        if divide:
            dispatches += self._moments(
                ReduceType.MEAN, source, scratch, variance, OfValues.SQUARED_DISTANCE, mean
            )
        dispatches.append(
            self._normalize(
                source,
                output,
                mean=mean,
                spread=variance if divide else None,
                epsilon=epsilon,
                epsilon_last=epsilon_last,
            )
        )
        return dispatches


class InstanceNorm(Normalization):
    """Each channel of each image on its own; with ``affine`` a factor and an offset."""

    def set_groups(self, channels: int) -> None:
        """See :class:`Normalization`."""
        if self.op.int_arg("affine"):
            self.affine = [self.vector(1, channels), self.vector(2, channels)]

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return self._center_and_divide(inputs, output, self.op.float_arg("epsilon", 1e-4))


class GroupNorm(Normalization):
    """The channels of a group together."""

    def set_groups(self, channels: int) -> None:
        """See :class:`Normalization`."""
        self.group_size = channels // self.op.int_arg("group_num", 32)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return self._center_and_divide(inputs, output, self.op.float_arg("epsilon", 1e-5))


class MVNorm(Normalization):
    """Each channel, or with ``across_channels`` each image, maybe without the division."""

    def set_groups(self, channels: int) -> None:
        """See :class:`Normalization`."""
        self.group_size = channels if self.op.int_arg("across_channels") else 1

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return self._center_and_divide(
            inputs,
            output,
            self.op.float_arg("epsilon", 1e-9),
            divide=bool(self.op.int_arg("normalize_variance", 1)),
            epsilon_last=True,
        )


class LpNorm(Normalization):
    """Divided by the sum of magnitudes or the root of squares, of an image or a channel."""

    def set_groups(self, channels: int) -> None:
        """See :class:`Normalization`."""
        axis = self.op.int_arg("axis", -1) % 4
        if not takes_nchw(self.op, on_gpu=True) or axis not in (0, 1, 2):
            raise not_on_gpu(self.op, f"axis {axis}")
        if self.op.int_arg("p", 2) not in (1, 2):
            raise unsupported(self.op, f"p {self.op.int_arg('p')}")
        if axis == 0:
            raise not_on_gpu(self.op, "axis 0")
        self.group_size = channels if axis == 1 else 1

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source, *scratch = inputs
        power = self.op.int_arg("p", 2)
        of = OfValues.SQUARE if power == 2 else OfValues.MAGNITUDE
        total = scratch[0]
        return [
            *self._moments(ReduceType.SUM, source, scratch, total, of),
            self._normalize(
                source, output, spread=total, power=power, epsilon=_LP_EPSILON, epsilon_last=True
            ),
        ]
