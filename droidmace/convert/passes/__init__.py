"""Passes on the ONNX graph before it becomes MACE ops: each takes a graph and returns one.

They do what MACE's own converter does first (``tools/python/transform/transformer.py``), and more:
leave out what has no effect, fold what is constant into the weights, and recognise what an export
has taken apart.
"""

from droidmace.convert.graph import Graph
from droidmace.convert.passes.patterns import (
    find_channel_shuffles,
    find_hard_sigmoids,
    find_hard_swishes,
    find_mishes,
    fold_pads,
)
from droidmace.convert.passes.pruning import drop_identities, drop_unreachable, lift_constants
from droidmace.convert.passes.slices import join_slices
from droidmace.convert.passes.weights import fold_affine, matmul_to_gemm

__all__ = ["simplify"]

_PASSES = (
    drop_unreachable,
    lift_constants,
    drop_identities,
    fold_pads,
    matmul_to_gemm,
    fold_affine,
    find_hard_sigmoids,
    find_hard_swishes,
    find_mishes,
    find_channel_shuffles,
    join_slices,
    drop_unreachable,
)


def simplify(graph: Graph) -> Graph:
    """All passes, in the order in which they need each other."""
    for step in _PASSES:
        graph = step(graph)
    return graph
