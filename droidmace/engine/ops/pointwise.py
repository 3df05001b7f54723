"""Ops that work value by value: Activation, Eltwise, BiasAdd, BatchNorm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from droidmace.engine.attributes import EltwiseType, FusedActivation, Shape, nhwc, unsupported
from droidmace.engine.opencl import local_size
from droidmace.engine.opencl.runtime import Bindable, Dispatch
from droidmace.engine.opencl.tensor import Tensor, WeightTable
from droidmace.engine.ops.base import NetContext, SingleOutputOp, per_pixel_gws, shape_key
from droidmace.formats.netdef import OperatorDef


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
            raise unsupported(op, f"eltwise type {kind}")
        self.kind = EltwiseType(kind)
        self.coefficients = op.floats_arg("coeff")
        needed = (2,) if self.kind is EltwiseType.CLIP else (0, 2)
        if len(self.coefficients) not in needed:
            raise unsupported(op, f"{len(self.coefficients)} coefficients")
        self.constant: Tensor | None = None
        self.constant_first = False
        for index, name in enumerate(op.inputs):
            if name in context.weights:
                self.constant = self._upload(name)
                self.constant_first = index == 0
        if len(op.inputs) > 2:
            raise unsupported(op, f"{len(op.inputs)} inputs")

    def _upload(self, name: str) -> Tensor:
        weights = self.context.weights
        shape = weights.array(name).shape
        if len(shape) == 1:
            return weights.vector_activation(name)
        return weights.activation(name)

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """See :class:`SingleOutputOp`."""
        found = [shapes[name] for name in self.inputs]
        if self.constant is not None:
            found.append(self.constant.shape)
        found.sort(key=math.prod, reverse=True)
        if len(found) == 2:
            self._broadcast(*found)
        return found[0]

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        operands = list(inputs)
        if self.constant is not None:
            operands.insert(0 if self.constant_first else len(operands), self.constant)
        options = [f"-DELTWISE_TYPE={int(self.kind)}"]
        swapped = False
        second: tuple[Bindable | float, ...]
        if len(operands) == 1:
            options.append("-DINPUT_SCALAR")
            second = (self.op.float_arg("scalar_input", 1.0),)
            swapped = self.op.int_arg("scalar_input_index", 1) == 0
        else:
            sizes = [math.prod(operand.shape) for operand in operands]
            if sizes[0] < sizes[1]:
                operands.reverse()
                swapped = True
            second = (operands[1],)
            options += self._broadcast(operands[0].shape, operands[1].shape)
        if swapped:
            options.append("-DSWAPPED")
        if self.coefficients:
            options.append("-DCOEFF_SUM")
        _, *sizes = nhwc(output.shape)
        return [
            self.gpu.bind(
                "eltwise",
                "eltwise",
                options=options,
                arguments=(
                    operands[0],
                    *second,
                    *sizes,
                    *self.coefficients,
                    output,
                ),
                key=shape_key("eltwise_opencl_kernel", *nhwc(output.shape)),
                gws=per_pixel_gws(output.shape),
                rule=local_size.default_3d,
            )
        ]

    def _broadcast(self, whole: Shape, part: Shape) -> list[str]:
        """The build option for spreading ``part`` over ``whole``. Raises ``EngineError``."""
        large, small = nhwc(whole), nhwc(part)
        if large == small:
            return []
        if small == (1, 1, 1, large[3]):
            return ["-DINPUT_VECTOR"]
        if small == (large[0], 1, 1, large[3]):
            return ["-DINPUT_BATCH_VECTOR"]
        if small == (*large[:3], 1):
            return ["-DINPUT_TENSOR_BC_CHAN"]
        raise unsupported(self.op, f"broadcast of {list(part)} to {list(whole)}")


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
        epsilon = () if folded else (self.op.float_arg("epsilon", 1e-5),)
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
