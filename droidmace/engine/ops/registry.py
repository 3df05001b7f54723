"""Which op of a model is which class, in which memory, on which kind of device."""

from __future__ import annotations

from collections.abc import Callable

from droidmace.engine.opencl.tensor import BufferMemory, TensorMemory
from droidmace.engine.ops.aggregate import FullyConnected, Pooling, Reduce, Softmax
from droidmace.engine.ops.base import GpuOp, NetContext
from droidmace.engine.ops.buffer_conv import (
    BufferConv2D,
    BufferDepthwiseConv2d,
    BufferFullyConnected,
)
from droidmace.engine.ops.buffer_gpu_conv import (
    GpuBufferConv2D,
    GpuBufferDepthwiseConv2d,
    GpuBufferFullyConnected,
    GpuBufferReduce,
)
from droidmace.engine.ops.conv import Conv2D, DepthwiseConv2d
from droidmace.engine.ops.layout import Concat, Pad, Reshape
from droidmace.engine.ops.pointwise import Activation, BatchNorm, BiasAdd, Eltwise
from droidmace.formats.netdef import OperatorDef

OpMaker = Callable[[OperatorDef, NetContext], GpuOp]

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

# Kernels of their own where activations lie in buffers; all others do as they are.
BUFFER_OPS_OF_CPU: dict[str, OpMaker] = {
    "Conv2D": BufferConv2D,
    "DepthwiseConv2d": BufferDepthwiseConv2d,
    "FullyConnected": BufferFullyConnected,
}
BUFFER_OPS_OF_GPU: dict[str, OpMaker] = {
    "Conv2D": GpuBufferConv2D,
    "DepthwiseConv2d": GpuBufferDepthwiseConv2d,
    "FullyConnected": GpuBufferFullyConnected,
    "Reduce": GpuBufferReduce,
}


def find_op(op_type: str, memory: TensorMemory) -> OpMaker | None:
    """What makes ops of that type; None if there is none."""
    if isinstance(memory, BufferMemory):
        own = BUFFER_OPS_OF_CPU if memory.gpu.device.is_cpu else BUFFER_OPS_OF_GPU
        if op_type in own:
            return own[op_type]
    return GPU_OPS.get(op_type)


# Makers of ops that add a residual (engine/fusion.py): a convolution given one has it as its last
# input.
RESIDUAL_MAKERS: set[OpMaker] = {BufferConv2D, GpuBufferConv2D}


def takes_residual(op: OperatorDef, memory: TensorMemory) -> bool:
    """Whether whatever runs ``op`` can add a last input of its output's shape."""
    is_grouped = op.int_arg("group", 1) != 1
    return not is_grouped and find_op(op.type, memory) in RESIDUAL_MAKERS
