"""Ops that work value by value: Activation, Eltwise, AddN, BiasAdd, BatchNorm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from droidmace.engine.attributes import FusedActivation, Shape, nhwc, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Bindable, Dispatch, KernelArgument
from droidmace.engine.opencl.tensor import Tensor, WeightTable
from droidmace.engine.ops.base import (
    NetContext,
    SingleOutputOp,
    not_on_gpu,
    per_pixel_gws,
    shape_key,
)
from droidmace.formats.netdef import OperatorDef
from droidmace.formats.op_types import EltwiseType

_COMPARISONS = (10, 15)  # EQUAL and NOT_EQUAL make whole numbers


class Activation(SingleOutputOp):
    """An activation on its own."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        self.name = op.str_arg("activation", "NOOP")
        if self.name == "PRELU":
            self.options: tuple[str, ...] = ("-DUSE_PRELU",)
            self.alpha: list[WeightTable] = []
            self.numbers = (0.0, 0.0)
        else:
            activation = FusedActivation.of(op)
            self.options, self.numbers = activation.options, activation.arguments
            self.alpha = []

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        if self.name == "PRELU":
            self.alpha = [self.vector(1, nhwc(shape)[3])]
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return [
            self.gpu.bind(
                "activation",
                "activation",
                options=self.options,
                arguments=(inputs[0], *self.alpha, *self.numbers, output),
                key=shape_key(f"{self.name.lower()}_opencl_kernel", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]


class Eltwise(SingleOutputOp):
    """Arithmetic of two activations, or of one and a constant or a number."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        kind = op.int_arg("type", -1)
        if kind not in list(EltwiseType):
            refuse = not_on_gpu if kind in _COMPARISONS else unsupported
            raise refuse(op, f"eltwise type {kind}")
        self.kind = EltwiseType(kind)
        self.coefficients = op.floats_arg("coeff")
        needed = (2,) if self.kind is EltwiseType.CLIP else (0, 2)
        if len(self.coefficients) not in needed:
            raise unsupported(op, f"{len(self.coefficients)} coefficients")
        if not 1 <= len(op.inputs) <= 2:
            raise unsupported(op, f"{len(op.inputs)} inputs")

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        found = []
        for name in self.op.inputs:
            if name in shapes:
                found.append(shapes[name])
                continue
            values = self.context.weights.array(name)
            if values.dtype.kind != "f":
                raise not_on_gpu(self.op, f"{name!r} holds whole numbers")
            found.append(values.shape)  # MACE's GPU takes a constant image as NHWC, unlike its CPU
        ranks = {len(shape) for shape in found}
        if not (ranks <= {0, 1, 4} or ranks <= {0, 1, 2}):
            raise not_on_gpu(self.op, f"inputs of {sorted(ranks)} axes")
        try:
            return tuple(np.broadcast_shapes(*found))
        except ValueError as exc:
            raise unsupported(self.op, f"inputs {', '.join(str(list(s)) for s in found)}") from exc

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        options = [f"-DELTWISE_TYPE={int(self.kind)}"]
        activations = dict(zip(self.inputs, inputs, strict=True))
        operands = [activations.get(name) or self._constant(name) for name in self.op.inputs]
        arguments: list[KernelArgument | Bindable] = []
        for index, operand in enumerate(operands):
            arguments.append(operand)
            spread = _spread(nhwc(operand.shape), nhwc(output.shape))
            arguments += spread
            if spread:
                options.append(f"-DSPREAD{index}")
        if len(operands) == 1:
            options.append("-DINPUT_SCALAR")
            arguments.append(self.op.float_arg("scalar_input", 1.0))
            if self.op.int_arg("scalar_input_index", 1) == 0:
                options.append("-DSWAPPED")
        if self.coefficients:
            options.append("-DCOEFF_SUM")
        _, height, _, channels = nhwc(output.shape)
        return [
            self.gpu.bind(
                "eltwise",
                "eltwise",
                options=options,
                arguments=(*arguments, height, channels, *self.coefficients, output),
                key=shape_key("eltwise_opencl_kernel", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]

    def _constant(self, name: str) -> Tensor:
        weights = self.context.weights
        if weights.array(name).ndim == 1:
            return weights.vector_activation(name)
        return weights.activation(name)


def _spread(part: Shape, whole: Shape) -> list[KernelArgument | Bindable]:
    """What the kernel takes to spread ``part`` over ``whole``; nothing if it is as large."""
    if part == whole:
        return []
    return [part[1], *(int(part[axis] == whole[axis]) for axis in (0, 2, 3))]


class AddN(SingleOutputOp):
    """The sum of any number of tensors of one shape."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        found = {shapes[name] for name in self.inputs}
        if len(found) != 1 or len(self.inputs) != len(self.op.inputs):
            raise not_on_gpu(self.op, "its inputs are not activations of one shape")
        (self.shape,) = found
        return self.shape

    def scratch_shapes(self) -> list[Shape]:
        """See :class:`GpuOp`."""
        return [self.shape] * min(len(self.inputs) - 2, 2)

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        count = len(self.op.inputs)
        tensors, scratch = inputs[:count], inputs[count:]
        if count == 1:
            return [self._add(tensors[0], None, output)]
        dispatches = []
        total = tensors[0]
        for index in range(1, count):
            target = output if index == count - 1 else scratch[index % 2 if count > 3 else 0]
            dispatches.append(self._add(total, tensors[index], target))
            total = target
        return dispatches

    def _add(self, first: Tensor, second: Tensor | None, target: Tensor) -> Dispatch:
        _, height, _, channels = nhwc(target.shape)
        return self.gpu.bind(
            "eltwise",
            "eltwise",
            options=("-DELTWISE_TYPE=0", *(("-DINPUT_SCALAR",) if second is None else ())),
            arguments=(first, 0.0 if second is None else second, height, channels, target),
            key=shape_key("addn_opencl_kernel", *nhwc(target.shape)),
            gws=per_pixel_gws(target.shape),
            rule=local_size.default_3d,
        )


class BiasAdd(SingleOutputOp):
    """A constant per channel added."""

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        self.bias = self.vector(1, nhwc(shape)[3])
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        return [
            self.gpu.bind(
                "bias_add",
                "bias_add",
                arguments=(inputs[0], self.bias, output),
                key=shape_key("bias_add_opencl_kernel", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]


class BatchNorm(SingleOutputOp):
    """Scale and offset per channel; mean and variance too unless they are folded."""

    def __init__(self, op: OperatorDef, context: NetContext) -> None:
        super().__init__(op, context)
        if len(op.inputs) not in (3, 5):
            raise unsupported(op, f"{len(op.inputs)} inputs")
        self.constants: list[WeightTable] = []
        self.activation = FusedActivation.of(op)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        shape = shapes[self.inputs[0]]
        channels = nhwc(shape)[3]
        self.constants = [self.vector(i, channels) for i in range(1, len(self.op.inputs))]
        return shape

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        folded = len(self.constants) == 2
        epsilon = () if folded else (self.op.float_arg("epsilon", 1e-4),)
        name = self.op.str_arg("activation", "NOOP")
        return [
            self.gpu.bind(
                "batch_norm",
                "batch_norm",
                options=(*(("-DFOLDED_CONSTANT",) if folded else ()), *self.activation.options),
                arguments=(
                    inputs[0],
                    *self.constants,
                    *epsilon,
                    nhwc(output.shape)[3],
                    *self.activation.arguments,
                    output,
                ),
                key=shape_key(
                    "batch_norm_opencl_kernel", _ACTIVATION_NUMBER[name], *nhwc(output.shape)
                ),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]


# mace/ops/common/activation_type.h; the number stands in BatchNorm's tuning key
_ACTIVATION_NUMBER = {
    name: number
    for number, name in enumerate(
        (
            "NOOP",
            "RELU",
            "RELUX",
            "PRELU",
            "TANH",
            "SIGMOID",
            "LEAKYRELU",
            "ELU",
            "HARDSIGMOID",
        )
    )
}
