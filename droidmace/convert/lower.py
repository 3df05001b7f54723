"""ONNX nodes to MACE ops.

Conventions (read off MACE's ``onnx_converter.py`` and ``transformer.py``, and off what they write):
activations are NHWC, convolution filters OIHW, depthwise filters MIHW; ReLU and ReLU6 are arguments
of the op before them; a convolution whose window is its whole input is a FullyConnected.

One thing is done differently on purpose. For ``Flatten + Gemm`` MACE writes Reshape and MatMul,
neither of which its GPU runtime takes in two dimensions, so the net's tail falls back to the CPU.
Here it becomes the equivalent FullyConnected, and stays on the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.graph import Array, Graph, Node, Shape
from droidmace.convert.mace_ops import ArgumentValue, EltwiseType, OpDraft, ReduceType
from droidmace.errors import ModelError

FLOAT32_MAX = float(np.finfo(np.float32).max)
FUSES_ACTIVATION = frozenset({"Conv2D", "DepthwiseConv2d", "FullyConnected"})
_ONE_PIXEL_HINT = "only a Gemm or MatMul can follow a flattening of more than one pixel"


@dataclass(frozen=True, slots=True)
class Lowered:
    """MACE ops in execution order, and the constants they read, in the order of the weights."""

    ops: tuple[OpDraft, ...]
    constants: dict[str, Array]


@dataclass(frozen=True, slots=True)
class _Value:
    """Where an ONNX tensor is: a MACE tensor of ``shape`` (n, h, w, c).

    ``flat`` marks an ONNX tensor of two dimensions. MACE keeps it as (n, h, w, c) all the same;
    with more than one pixel its values would lie in another order than ONNX's.
    """

    tensor: str
    shape: Shape
    flat: bool = False

    @property
    def pixels(self) -> int:
        return self.shape[1] * self.shape[2]


def lower(graph: Graph, *, runs_on_gpu: bool, winograd: int) -> Lowered:
    """Turn a simplified graph into MACE ops.

    ``winograd`` (0, 2 or 4) becomes ``wino_block_size`` of every Conv2D; MACE itself decides
    where it applies. Raises ``ModelError`` naming the first node that MACE cannot express.
    """
    return _Lowering(graph, runs_on_gpu=runs_on_gpu, winograd=winograd).run()


class _Lowering:
    """One conversion: the ops and constants so far, and where each ONNX tensor is."""

    def __init__(self, graph: Graph, *, runs_on_gpu: bool, winograd: int) -> None:
        self._graph = graph
        self._runs_on_gpu = runs_on_gpu
        self._winograd = winograd
        self._uses = graph.uses()
        self._ops: dict[str, OpDraft] = {}
        self._values: dict[str, _Value] = {}
        self._constants: dict[str, Array] = {}
        self._handlers: dict[str, Callable[[Node], None]] = {
            "Add": self._add,
            "Clip": self._clip,
            "Conv": self._conv,
            "Flatten": self._flatten,
            "Gemm": self._gemm,
            "GlobalAveragePool": self._global_average_pool,
            "ReduceMean": self._reduce_mean,
            "Relu": self._relu,
            "Reshape": self._flatten,
            "Softmax": self._softmax,
        }

    def run(self) -> Lowered:
        unknown = [node for node in self._graph.nodes if node.op_type not in self._handlers]
        if unknown:
            raise self._unsupported(unknown)
        for name in self._graph.inputs:
            shape = self._graph.shapes[name]
            if len(shape) != 4:
                raise ModelError(
                    f"input {name!r} has {len(shape)} dimensions; MACE's image ops need four",
                    hint="give the model an input of batch, channels, height and width",
                )
            self._values[name] = _Value(name, _nhwc(shape))
        for node in self._graph.nodes:
            self._handlers[node.op_type](node)
        for name in self._graph.outputs:
            self._finish_output(name)
        ops = tuple(self._ops.values())
        if self._winograd:
            block = {"wino_block_size": self._winograd}
            ops = tuple(op.with_arguments(block) if op.type == "Conv2D" else op for op in ops)
        return Lowered(ops, self._ordered_constants())

    def _unsupported(self, nodes: list[Node]) -> ModelError:
        first = nodes[0]
        return ModelError(
            f"{first.op_type} node {first.name!r}: this op cannot be converted yet",
            hint="replace it in the model; convertible are BatchNormalization after Conv, "
            "Constant, Dropout, Identity, MatMul, " + ", ".join(self._handlers),
            details="\n".join(f"{node.op_type} {node.name!r}" for node in nodes),
        )

    # --- bookkeeping ----------------------------------------------------------------------------

    def _value(self, node: Node, index: int = 0, *, whole_pixel: bool = True) -> _Value:
        """Where input ``index`` is; with ``whole_pixel`` its order must be ONNX's own."""
        name = node.input(index)
        value = self._values.get(name)
        if value is None:
            what = "a constant" if name in self._graph.constants else "not an image tensor"
            raise node.refuse(f"its input {index} ({name!r}) is {what}")
        if whole_pixel and value.flat and value.pixels != 1:
            raise node.refuse("its input is flattened from several pixels", hint=_ONE_PIXEL_HINT)
        return value

    def _emit(self, node: Node, op: OpDraft, *, flat: bool = False) -> None:
        if op.shape != self._expected_shape(node, op.shape, flat=flat):
            raise node.refuse(
                f"MACE gives it the shape {op.shape} (n, h, w, c), "
                f"ONNX {self._graph.shapes[node.output]}"
            )
        self._ops[op.output] = op
        self._values[node.output] = _Value(op.output, op.shape, flat)

    def _expected_shape(self, node: Node, shape: Shape, *, flat: bool) -> Shape:
        """What ONNX's shape inference makes of it, as NHWC; ``shape`` itself if it cannot say."""
        onnx_shape = self._graph.shapes.get(node.output)
        if onnx_shape is None:
            return shape
        if flat:
            return (onnx_shape[0], 1, 1, math.prod(onnx_shape[1:]))
        return _nhwc(onnx_shape) if len(onnx_shape) == 4 else ()

    def _use_constant(self, name: str, array: NDArray[Any], node: Node) -> str:
        """Register a constant as this op reads it; another layout of the same gets its own name."""
        values = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(values).all():
            raise node.refuse(
                f"its weights {name!r} hold NaN or infinity",
                hint="the training diverged or the export is damaged",
            )
        present = self._constants.get(name)
        if present is not None and not (
            present.shape == values.shape and np.array_equal(present, values)
        ):
            name = f"{node.name}_{name}"
        self._constants[name] = values
        return name

    def _constant(self, node: Node, index: int) -> NDArray[np.float32]:
        value = self._graph.constants.get(node.input(index))
        if value is None:
            raise node.refuse(
                f"its input {index} ({node.input(index)!r}) is not a constant",
                hint="weights must be stored in the model",
            )
        return value.astype(np.float32)

    def _bias(self, node: Node, channels: int, factor: float = 1.0) -> tuple[str, ...]:
        """The third input as a constant of one value per channel, if there is one."""
        name = node.input(2)
        if not name:
            return ()
        bias = self._constant(node, 2)
        if bias.size not in {1, channels} or bias.shape[:-1] != (1,) * (bias.ndim - 1):
            raise node.refuse(f"a bias of shape {bias.shape} for {channels} channels")
        spread = np.broadcast_to(bias.reshape(-1), (channels,)) * np.float32(factor)
        return (self._use_constant(name, spread, node),)

    def _ordered_constants(self) -> dict[str, Array]:
        """As MACE orders them: those of the model as they stand there, then the new ones."""
        used = {name for op in self._ops.values() for name in op.inputs}
        known = [name for name in self._graph.constants if name in self._constants]
        new = [name for name in self._constants if name not in self._graph.constants]
        return {name: self._constants[name] for name in [*known, *new] if name in used}

    def _finish_output(self, name: str) -> None:
        """Give the op that writes an output the output's own name."""
        value = self._values[name]
        if value.tensor == name:
            return
        if value.pixels != 1 and value.flat:
            raise ModelError(
                f"output {name!r} is flattened from several pixels, and MACE keeps them in "
                "another order",
                hint="declare the tensor before the flattening as the output",
            )
        if value.tensor in self._graph.outputs or value.tensor not in self._ops:
            raise ModelError(
                f"output {name!r} is only another name of {value.tensor!r}",
                hint="declare one of the two",
            )
        self._ops = {
            name if key == value.tensor else key: replace(
                op,
                inputs=tuple(name if read == value.tensor else read for read in op.inputs),
                output=name if op.output == value.tensor else op.output,
            )
            for key, op in self._ops.items()
        }
        self._values = {
            key: replace(other, tensor=name) if other.tensor == value.tensor else other
            for key, other in self._values.items()
        }

    # --- convolutions and matrix products -------------------------------------------------------

    def _conv(self, node: Node) -> None:
        source = self._value(node)
        filters = self._constant(node, 1)
        if filters.ndim != 4:
            raise node.refuse(f"{filters.ndim - 2}-dimensional convolution; only 2-D is supported")
        group = int(node.attributes.get("group", 1))
        out_channels, _, kernel_h, kernel_w = filters.shape
        channels = source.shape[3]
        depthwise = group > 1
        if depthwise and (group != channels or out_channels != group):
            raise node.refuse(
                f"{group} groups over {channels} channels to {out_channels}; MACE's GPU takes "
                "one group, or one per channel (depthwise)",
                hint="use an ordinary or a depthwise convolution",
            )
        strides = _pair(node, "strides")
        dilations = _pair(node, "dilations")
        dilated = self._runs_on_gpu and not depthwise and dilations != (1, 1)
        if dilated and (max(strides) > 1 or kernel_h == 1):
            raise node.refuse(
                "MACE's GPU runtime has no dilated convolution with a stride or a 1-high kernel",
                hint="set 'runtime: cpu', or change the model",
            )
        kernel = (kernel_h, kernel_w)
        before, after = _pads(node, source.shape, kernel, strides, dilations)
        if any(late - early not in {0, 1} for early, late in zip(before, after, strict=True)):
            source = self._pad(node, source, before, after)
            before = after = (0, 0)
        totals = (before[0] + after[0], before[1] + after[1])
        height, width = (
            (source.shape[axis + 1] + totals[axis] - dilations[axis] * (kernel[axis] - 1) - 1)
            // strides[axis]
            + 1
            for axis in (0, 1)
        )
        arguments: dict[str, ArgumentValue] = {
            "strides": strides,
            "kernels": kernel,
            "padding_values": totals,
            "group": group,
            "dilations": dilations,
        }
        shape = (source.shape[0], height, width, out_channels)
        laid_out = filters.transpose(1, 0, 2, 3) if depthwise else filters
        weights = self._use_constant(node.input(1), laid_out, node)
        covers_input = kernel == source.shape[1:3] and totals == (0, 0)
        whole = covers_input and not depthwise and self._uses[node.input(1)] == 1
        dense_type = "FullyConnected" if whole else "Conv2D"
        self._emit(
            node,
            OpDraft(
                name=node.name,
                type="DepthwiseConv2d" if depthwise else dense_type,
                inputs=(source.tensor, weights, *self._bias(node, out_channels)),
                output=node.output,
                shape=shape,
                arguments=arguments,
                multiply_adds=math.prod(shape) * math.prod(filters.shape[1:]),
            ),
        )

    def _pad(
        self, node: Node, source: _Value, before: tuple[int, int], after: tuple[int, int]
    ) -> _Value:
        """A Pad op for what ``padding_values`` cannot say: they are halved, the smaller first."""
        batch, height, width, channels = source.shape
        output = f"{node.name}_padded"
        shape = (
            batch,
            height + before[0] + after[0],
            width + before[1] + after[1],
            channels,
        )
        self._ops[output] = OpDraft(
            name=f"{node.name}_pad",
            type="Pad",
            inputs=(source.tensor,),
            output=output,
            shape=shape,
            arguments={
                "paddings": (0, 0, before[0], after[0], before[1], after[1], 0, 0),
                "constant_value": 0.0,
                "has_data_format": 1,
            },
        )
        return _Value(output, shape)

    def _gemm(self, node: Node) -> None:
        source = self._value(node, whole_pixel=False)
        if not source.flat and source.pixels != 1:
            raise node.refuse("its input is not flattened")
        if node.attributes.get("transA", 0):
            raise node.refuse("its first input is transposed")
        weights = self._constant(node, 1)
        if not node.attributes.get("transB", 0):
            weights = weights.T
        batch, height, width, channels = source.shape
        outputs, inputs = weights.shape
        if inputs != height * width * channels:
            raise node.refuse(f"weights for {inputs} values, the input has {source.shape[1:]}")
        # ONNX flattens channels first, which is just how an OIHW filter lies.
        filters = weights.reshape(outputs, channels, height, width)
        scaled = filters * np.float32(node.attributes.get("alpha", 1.0))
        name = self._use_constant(node.input(1), scaled, node)
        bias = self._bias(node, outputs, float(node.attributes.get("beta", 1.0)))
        op = OpDraft(
            name=node.name,
            type="FullyConnected",
            inputs=(source.tensor, name, *bias),
            output=node.output,
            shape=(batch, 1, 1, outputs),
            arguments={},
            multiply_adds=batch * outputs * inputs,
        )
        self._emit(node, op, flat=True)

    # --- activations ----------------------------------------------------------------------------

    def _relu(self, node: Node) -> None:
        self._activate(node, {"activation": "RELU", "activation_coefficient": 0.0})

    def _clip(self, node: Node) -> None:
        low = self._bound(node, "min", 1, -FLOAT32_MAX)
        high = self._bound(node, "max", 2, FLOAT32_MAX)
        if low != 0.0 or high <= 0.0:
            raise node.refuse(
                f"it clips to {low:g} … {high:g}; only 0 … maximum is an activation of MACE"
            )
        if high >= FLOAT32_MAX:
            self._activate(node, {"activation": "RELU"})
        else:
            self._activate(node, {"activation": "RELUX", "max_limit": high})

    def _bound(self, node: Node, attribute: str, index: int, default: float) -> float:
        """A bound of a Clip: an attribute up to opset 10, an optional input after."""
        if attribute in node.attributes:
            return float(node.attributes[attribute])
        if not node.input(index):
            return default
        value = self._constant(node, index)
        if value.size != 1:
            raise node.refuse(f"its bound {node.input(index)!r} is not one number")
        return float(value.reshape(-1)[0])

    def _activate(self, node: Node, arguments: dict[str, ArgumentValue]) -> None:
        source = self._value(node)
        before = self._ops.get(source.tensor)
        single_reader = self._uses[node.input(0)] == 1 and node.input(0) == source.tensor
        if (
            before is not None
            and single_reader
            and before.type in FUSES_ACTIVATION
            and "activation" not in before.arguments
        ):
            del self._ops[source.tensor]
            fused = replace(before, name=node.name, output=node.output)
            self._emit(node, fused.with_arguments(arguments), flat=source.flat)
            return
        op = OpDraft(
            name=node.name,
            type="Activation",
            inputs=(source.tensor,),
            output=node.output,
            shape=source.shape,
            arguments={**arguments, "has_data_format": 1},
        )
        self._emit(node, op, flat=source.flat)

    def _softmax(self, node: Node) -> None:
        source = self._value(node)
        rank = 2 if source.flat else 4
        default = 1 if self._graph.opset < 13 else -1
        axis = int(node.attributes.get("axis", default)) % rank
        # Up to opset 12 everything from the axis on is one distribution.
        over_channels = axis == 1 and (self._graph.opset >= 13 or source.pixels == 1)
        if not over_channels:
            raise node.refuse(
                f"it runs along axis {axis} of {rank}; MACE's GPU softmax runs along the channels"
            )
        op = OpDraft(
            name=node.name,
            type="Softmax",
            inputs=(source.tensor,),
            output=node.output,
            shape=source.shape,
            arguments={"axis": 1, "has_data_format": 1},
        )
        self._emit(node, op, flat=source.flat)

    # --- the rest -------------------------------------------------------------------------------

    def _add(self, node: Node) -> None:
        first, second = self._value(node, 0), self._value(node, 1)
        if first.shape != second.shape:
            raise node.refuse(
                f"it adds (n, h, w, c) {first.shape} and {second.shape}",
                hint="give both inputs the same shape",
            )
        op = OpDraft(
            name=node.name,
            type="Eltwise",
            inputs=(first.tensor, second.tensor),
            output=node.output,
            shape=first.shape,
            arguments={"type": int(EltwiseType.SUM), "has_data_format": 1},
        )
        self._emit(node, op, flat=first.flat and second.flat)

    def _global_average_pool(self, node: Node) -> None:
        self._mean_over_pixels(node, flat=False)

    def _reduce_mean(self, node: Node) -> None:
        axes = node.attributes.get("axes")
        if axes is None and node.input(1):
            axes = self._graph.constants.get(node.input(1))
        found = None if axes is None else sorted(int(axis) % 4 for axis in axes)
        if found != [2, 3]:
            raise node.refuse(
                f"it averages over the axes {found if found is not None else 'of a tensor'}; "
                "only height and width (2, 3) are supported"
            )
        self._mean_over_pixels(node, flat=not node.attributes.get("keepdims", 1))

    def _mean_over_pixels(self, node: Node, *, flat: bool) -> None:
        source = self._value(node)
        if source.flat:
            raise node.refuse("its input has no height and width")
        op = OpDraft(
            name=node.name,
            type="Reduce",
            inputs=(source.tensor,),
            output=node.output,
            shape=(source.shape[0], 1, 1, source.shape[3]),
            # MACE's GPU runtime always keeps the reduced axes.
            arguments={
                "reduce_type": int(ReduceType.MEAN),
                "axis": (1, 2),
                "keepdims": 1,
                "has_data_format": 1,
            },
        )
        self._emit(node, op, flat=flat)

    def _flatten(self, node: Node) -> None:
        """Flatten, or a Reshape that does the same: nothing to compute, only another view."""
        source = self._value(node, whole_pixel=False)
        target = self._graph.shapes.get(node.output, ())
        batch, _, _, channels = source.shape
        if target == (batch, channels * source.pixels):
            self._values[node.output] = replace(source, flat=True)
        elif target == _nchw(source.shape):
            self._values[node.output] = replace(source, flat=False)
        else:
            raise node.refuse(
                f"it makes {target or 'an unknown shape'} of (n, h, w, c) {source.shape}",
                hint="only flattening to (batch, values) is supported",
            )


def _nhwc(shape: Shape) -> Shape:
    return (shape[0], shape[2], shape[3], shape[1])


def _nchw(shape: Shape) -> Shape:
    return (shape[0], shape[3], shape[1], shape[2])


def _pair(node: Node, attribute: str) -> tuple[int, int]:
    values = tuple(int(value) for value in node.attributes.get(attribute, (1, 1)))
    if len(values) != 2 or min(values) < 1:
        raise node.refuse(f"{attribute} {values} are not two positive numbers")
    return values[0], values[1]


def _pads(
    node: Node,
    shape: Shape,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding (h, w) before and after, with ``auto_pad`` worked out."""
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    if automatic in {b"NOTSET", b"VALID"}:
        pads = (0, 0, 0, 0) if automatic == b"VALID" else node.attributes.get("pads", (0, 0, 0, 0))
        top, left, bottom, right = (int(pad) for pad in pads)
        if min(top, left, bottom, right) < 0:
            raise node.refuse("negative padding crops; MACE cannot")
        return (top, left), (bottom, right)
    if automatic not in {b"SAME_UPPER", b"SAME_LOWER"}:
        raise node.refuse(f"auto_pad {automatic!r} is unknown")
    small, large = [], []
    for axis in (0, 1):
        size = shape[axis + 1]
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    before, after = (small, large) if automatic == b"SAME_UPPER" else (large, small)
    return (before[0], before[1]), (after[0], after[1])
