"""A net on the CPU, in numpy: right before fast. Activations are NHWC here too."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from droidmace.engine.attributes import (
    EltwiseType,
    FusedActivation,
    Window,
    nhwc,
    reshaped,
    shape_from,
    unsupported,
)
from droidmace.engine.macelog import MaceLog
from droidmace.engine.model import Constant, Model, check_graph
from droidmace.engine.net import Array, Net, OpTiming, log_range, timing_of
from droidmace.errors import EngineError
from droidmace.formats.netdef import OperatorDef

_POOL_AVERAGE = 1
_MAX_ELEMENTS = 1 << 28


class CpuNet(Net):
    """See the module's docstring."""

    runtimes = ("CPU",)

    def __init__(self, model: Model, log: MaceLog, *, log_ranges: bool = False) -> None:
        check_graph(model)
        self._log_ranges = log_ranges
        self._net = model.net
        self._log = log
        self._constants: dict[str, Constant] = {
            name: value.astype(np.float32) if value.dtype.kind == "f" else value
            for name, value in model.constants.items()
        }
        for op in model.net.ops:
            if op.type not in _OPS:
                raise unsupported(op, "no such op in this engine")

    def prepare(self) -> None:
        """Nothing is compiled on the CPU."""

    def run(
        self, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """See :class:`Net`."""
        values: dict[str, Constant] = {**self._constants, **inputs}
        for op in self._net.ops:
            start_us = time.perf_counter_ns() // 1000
            try:
                # a C program does not warn of infinities
                with np.errstate(all="ignore"):
                    result = _OPS[op.type](op, [values[name] for name in op.inputs])
            except (EngineError, KeyError, IndexError, ValueError) as exc:
                # shapes that do not go together: a failed check in MACE
                self._log.fatal("core/net/serial_net.cc:131", f"Check failed: {op.name}: {exc}")
            values[op.outputs[0]] = result
            if timings is not None:
                end_us = time.perf_counter_ns() // 1000
                weights = self._constants.get(op.inputs[1]) if len(op.inputs) > 1 else None
                shape = () if weights is None else weights.shape
                timings.append(timing_of(op, start_us, end_us, result.shape, shape))
            if self._log_ranges:
                log_range(self._log, op.outputs[0], result)
        return {
            info.name: np.ascontiguousarray(values[info.name], np.float32)
            for info in self._net.output_infos
        }


def _activate(op: OperatorDef, x: Constant) -> Array:
    fused = FusedActivation.of(op)
    name = op.str_arg("activation", "NOOP")
    negative = np.minimum(x, 0)
    if name == "RELU":
        x = np.maximum(x, 0)
    elif name == "RELUX":
        x = np.minimum(np.maximum(x, 0), fused.max_limit)
    elif name == "TANH":
        x = np.tanh(x)
    elif name == "SIGMOID":
        x = 1 / (1 + np.exp(-x))
    elif name == "LEAKYRELU":
        x = np.maximum(x, 0) + fused.coefficient * negative
    elif name == "ELU":
        x = np.maximum(x, 0) + fused.coefficient * np.expm1(negative)
    elif name == "HARDSIGMOID":
        x = np.minimum(np.maximum(fused.max_limit * x + fused.coefficient, 0), 1)
    return x.astype(np.float32, copy=False)


def _check_size(elements: int) -> None:
    """Refuse arrays that only a nonsensical model asks for. Raises ``EngineError``."""
    if elements > _MAX_ELEMENTS:
        raise EngineError(f"an array of {elements} values is too large")


def _windows(x: Array, window: Window, fill: float, *, ceil: bool = False) -> Array:
    """Every window of ``x`` as [N, OH, OW, KH, KW, C]; outside of the image lies ``fill``."""
    size = (x.shape[1], x.shape[2])
    out, padding = window.slide(size, ceil=ceil)
    before = (padding[0] // 2, padding[1] // 2)
    # enough behind for the last window, which may stand over the edge
    extent = [(window.kernel[i] - 1) * window.dilation[i] + 1 for i in (0, 1)]
    after = [
        max((out[i] - 1) * window.stride[i] + extent[i] - size[i] - before[i], 0) for i in (0, 1)
    ]
    pads = ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0))
    _check_size(math.prod(sum(pair) + length for pair, length in zip(pads, x.shape, strict=True)))
    _check_size(math.prod((x.shape[0], *out, *window.kernel, x.shape[3])))
    padded = np.pad(x, pads, constant_values=fill)
    n, h, w, c = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (x.shape[0], *out, *window.kernel, x.shape[3]),
        (
            n,
            h * window.stride[0],
            w * window.stride[1],
            h * window.dilation[0],
            w * window.dilation[1],
            c,
        ),
        writeable=False,
    )


def _conv2d(op: OperatorDef, inputs: list[Constant]) -> Array:
    x, weights, *bias = inputs
    if op.int_arg("group", 1) != 1 or x.shape[3] != weights.shape[1]:
        raise unsupported(op, f"input {list(x.shape)}, filter {list(weights.shape)}")
    window = Window.of(op, (weights.shape[2], weights.shape[3]))
    y = np.tensordot(_windows(x, window, 0.0), weights, axes=([3, 4, 5], [2, 3, 1]))
    return _activate(op, y + bias[0] if bias else y)


def _depthwise_conv2d(op: OperatorDef, inputs: list[Constant]) -> Array:
    x, weights, *bias = inputs
    if weights.shape[:2] != (1, x.shape[3]):
        raise unsupported(op, f"input {list(x.shape)}, filter {list(weights.shape)}")
    window = Window.of(op, (weights.shape[2], weights.shape[3]))
    y = np.einsum("nhwijc,cij->nhwc", _windows(x, window, 0.0), weights[0])
    return _activate(op, y + bias[0] if bias else y)


def _pooling(op: OperatorDef, inputs: list[Constant]) -> Array:
    x = inputs[0]
    kernel = op.ints_arg("kernels")
    window = Window.of(op, (kernel[0], kernel[1]))
    ceil = op.int_arg("round_mode", 0) == 1
    if op.int_arg("pooling_type", _POOL_AVERAGE) != _POOL_AVERAGE:
        lowest = float(np.finfo(np.float32).min)
        return np.asarray(_windows(x, window, lowest, ceil=ceil).max(axis=(3, 4)))
    inside = _windows(np.ones((1, *x.shape[1:3], 1), np.float32), window, 0.0, ceil=ceil)
    return np.asarray(
        _windows(x, window, 0.0, ceil=ceil).sum(axis=(3, 4)) / inside.sum(axis=(3, 4))
    )


_REDUCTIONS: tuple[Callable[..., Array], ...] = (np.mean, np.min, np.max, np.prod, np.sum)


def _reduce(op: OperatorDef, inputs: list[Constant]) -> Array:
    reduction = _REDUCTIONS[op.int_arg("reduce_type", 0)]
    axes = tuple(axis % inputs[0].ndim for axis in op.ints_arg("axis"))
    return np.asarray(reduction(inputs[0], axis=axes, keepdims=True))


def _fully_connected(op: OperatorDef, inputs: list[Constant]) -> Array:
    x, weights, *bias = inputs
    x = x.reshape(nhwc(x.shape))
    y = np.tensordot(x, weights, axes=([1, 2, 3], [2, 3, 1]))[:, None, None, :]
    return _activate(op, y + bias[0] if bias else y)


def _softmax(op: OperatorDef, inputs: list[Constant]) -> Array:
    shifted = inputs[0] - inputs[0].max(axis=-1, keepdims=True)
    exponents = np.exp(shifted)
    total = exponents.sum(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(total) if op.int_arg("use_log") else exponents / total)


def _eltwise(op: OperatorDef, inputs: list[Constant]) -> Array:
    kind = EltwiseType(op.int_arg("type", -1))
    operands = list(inputs)
    if len(operands) == 1:
        index = op.int_arg("scalar_input_index", 1)
        operands.insert(index, np.float32(op.float_arg("scalar_input", 1.0)))  # type: ignore[arg-type]
    a, b = operands
    coefficients = op.floats_arg("coeff")
    if kind is EltwiseType.SUM and coefficients:
        return np.asarray(a * coefficients[0] + b * coefficients[1], np.float32)
    if kind is EltwiseType.CLIP:
        return np.asarray(np.minimum(np.maximum(inputs[0], coefficients[0]), coefficients[1]))
    return np.asarray(_ARITHMETIC[kind](a, b), np.float32)


_ARITHMETIC: dict[EltwiseType, Callable[[Array, Array], Array]] = {
    EltwiseType.SUM: np.add,
    EltwiseType.SUB: np.subtract,
    EltwiseType.PROD: np.multiply,
    EltwiseType.DIV: np.divide,
    EltwiseType.MIN: np.minimum,
    EltwiseType.MAX: np.maximum,
    EltwiseType.NEG: lambda a, _: -a,
    EltwiseType.ABS: lambda a, _: np.abs(a),
    EltwiseType.SQR_DIFF: lambda a, b: np.square(a - b),
    EltwiseType.POW: np.power,
    EltwiseType.FLOOR_DIV: np.floor_divide,
}


def _activation(op: OperatorDef, inputs: list[Constant]) -> Array:
    if op.str_arg("activation") == "PRELU":
        slope = inputs[1].reshape(-1)
        return np.asarray(np.maximum(inputs[0], 0) + slope * np.minimum(inputs[0], 0))
    return _activate(op, inputs[0])


def _batch_norm(op: OperatorDef, inputs: list[Constant]) -> Array:
    x, scale, offset, *moments = inputs
    if moments:
        mean, variance = moments
        scale = scale / np.sqrt(variance + np.float32(op.float_arg("epsilon", 1e-5)))
        offset = offset - mean * scale
    return _activate(op, x * scale + offset)


def _concat(op: OperatorDef, inputs: list[Constant]) -> Array:
    return np.concatenate(inputs, axis=op.int_arg("axis", 3))


def _pad(op: OperatorDef, inputs: list[Constant]) -> Array:
    pads = op.ints_arg("paddings")
    if len(pads) != 2 * inputs[0].ndim or min(pads) < 0:
        raise unsupported(op, f"paddings {list(pads)}")
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    sizes = (sum(pair) + size for pair, size in zip(pairs, inputs[0].shape, strict=True))
    _check_size(math.prod(sizes))
    kind = op.int_arg("pad_type", 0)
    if kind == 0:
        return np.pad(inputs[0], pairs, constant_values=op.float_arg("constant_value"))
    return np.pad(inputs[0], pairs, mode="reflect" if kind == 1 else "symmetric")


def _reshape(op: OperatorDef, inputs: list[Constant]) -> Array:
    x = inputs[0]
    constant = shape_from(op, inputs[1]) if len(inputs) > 1 else ()
    target = reshaped(op, x.shape, constant)
    nchw = bool(op.int_arg("has_data_format")) and op.int_arg("framework_type") in (2, 3)
    if not nchw or x.ndim != 4 or math.prod(x.shape[1:3]) == 1:
        return x.reshape(target)
    flat = x.transpose(0, 3, 1, 2)
    if len(target) != 4:
        return flat.reshape(target)
    n, h, w, c = target
    return flat.reshape(n, c, h, w).transpose(0, 2, 3, 1)


_OPS: dict[str, Callable[[OperatorDef, list[Constant]], Array]] = {
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "BiasAdd": lambda op, inputs: inputs[0] + inputs[1],
    "Concat": _concat,
    "Conv2D": _conv2d,
    "DepthwiseConv2d": _depthwise_conv2d,
    "Eltwise": _eltwise,
    "Flatten": _reshape,
    "FullyConnected": _fully_connected,
    "Identity": _reshape,
    "Pad": _pad,
    "Pooling": _pooling,
    "Reduce": _reduce,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Squeeze": _reshape,
}
