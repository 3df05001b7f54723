"""Deconv2D and DepthwiseDeconv2d: transposed convolutions.

Conventions (``mace/ops/deconv_2d.cc``, ``conv_pool_2d_util.cc``): ``padding_values`` are what is
cut off the full output, the smaller half before. Models from TensorFlow give the output's shape
instead, as third input, and their bias comes fourth. Filters: [outputs of a group, inputs, h, w].
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import (
    FusedActivation,
    Shape,
    Window,
    nhwc,
    unsupported,
)
from droidmace.engine.op_arguments import TENSORFLOW, deconv_padding
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import Tensor, WeightTable, blocks
from droidmace.engine.ops.base import NetContext, SingleOutputOp, shape_key
from droidmace.engine.ops.groups import Groups, filter_of_deconvolution
from droidmace.formats.netdef import OperatorDef

_PER_ITEM = 4


class Deconv2D(SingleOutputOp):
    """Transposed convolution; DepthwiseDeconv2d is one in groups."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        weights, name = context.weights, op.inputs[1]
        outputs, inputs, height, width = weights.filter_shape(name)
        self.window = Window.of(op, (height, width))
        if self.window.dilation != (1, 1):
            raise unsupported(op, f"dilations {list(self.window.dilation)}")
        count = op.int_arg("group", 1) if op.type == "DepthwiseDeconv2d" else 1
        if count < 1 or inputs % count:
            raise unsupported(op, f"{inputs} inputs in {count} groups")
        self.groups = Groups(count, inputs // count, outputs)
        self.is_depthwise = count > 1 and self.groups.inputs == outputs == 1
        framework = op.int_arg("framework_type", TENSORFLOW)
        gives_shape = op.type == "Deconv2D" and framework == TENSORFLOW
        self.activation = FusedActivation.of(op)
        if count == 1:
            self.filter = weights.convolution_filter(name)
        elif self.is_depthwise:
            self.filter = weights.depthwise_filter(name)
        else:
            arrange = functools.partial(filter_of_deconvolution, self.groups)
            layout = f"filter of a deconvolution in {count} groups"
            self.filter = weights.arranged_filter(name, layout, arrange)
        bias_at = 3 if gives_shape else 2
        self.bias: WeightTable | None = None
        if len(op.inputs) > bias_at:
            self.bias = self.vector(bias_at, outputs * count)
        self.before = (0, 0)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        batch, height, width, channels = nhwc(shapes[self.inputs[0]])
        if channels != self.groups.count * self.groups.inputs:
            raise unsupported(
                self.op, f"{channels} channels for a filter of {self.groups.inputs} inputs"
            )
        known = [
            self.context.weights.array(name) if name in self.context.weights else None
            for name in self.op.inputs
        ]
        out, cut = deconv_padding(self.op, (height, width), self.window.kernel, known)
        self.before = (cut[0] // 2, cut[1] // 2)
        return (batch, *out, self.groups.count * self.groups.outputs)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        source = inputs[0]
        _, in_height, _, in_channels = nhwc(source.shape)
        batch, height, width, channels = nhwc(output.shape)
        stride = self.window.stride
        in_groups = self.groups.count > 1 and not self.is_depthwise
        bias = () if self.bias is None else (self.bias,)
        prefix = "depthwise_deconv2d_kernel_" if self.is_depthwise else "deconv2d_opencl_kernel_"
        strides_per_row = -(-width // stride[1])
        per_row = -(-strides_per_row // _PER_ITEM) * stride[1]
        return [
            self.gpu.bind(
                "deconv_2d",
                "deconv_2d",
                options=(
                    *(("-DBIAS",) if bias else ()),
                    *(("-DDEPTHWISE",) if self.is_depthwise else ()),
                    *(("-DGROUPS",) if in_groups else ()),
                    *self.activation.options,
                ),
                arguments=(
                    source,
                    self.filter,
                    *bias,
                    output,
                    *self.activation.arguments,
                    in_height,
                    self.groups.span if in_groups else blocks(in_channels),
                    height,
                    *self.window.kernel,
                    *stride,
                    *self.before,
                    *(
                        (self.groups.inputs, self.groups.outputs, blocks(in_channels) - 1)
                        if in_groups
                        else ()
                    ),
                ),
                key=shape_key(prefix, *nhwc(output.shape), *self.window.kernel),
                gws=(blocks(channels), per_row, batch * height),
                rule=local_size.default_3d,
            )
        ]
