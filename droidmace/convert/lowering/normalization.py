"""Normalizations."""

from __future__ import annotations

import numpy as np

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, N, Value, W
from droidmace.convert.lowering.arithmetic import Constant, combine, scalar_arguments
from droidmace.convert.lowering.reduction import reduced
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue, ReduceType
from droidmace.formats.op_types import EltwiseType

IMAGE_PLACES = (N, C, H, W)


@converts("BatchNormalization", to=("BatchNorm",), limits=("training mode",))
def batch_norm(state: Conversion, node: Node) -> None:
    """A norm that no convolution takes in: scale and offset per channel."""
    if node.integer("training_mode", 0):
        raise node.refuse("it is in training mode", hint="export the model for inference")
    source = state.value(node)
    if len(source.groups) < 2:
        raise node.refuse("its input has no channels")
    if source.groups[1] not in {(C,), ()} or (not source.groups[1] and C in source.order):
        source = state.placed(node, 0, IMAGE_PLACES[: len(source.groups)])
    gamma, beta, mean, variance = (
        state.constant(node, index).astype(np.float64) for index in range(1, 5)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + node.number("epsilon", 1e-5))
    if scale.shape != (source.size(C),):
        raise node.refuse(f"{scale.size} channels for {source.size(C)} of the input")
    # As MACE's converter names them.
    names = [
        state.use_constant(state.new_name(f"{node.name}{suffix}"), values, node)
        for suffix, values in (("scale", scale), ("offset", beta - mean * scale))
    ]
    inputs = (source.tensor, *names)
    state.emit(node, "BatchNorm", inputs, source.shape, source.groups)


@converts("InstanceNormalization", to=("InstanceNorm",))
def instance_norm(state: Conversion, node: Node) -> None:
    """InstanceNormalization."""
    rank = len(state.value(node).groups)
    source = state.placed(node, 0, IMAGE_PLACES[:rank])
    for index in (1, 2):
        if (shape := state.constant(node, index).shape) != (source.size(C),):
            raise node.refuse(f"weights of shape {shape} for {source.size(C)} channels")
    scale = state.use_constant(node.input(1), state.constant(node, 1), node)
    offset = state.use_constant(node.input(2), state.constant(node, 2), node)
    arguments: dict[str, ArgumentValue] = {"epsilon": node.number("epsilon", 1e-5), "affine": 1}
    inputs = (source.tensor, scale, offset)
    state.emit(node, "InstanceNorm", inputs, source.shape, source.groups, arguments)


@converts("LRN", to=("LocalResponseNorm",), gpu=False, limits=("an even size",))
def lrn(state: Conversion, node: Node) -> None:
    """LRN over channels: MACE's reaches as far to both sides, and does not divide alpha."""
    source = state.placed(node, 0, IMAGE_PLACES)
    size = node.integer("size", 1)
    if size < 1 or size % 2 == 0:
        raise node.refuse(f"it runs over {size} channels; MACE's window is odd")
    arguments: dict[str, ArgumentValue] = {
        "depth_radius": size // 2,
        "bias": node.number("bias", 1.0),
        "alpha": node.number("alpha", 1e-4) / size,
        "beta": node.number("beta", 0.75),
    }
    inputs = (source.tensor,)
    state.emit(node, "LocalResponseNorm", inputs, source.shape, source.groups, arguments)


@converts("LpNormalization", to=("Eltwise", "Reduce"))
def lp_norm(state: Conversion, node: Node) -> None:
    """LpNormalization along one axis. MACE's LpNorm runs over all axes behind it instead."""
    source = state.value(node)
    if not source.groups:
        raise node.refuse("its input is a single number")
    axis = node.integer("axis", -1) % len(source.groups)
    order = node.integer("p", 2)
    if order not in {1, 2}:
        raise node.refuse(f"p is {order}; only 1 and 2 are norms in ONNX")
    kind = EltwiseType.ABS if order == 1 else EltwiseType.PROD
    inputs = (source.tensor,) if order == 1 else (source.tensor, source.tensor)
    each = _step(state, node, "each", kind, source, inputs)
    total = reduced(state, node, ReduceType.SUM, each, (axis,))
    if order == 2:
        total = _scalar(state, node, "root", EltwiseType.POW, total, 0.5)
    # So that zeros stay zeros; as small as PyTorch's own guard.
    guarded = _scalar(state, node, "guarded", EltwiseType.MAX, total, 1e-12)
    combine(state, node, EltwiseType.DIV, source, guarded, last=True)


@converts("MeanVarianceNormalization", to=("Reduce", "Eltwise"))
def mean_variance_norm(state: Conversion, node: Node) -> None:
    """MeanVarianceNormalization, worked out."""
    source = state.value(node)
    axes = node.ints("axes") or (0, 2, 3)
    centred, variance = _centred(state, node, source, axes)
    deviation = _scalar(state, node, "deviation", EltwiseType.POW, variance, 0.5)
    below = _scalar(state, node, "below", EltwiseType.SUM, deviation, 1e-9)
    combine(state, node, EltwiseType.DIV, centred, below, last=True)


@converts("LayerNormalization", to=("Reduce", "Eltwise"), limits=("its mean as an output",))
def layer_norm(state: Conversion, node: Node) -> None:
    """LayerNormalization over the last axes, worked out."""
    if any(state.uses[name] for name in node.outputs[1:] if name):
        raise node.refuse("its mean or deviation is used")
    source = state.value(node)
    rank = len(source.groups)
    axes = tuple(range(node.integer("axis", -1) % rank, rank))
    centred, variance = _centred(state, node, source, axes)
    guarded = _scalar(
        state, node, "guarded", EltwiseType.SUM, variance, node.number("epsilon", 1e-5)
    )
    root = _scalar(state, node, "root", EltwiseType.POW, guarded, 0.5)
    scaled = [Constant.of(state, node, index) for index in (1, 2) if node.input(index)]
    value = combine(state, node, EltwiseType.DIV, centred, root, last=not scaled)
    for number, constant in enumerate(scaled, start=1):
        kind = EltwiseType.PROD if number == 1 else EltwiseType.SUM
        value = combine(state, node, kind, value, constant, last=number == len(scaled))


def _centred(
    state: Conversion, node: Node, source: Value, axes: tuple[int, ...]
) -> tuple[Value, Value]:
    """``source`` less its mean over ``axes``, and the mean of that squared."""
    mean = reduced(state, node, ReduceType.MEAN, source, axes)
    centred = combine(state, node, EltwiseType.SUB, source, mean, last=False)
    inputs = (centred.tensor, centred.tensor)
    squared = _step(state, node, "squared", EltwiseType.PROD, centred, inputs)
    return centred, reduced(state, node, ReduceType.MEAN, squared, axes)


def _step(
    state: Conversion,
    node: Node,
    suffix: str,
    kind: EltwiseType,
    like: Value,
    inputs: tuple[str, ...],
) -> Value:
    arguments: dict[str, ArgumentValue] = {"type": int(kind), "has_data_format": 1}
    tensor = state.step(node, suffix, "Eltwise", inputs, like.shape, arguments)
    return Value(tensor, like.shape, like.groups)


def _scalar(
    state: Conversion, node: Node, suffix: str, kind: EltwiseType, source: Value, number: float
) -> Value:
    arguments = scalar_arguments(kind, number)
    tensor = state.step(node, suffix, "Eltwise", (source.tensor,), source.shape, arguments)
    return Value(tensor, source.shape, source.groups)
