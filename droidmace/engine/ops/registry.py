"""Which op of a model is which class."""

from __future__ import annotations

from droidmace.engine.ops.aggregate import FullyConnected, Pooling, Reduce, Softmax
from droidmace.engine.ops.base import GpuOp
from droidmace.engine.ops.conv import Conv2D, DepthwiseConv2d
from droidmace.engine.ops.layout import Concat, Pad, Reshape
from droidmace.engine.ops.pointwise import Activation, BatchNorm, BiasAdd, Eltwise

GPU_OPS: dict[str, type[GpuOp]] = {
    "Activation": Activation,
    "BatchNorm": BatchNorm,
    "BiasAdd": BiasAdd,
    "Concat": Concat,
    "Conv2D": Conv2D,
    "DepthwiseConv2d": DepthwiseConv2d,
    "Eltwise": Eltwise,
    "Flatten": Reshape,
    "FullyConnected": FullyConnected,
    "Identity": Reshape,
    "Pad": Pad,
    "Pooling": Pooling,
    "Reduce": Reduce,
    "Reshape": Reshape,
    "Softmax": Softmax,
    "Squeeze": Reshape,
}
