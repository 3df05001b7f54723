"""What flows through a net: which of its tensors can be asked for as outputs, and where they live.

Ops are counted in the order in which the graph lists them, which is the order in which MACE runs
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from droidmace.errors import InputError
from droidmace.formats.netdef import (
    DataFormat,
    DataType,
    InputOutputInfo,
    MultiNetDef,
    NetDef,
    OperatorDef,
)

BYTES_PER_VALUE = 4
"""``mace_run`` writes every tensor as float32."""

# Ops on images, whose axes MACE brings into order before them on either runtime.
_ON_IMAGES = frozenset(
    {
        "BatchNorm",
        "Conv2D",
        "Deconv2D",
        "DepthToSpace",
        "DepthwiseConv2d",
        "DepthwiseDeconv2d",
        "LocalResponseNorm",
        "Pooling",
        "ResizeBicubic",
        "ResizeBilinear",
        "ResizeNearestNeighbor",
        "SpaceToDepth",
    }
)
_MAKE_INTEGERS = frozenset({"ArgMax", "Shape"})
# Eltwise types EQUAL and NOT_EQUAL (``mace/ops/common/eltwise_type.h``).
_COMPARE = frozenset({10, 15})
# What they make is of the type of what they move.
_MOVE = frozenset(
    {
        "Concat",
        "ExpandDims",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Reverse",
        "Slice",
        "Split",
        "Squeeze",
        "Stack",
        "StridedSlice",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Unstack",
    }
)


@dataclass(frozen=True, slots=True)
class Activation:
    """A tensor that an op makes: floats, of a shape that the graph declares (images NHWC)."""

    name: str
    shape: tuple[int, ...]
    op_index: int
    is_image: bool = False
    """Whether it surely lies as NHWC wherever it is handed out: an op on images has made it."""

    @property
    def size_bytes(self) -> int:
        """Of its file."""
        return BYTES_PER_VALUE * math.prod(self.shape)

    def info(self, name: str) -> InputOutputInfo:
        """How a net declares it as an input or output of this name."""
        has_order = len(self.shape) == 4
        return InputOutputInfo(
            name=name,
            dims=self.shape,
            data_format=int(DataFormat.NHWC if has_order else DataFormat.NONE),
            alias=name,
        )


def only_net(model: MultiNetDef) -> NetDef:
    """The net of a model that has one; ``InputError`` for more."""
    if len(model.nets) != 1:
        raise InputError(
            f"the model has {len(model.nets)} nets, and only models of one can be taken apart",
            hint="convert its subgraphs as models of their own",
        )
    return model.nets[0]


def activations(net: NetDef) -> dict[str, Activation]:
    """By name all that can be asked for, in the order in which it is made.

    Left out are whole numbers, and tensors whose shape the graph does not tell.
    """
    integers = _integers(net)
    found: dict[str, Activation] = {}
    for index, op in enumerate(net.ops):
        for name, shape in zip(op.outputs, op.output_shapes, strict=False):
            if name not in integers and min(shape.dims, default=1) > 0:
                found[name] = Activation(name, shape.dims, index, _is_on_images(op))
    return found


def frontier(net: NetDef, known: Mapping[str, Activation], position: int) -> tuple[str, ...]:
    """The tensors that later ops, or the user, take over from the ops up to ``position``.

    If all of them are right, so are the inputs of everything behind. Those that cannot be asked for
    are left out.
    """
    made = [name for op in net.ops[: position + 1] for name in op.outputs]
    wanted = {name for op in net.ops[position + 1 :] for name in op.inputs}
    wanted.update(info.name for info in net.output_infos)
    return tuple(name for name in made if name in wanted and name in known)


def _is_on_images(op: OperatorDef) -> bool:
    return op.type in _ON_IMAGES and op.int_arg("data_format") == DataFormat.AUTO


def _integers(net: NetDef) -> set[str]:
    """Names of all tensors of whole numbers."""
    found = {info.name for info in net.input_infos if info.data_type == DataType.DT_INT32}
    found.update(one.name for one in net.tensors if one.data_type == DataType.DT_INT32)
    for op in net.ops:
        if op.output_types:
            pairs = zip(op.outputs, op.output_types, strict=False)
            found.update(name for name, kind in pairs if kind == DataType.DT_INT32)
        elif (
            op.type in _MAKE_INTEGERS
            or (op.type == "Eltwise" and op.int_arg("type", -1) in _COMPARE)
            or (op.type in _MOVE and op.inputs and op.inputs[0] in found)
        ):
            found.update(op.outputs)
    return found
