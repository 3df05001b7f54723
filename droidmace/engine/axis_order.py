"""In which order an op counts the axes of its four-dimensional tensors when it runs on the CPU.

What MACE does (``mace/core/net_def_adapter.cc``, ``mace/flows``, ``mace/ops/*.cc``). On the GPU
activations are NHWC. On the CPU MACE holds float activations as NCHW and tells by the op's argument
``data_format`` what to do with tensors of four axes (others are never touched):

* ``AUTO`` (1000): the runtime's own order, NCHW on the CPU, NHWC on the GPU. If the op also carries
  ``has_data_format = 1`` its axes, paddings and shapes are written for NHWC, and most CPU ops map
  them to NCHW. Ops that have one meaning only (convolution, pooling …) need no such argument.
* ``NCHW`` (2): what the converter leaves on ops of an ONNX model that depend on the order of axes
  (Transpose, MatMul, a Reshape from or to another rank …). The tensor is NCHW on the CPU, and the
  arguments count its axes just so.
* ``NHWC`` (1): the same for a TensorFlow model. The adapter puts a Transpose before the op.
* ``NONE`` (0): the op takes the values as they lie: NCHW in a CPU net, NHWC in a GPU net.

An op of a GPU net that the GPU cannot run falls back to the CPU, with Transposes around it that the
adapter adds; all rules above hold for it but the last.

So a Reshape or Flatten from an image to a matrix flattens in NCHW order on the CPU, except in a
TensorFlow model (``data_format`` 1), where it flattens in NHWC order. On the GPU the image is kept
as NHWC, and only for ONNX and PyTorch models with ``has_data_format`` is it brought to NCHW first.

What this engine does: activations of four axes are held as NHWC everywhere, so that both runtimes
agree, and an op that counts NCHW axes gets them as transposed views. Constants are never transposed
by MACE: one of four axes that a CPU op reads beside activations lies as NCHW in the file, unless
the op says NHWC. Ops without any ``data_format`` take NHWC; MACE's converters always write one.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from droidmace.engine.attributes import Shape
from droidmace.formats.netdef import DataFormat, OperatorDef

Values = npt.NDArray[Any]

IMAGE_OPS = frozenset(
    {
        "AddN",
        "BatchNorm",
        "BatchToSpaceND",
        "Cast",
        "ChannelShuffle",
        "Conv2D",
        "Deconv2D",
        "DepthToSpace",
        "DepthwiseConv2d",
        "DepthwiseDeconv2d",
        "ExtractImagePatches",
        "FullyConnected",
        "GroupNorm",
        "Identity",
        "InstanceNorm",
        "LocalResponseNorm",
        "MVNorm",
        "Pooling",
        "ResizeBicubic",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "SpaceToBatchND",
        "SpaceToDepth",
        "SqrDiffMean",
    }
)
"""Ops that mean the same in any order of axes: their arguments name none."""

_MAPS_ARGUMENTS = frozenset(
    {
        "Activation",
        "BiasAdd",
        "Concat",
        "Crop",
        "Cumsum",
        "Eltwise",
        "Pad",
        "Reduce",
        "Reshape",
        "Softmax",
        "Split",
        "Squeeze",
        "StridedSlice",
        "Tile",
    }
)
"""Ops that map their arguments from NHWC when ``has_data_format`` is set. Transpose, which
converters mark as well, does not: its ``dims`` are applied to NCHW values."""


_FILTER_OPS = frozenset(
    {"Conv2D", "Deconv2D", "DepthwiseConv2d", "DepthwiseDeconv2d", "FullyConnected"}
)
"""Ops whose second input is a filter, OIHW."""


def takes_nchw(op: OperatorDef, *, on_gpu: bool = False) -> bool:
    """Whether ``op``, run by the CPU, counts the axes of images as NCHW.

    ``on_gpu``: the op falls back to the CPU within a GPU net.
    """
    if op.type in IMAGE_OPS or op.arg("data_format") is None:
        return False
    order = op.int_arg("data_format")
    if order == DataFormat.AUTO:
        return not (op.int_arg("has_data_format") and op.type in _MAPS_ARGUMENTS)
    if order == DataFormat.NONE:
        return not on_gpu
    return order == DataFormat.NCHW


def turns_constant(op: OperatorDef, index: int, *, on_gpu: bool = False) -> bool:
    """Whether input ``index``, a constant image that lies as NCHW in the file, must be turned to
    NHWC for ``op``. Filters never are; nor are the constants of an op that takes NCHW itself, nor
    those of a GPU net, which lie as the GPU reads them: NHWC."""
    if on_gpu or op.int_arg("data_format") != DataFormat.AUTO or takes_nchw(op):
        return False
    return index != 1 or op.type not in _FILTER_OPS


def nchw_shape(shape: Shape) -> Shape:
    """An NHWC shape as NCHW; shapes of other ranks as they are."""
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def nhwc_shape(shape: Shape) -> Shape:
    """An NCHW shape as NHWC; shapes of other ranks as they are."""
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape


def as_nchw(values: Values) -> Values:
    """A view of NHWC values as NCHW; values of other ranks as they are."""
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def as_nhwc(values: Values) -> Values:
    """A view of NCHW values as NHWC; values of other ranks as they are."""
    return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
