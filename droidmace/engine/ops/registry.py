"""Which op of a model is which class, in which memory, on which kind of device."""

from __future__ import annotations

from collections.abc import Callable

from droidmace.engine.opencl.tensor import BufferMemory, TensorMemory
from droidmace.engine.ops.aggregate import FullyConnected, Pooling, Softmax
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
from droidmace.engine.ops.buffer_pooling import BufferPooling
from droidmace.engine.ops.conv import Conv2D, DepthwiseConv2d
from droidmace.engine.ops.deconv import Deconv2D
from droidmace.engine.ops.layout import Concat, Pad
from droidmace.engine.ops.normalize import GroupNorm, InstanceNorm, LpNorm, MVNorm
from droidmace.engine.ops.pointwise import Activation, AddN, BatchNorm, BiasAdd, Eltwise
from droidmace.engine.ops.rearrange import (
    BatchAndSpace,
    ChannelShuffle,
    Crop,
    DepthToSpace,
    Reshape,
    SpaceToDepth,
    Split,
    StridedSlice,
    Transpose,
)
from droidmace.engine.ops.reduce import Reduce, SqrDiffMean
from droidmace.engine.ops.resize import ResizeBicubic, ResizeBilinear, ResizeNearestNeighbor
from droidmace.formats.netdef import OperatorDef

OpMaker = Callable[[OperatorDef, NetContext], GpuOp]

GPU_OPS: dict[str, type[GpuOp]] = {
    "Activation": Activation,
    "AddN": AddN,
    "BatchNorm": BatchNorm,
    "BatchToSpaceND": BatchAndSpace,
    "BiasAdd": BiasAdd,
    "ChannelShuffle": ChannelShuffle,
    "Concat": Concat,
    "Conv2D": Conv2D,
    "Crop": Crop,
    "Deconv2D": Deconv2D,
    "DepthToSpace": DepthToSpace,
    "DepthwiseConv2d": DepthwiseConv2d,
    "DepthwiseDeconv2d": Deconv2D,
    "Eltwise": Eltwise,
    "ExpandDims": Reshape,
    "Flatten": Reshape,
    "FullyConnected": FullyConnected,
    "GroupNorm": GroupNorm,
    "Identity": Reshape,
    "InstanceNorm": InstanceNorm,
    "LpNorm": LpNorm,
    "MVNorm": MVNorm,
    "Pad": Pad,
    "Pooling": Pooling,
    "Reduce": Reduce,
    "Reshape": Reshape,
    "ResizeBicubic": ResizeBicubic,
    "ResizeBilinear": ResizeBilinear,
    "ResizeNearestNeighbor": ResizeNearestNeighbor,
    "Slice": StridedSlice,
    "Softmax": Softmax,
    "SpaceToBatchND": BatchAndSpace,
    "SpaceToDepth": SpaceToDepth,
    "Split": Split,
    "SqrDiffMean": SqrDiffMean,
    "Squeeze": Reshape,
    "StridedSlice": StridedSlice,
    "Transpose": Transpose,
    "Unsqueeze": Reshape,
}

# Kernels of their own where activations lie in buffers; all others do as they are.
BUFFER_OPS_OF_CPU: dict[str, OpMaker] = {
    "Conv2D": BufferConv2D,
    "DepthwiseConv2d": BufferDepthwiseConv2d,
    "FullyConnected": BufferFullyConnected,
    "Pooling": BufferPooling,
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
