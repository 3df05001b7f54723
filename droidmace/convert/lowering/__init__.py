"""ONNX nodes to MACE ops, one module per family; importing it fills the table of what there is."""

from droidmace.convert.lowering import (
    activations,
    arithmetic,
    composed,
    convolution,
    dense,
    normalization,
    pooling,
    reduction,
    resizing,
    shaping,
    slicing,
)
from droidmace.convert.lowering.registry import HANDLERS, SUPPORTED, OpSupport, folds

__all__ = [
    "HANDLERS",
    "SUPPORTED",
    "OpSupport",
    "activations",
    "arithmetic",
    "composed",
    "convolution",
    "dense",
    "normalization",
    "pooling",
    "reduction",
    "resizing",
    "shaping",
    "slicing",
]

folds("Constant", "Shape", "Size", "ConstantOfShape", "Range", limits=("what no pass can fold",))
