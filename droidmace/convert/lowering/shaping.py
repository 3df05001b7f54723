"""Changes of shape and order: mostly another reading of the same MACE tensor."""

from __future__ import annotations

import numpy as np

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node, Shape
from droidmace.convert.layout import C, H, Layout, N, W, nhwc, nhwc_axis
from droidmace.convert.lowering.arithmetic import expand
from droidmace.convert.lowering.registry import converts
from droidmace.convert.mace_ops import ArgumentValue

MOVED = ("Reshape", "Transpose")
FIVE_AXES = "results of five axes larger than 1"


@converts("Reshape", "Flatten", "Squeeze", "Unsqueeze", to=MOVED, limits=(FIVE_AXES,))
def reshape(state: Conversion, node: Node) -> None:
    """Another shape of the same values: an op only where they lie otherwise in MACE's tensor."""
    source = state.value(node)
    target = state.graph.shapes.get(node.output)
    if target is None:
        raise node.refuse("its shape is not known", hint="export the model with static shapes")
    view = source.reshaped(target)
    if view is None:
        layout = Layout.plain(target)
        if layout is None:
            raise node.refuse(
                f"{target} has five axes larger than 1; MACE's tensors have four",
                hint="a channel shuffle is recognised: reshape, transpose, reshape",
            )
        # In one group: only the order of all values counts.
        view = state.arrange(
            node, source.regrouped((source.order,)), Layout((layout.order,), layout.sizes)
        ).regrouped(layout.groups)
    state.settle(node, view)


@converts("Transpose", to=("Transpose",), gpu=False)
def transpose(state: Conversion, node: Node) -> None:
    """Transpose: nothing now; who reads the tensor may have to move it."""
    source = state.value(node)
    rank = len(source.groups)
    perm = node.ints("perm") or tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise node.refuse(f"perm {perm} for {rank} axes", hint="the file is damaged")
    state.settle(node, source.regrouped(tuple(source.groups[axis] for axis in perm)))


@converts(
    "ChannelShuffle",
    to=("ChannelShuffle",),
    limits=("on gpu unless both the groups and their channels divide by 4: on the CPU",),
)
def channel_shuffle(state: Conversion, node: Node) -> None:
    """A channel shuffle, as a pass found it: reshape, transpose, reshape."""
    source = state.placed(node, 0, (N, C, H, W))
    arguments: dict[str, ArgumentValue] = {
        "group": node.integer("group", 1),
        "has_data_format": 1,
    }
    inputs = (source.tensor,)
    state.emit(node, "ChannelShuffle", inputs, source.shape, source.groups, arguments)


@converts(
    "DepthToSpace",
    "SpaceToDepth",
    to=("DepthToSpace", "SpaceToDepth"),
    limits=("on gpu: images of more than 4 channels that do not divide by 4",),
)
def depth_space(state: Conversion, node: Node) -> None:
    """DepthToSpace and SpaceToDepth."""
    source = state.placed(node, 0, (N, C, H, W))
    block = node.integer("blocksize", 1)
    batch, height, width, channels = source.shape
    arguments: dict[str, ArgumentValue] = {"block_size": block}
    if node.op_type == "SpaceToDepth":
        shape = (batch, height // block, width // block, channels * block * block)
    else:
        mode = node.text("mode", "DCR")
        if mode == "CRD" and state.runs_on_gpu and block != 2:
            raise node.refuse(
                f"mode CRD with blocks of {block}; MACE's GPU runtime has blocks of 2",
                hint="set 'runtime: cpu', or use mode DCR",
            )
        arguments["mode"] = mode
        shape = (batch, height * block, width * block, channels // (block * block))
    # Of the two images the one with fewer channels. MACE does not leave it to the CPU: it stops.
    fewer = min(channels, shape[3])
    if state.runs_on_gpu and fewer > 4 and fewer % 4:
        raise node.refuse(
            f"blocks of {fewer} channels; MACE's GPU runtime has up to 4, or what divides by 4",
            hint="set 'runtime: cpu', or use another number of channels",
        )
    groups = Layout.at((shape[0], shape[3], shape[1], shape[2]), (N, C, H, W)).groups
    state.emit(node, node.op_type, (source.tensor,), shape, groups, arguments)


@converts("Concat", to=("Concat",), limits=("constants among the inputs",))
def concat(state: Conversion, node: Node) -> None:
    """Concat along any axis."""
    values = [
        state.value(node, i) for i in range(len(node.inputs)) if state.graph_size(node, i) != 0
    ]
    rank = len(values[0].groups)
    axis = node.integer("axis", 1) % rank
    if len(values) == 1:
        state.settle(node, values[0])
        return
    lead = max(values, key=lambda value: value.onnx_shape[axis])
    total = sum(value.onnx_shape[axis] for value in values)
    shape: Shape = (*lead.onnx_shape[:axis], total, *lead.onnx_shape[axis + 1 :])
    groups, place = lead.groups, lead.groups[axis]
    if len(place) != 1:
        layout = Layout.plain(shape)
        if layout is None:
            raise node.refuse(f"{shape} has too many axes; MACE's tensors have four")
        groups, place = layout.groups, layout.groups[axis]
    layouts = []
    for value in values:
        sizes = [1, 1, 1, 1]
        own = []
        for size, group in zip(value.onnx_shape, groups, strict=True):
            own.append(group if size > 1 else ())
            for part in own[-1]:
                sizes[part] = size if len(group) == 1 else lead.size(part)
        layouts.append(Layout(tuple(own), tuple(sizes)))
    moved = [
        state.arrange(node, value, layout) for value, layout in zip(values, layouts, strict=True)
    ]
    arguments: dict[str, ArgumentValue] = {"axis": nhwc_axis(place[0]), "has_data_format": 1}

    def joined(count: int) -> Shape:
        sizes = [max(value.size(part) for value in moved) for part in (N, C, H, W)]
        sizes[place[0]] = sum(value.size(place[0]) for value in moved[:count])
        return nhwc(sizes)

    tensors = [value.tensor for value in moved]
    if state.runs_on_gpu and place == (C,) and any(value.size(C) % 4 for value in moved):
        # MACE's GPU runtime joins more than two only where the channels divide by 4.
        while len(tensors) > 2:
            done = len(moved) - len(tensors) + 2
            first = state.step(node, "part", "Concat", tensors[:2], joined(done), arguments)
            tensors = [first, *tensors[2:]]
    state.emit(node, "Concat", tensors, joined(len(moved)), groups, arguments)


@converts("Tile", "Expand", to=("Tile",), gpu=False)
def tile_node(state: Conversion, node: Node) -> None:
    """Tile and Expand."""
    source = state.value(node)
    target = state.graph.shapes.get(node.output)
    if target is None:
        raise node.refuse("its shape is not known", hint="export the model with static shapes")
    shape = (1,) * (len(target) - len(source.groups)) + source.onnx_shape
    if all(size in {1, wanted} for size, wanted in zip(shape, target, strict=True)):
        state.settle(node, expand(state, node, source, target))
        return
    source = state.plain(node, source)
    sizes = [1, 1, 1, 1]
    layout = Layout.plain(target)
    if layout is None:
        raise node.refuse(f"{target} has too many axes; MACE's tensors have four")
    for size, group in zip(shape, layout.groups, strict=True):
        if group:
            sizes[group[0]] = size
    own = tuple(g if size > 1 else () for size, g in zip(shape, layout.groups, strict=True))
    source = state.arrange(node, source, Layout(own, tuple(sizes)))
    result = nhwc(layout.sizes)
    repeats = tuple(to // size for to, size in zip(result, source.shape, strict=True))
    constant = state.new_constant(node, "multiples", np.array(repeats, np.int32))
    inputs = (source.tensor, constant)
    state.emit(node, "Tile", inputs, result, layout.groups, {"has_data_format": 1})


@converts("Identity", "Dropout", "Cast", to=(), limits=("casts other than to float32",))
def identity(state: Conversion, node: Node) -> None:
    """What changes nothing."""
    float_types = {1, 10, 11}
    if node.op_type == "Cast" and node.integer("to", 1) not in float_types:
        raise node.refuse("it casts to another type; MACE's tensors are floats")
    if any(state.uses[name] for name in node.outputs[1:]):
        raise node.refuse("its mask is used", hint="export the model for inference")
    state.settle(node, state.value(node))
