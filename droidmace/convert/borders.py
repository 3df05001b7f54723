"""Inputs and outputs as the deployment file declares them, and as the ONNX file has them.

MACE takes and hands out images as (n, h, w, c) or (n, c, h, w), whichever the file says; the ONNX
tensor is (n, c, h, w), or (n, h, w, c) where a Transpose stands between it and the network.
"""

from __future__ import annotations

from collections.abc import Sequence

from droidmace.config import TensorSpec
from droidmace.convert.graph import Graph, Shape

NCHW_PLACES = (0, 1, 2, 3)
NHWC_PLACES = (0, 2, 3, 1)
_NCHW_FROM_NHWC = (0, 3, 1, 2)
_NHWC_FROM_NCHW = (0, 2, 3, 1)
_PASSED = frozenset({"Identity", "Cast", "Sub", "Add", "Mul", "Div", "Relu", "Clip", "Softmax"})
"""Ops that a Transpose at the border may stand behind."""
BareNode = tuple[str, list[str], list[str], tuple[int, ...]]
"""A node's op, inputs, outputs, and ``perm``."""


def onnx_shape(
    spec: TensorSpec, dims: Sequence[int | None], nodes: Sequence[BareNode], *, reads: bool
) -> Shape | None:
    """The declared shape as the ONNX file counts its axes; None where it does not fit ``dims``.

    ``dims`` are the file's, None where one is open. ``reads``: it is an input.
    """
    if spec.data_format != "NHWC" or len(spec.shape) != 4:
        return spec.shape if _fits(spec.shape, dims) else None
    turned = tuple(spec.shape[axis] for axis in _NCHW_FROM_NHWC)
    as_it_is = _fits(spec.shape, dims) and _meets_transpose(spec.name, nodes, reads=reads)
    if as_it_is:
        return spec.shape
    return turned if _fits(turned, dims) else None


def image_places(spec: TensorSpec, graph: Graph) -> tuple[int, ...] | None:
    """Which of n, c, h, w each axis of an image is; None for what is no image."""
    if len(spec.shape) != 4 or spec.data_format not in {"NHWC", "NCHW"}:
        return None
    if spec.data_format == "NCHW":
        return NCHW_PLACES
    nodes = [
        (node.op_type, list(node.inputs), list(node.outputs), node.ints("perm") or ())
        for node in graph.nodes
    ]
    as_it_is = graph.shapes.get(spec.name) == spec.shape
    reads = spec.name in graph.inputs
    return (
        NHWC_PLACES if as_it_is and _meets_transpose(spec.name, nodes, reads=reads) else NCHW_PLACES
    )


def _fits(shape: Shape, dims: Sequence[int | None]) -> bool:
    return len(shape) == len(dims) and all(
        dim is None or dim == size for dim, size in zip(dims, shape, strict=True)
    )


def _meets_transpose(name: str, nodes: Sequence[BareNode], *, reads: bool) -> bool:
    """Whether a Transpose between the two orders stands at border ``name``."""
    perm = _NCHW_FROM_NHWC if reads else _NHWC_FROM_NCHW
    met, found = {name}, False
    for op_type, inputs, outputs, own in nodes if reads else reversed(nodes):
        near, far = (inputs, outputs) if reads else (outputs, inputs)
        if not met.intersection(near):
            continue
        if op_type == "Transpose":
            found = found or own == perm
        elif op_type in _PASSED:
            met.update(far)
    return found
