"""Pooling."""

from __future__ import annotations

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node
from droidmace.convert.layout import C, H, Layout, N, W
from droidmace.convert.lowering.activations import FLOAT32_MAX
from droidmace.convert.lowering.convolution import IMAGE_PLACES, pad
from droidmace.convert.lowering.reduction import reduce
from droidmace.convert.lowering.registry import converts
from droidmace.convert.lowering.windows import Window, kernel_of
from droidmace.convert.mace_ops import ArgumentValue, PoolingType, ReduceType, RoundMode


@converts(
    "MaxPool",
    "AveragePool",
    to=("Pooling", "Pad"),
    limits=(
        "three dimensions",
        "the indices of MaxPool",
        "on gpu: dilations",
        "AveragePool with more padding before than behind that does not count",
    ),
)
def pool(state: Conversion, node: Node) -> None:
    """MaxPool and AveragePool. MACE's average never counts padding."""
    if len(node.outputs) > 1 and state.uses[node.outputs[1]]:
        raise node.refuse("its indices are used; MACE's pooling has none")
    shape = node.ints("kernel_shape") or ()
    kernel = kernel_of(node, shape)
    rank = len(shape) + 2
    source = state.placed(node, 0, IMAGE_PLACES[:rank])
    window = Window.of(node, (source.size(H), source.size(W)), kernel)
    average = node.op_type == "AveragePool"
    if state.runs_on_gpu and window.dilations != (1, 1):
        raise node.refuse("MACE's GPU runtime has no dilated pooling", hint="set 'runtime: cpu'")
    padded = window.before != (0, 0) or window.after != (0, 0)
    if average and padded and node.integer("count_include_pad", 0):
        if window.ceil and window.output != window.unpadded().output:
            raise node.refuse(
                "it counts padding and rounds its size up",
                hint="export it with ceil_mode=False or count_include_pad=False",
            )
        source = pad(state, node, source, window, 0.0)
        window = window.unpadded()
    totals = window.totals()
    if totals is None:
        if average:
            raise node.refuse(
                f"its padding, {window.before} before and {window.after} behind, is not what "
                "MACE's average pooling can leave out",
                hint="pad symmetrically",
            )
        height, width = window.output
        source = pad(state, node, source, window, -FLOAT32_MAX)
        window = window.unpadded()
        totals = (0, 0)
        if window.output != (height, width):
            raise node.refuse("it rounds its size up over uneven padding")
    height, width = window.output
    result = (source.size(N), height, width, source.size(C))
    arguments: dict[str, ArgumentValue] = {
        "strides": window.strides,
        "kernels": kernel,
        "padding_values": totals,
        "pooling_type": int(PoolingType.AVG if average else PoolingType.MAX),
        "round_mode": int(RoundMode.FLOOR),
    }
    if window.dilations != (1, 1):
        arguments["dilations"] = window.dilations
    layout = Layout.at((result[0], result[3], height, width)[:rank], IMAGE_PLACES[:rank])
    state.emit(node, "Pooling", (source.tensor,), result, layout.groups, arguments)


@converts("GlobalAveragePool", "GlobalMaxPool", to=("Reduce",))
def global_pool(state: Conversion, node: Node) -> None:
    """Global pooling: a Reduce over everything behind the channels."""
    average = node.op_type == "GlobalAveragePool"
    rank = len(state.value(node).groups)
    kind = ReduceType.MEAN if average else ReduceType.MAX
    reduce(state, node, kind, tuple(range(2, rank)), keep=True)
