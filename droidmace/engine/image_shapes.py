"""Shape rules of ops that know images: convolution, pooling, resizing, blocks, normalization.

Shapes of images are NHWC, filters OIHW. See :mod:`droidmace.engine.shapes`.
"""

from __future__ import annotations

import math

from droidmace.engine.attributes import Shape, Window, nhwc, unsupported
from droidmace.engine.op_arguments import (
    Known,
    deconv_padding,
    grid_pads,
    pool_kernel,
    resize_size,
    rounds_up,
)
from droidmace.formats.netdef import OperatorDef


def image(op: OperatorDef, shape: Shape) -> tuple[int, int, int, int]:
    """``shape`` with its four axes. Raises ``EngineError`` for any other rank."""
    if len(shape) != 4:
        raise unsupported(op, f"an input of shape {list(shape)}: four axes are needed")
    return (shape[0], shape[1], shape[2], shape[3])


def same_image(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """The image's own shape."""
    return [image(op, shapes[0])]


def conv(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Conv2D."""
    batch, height, width, channels = image(op, shapes[0])
    outputs, per_group, *kernel = image(op, shapes[1])
    group = op.int_arg("group", 1)
    if group < 1 or per_group * group != channels or outputs % group:
        raise unsupported(op, f"input {list(shapes[0])}, filter {list(shapes[1])}, group {group}")
    check_vector(op, shapes, 2, outputs)
    out, _ = Window.of(op, (kernel[0], kernel[1])).slide((height, width))
    return [(batch, *out, outputs)]


def depthwise(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """DepthwiseConv2d."""
    batch, height, width, channels = image(op, shapes[0])
    multiplier, inputs, *kernel = image(op, shapes[1])
    if inputs != channels:
        raise unsupported(op, f"input {list(shapes[0])}, filter {list(shapes[1])}")
    check_vector(op, shapes, 2, channels * multiplier)
    out, _ = Window.of(op, (kernel[0], kernel[1])).slide((height, width))
    return [(batch, *out, channels * multiplier)]


def deconv(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Deconv2D and DepthwiseDeconv2d."""
    batch, height, width, channels = image(op, shapes[0])
    per_group, inputs, *kernel = image(op, shapes[1])
    group = op.int_arg("group", 1) if op.type == "DepthwiseDeconv2d" else 1
    if group < 1 or inputs != channels or channels % group:
        raise unsupported(op, f"input {list(shapes[0])}, filter {list(shapes[1])}, group {group}")
    out, _ = deconv_padding(op, (height, width), (kernel[0], kernel[1]), known)
    return [(batch, *out, per_group * group)]


def check_vector(op: OperatorDef, shapes: list[Shape], index: int, size: int) -> None:
    """Check that input ``index``, if there, has ``size`` values. Raises ``EngineError``."""
    if index < len(shapes) and math.prod(shapes[index]) != size:
        raise unsupported(op, f"{op.inputs[index]!r} has the shape {list(shapes[index])}")


def pooling(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Pooling."""
    batch, height, width, channels = image(op, shapes[0])
    window = Window.of(op, pool_kernel(op))
    out, _ = window.slide((height, width), ceil=rounds_up(op))
    return [(batch, *out, channels)]


def patches(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """ExtractImagePatches."""
    batch, height, width, channels = image(op, shapes[0])
    kernel = pool_kernel(op)
    out, _ = Window.of(op, kernel).slide((height, width))
    return [(batch, *out, channels * math.prod(kernel))]


def fully_connected(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """FullyConnected."""
    batch, height, width, channels = nhwc(shapes[0])
    outputs, *inputs = shapes[1] if len(shapes[1]) == 4 else (*shapes[1], 1, 1)
    if inputs != [channels, height, width]:
        raise unsupported(op, f"input {list(shapes[0])}, weights {list(shapes[1])}")
    check_vector(op, shapes, 2, outputs)
    return [(batch, 1, 1, outputs)]


def resize(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """ResizeNearestNeighbor, ResizeBilinear, ResizeBicubic."""
    batch, height, width, channels = image(op, shapes[0])
    return [(batch, *resize_size(op, (height, width), known), channels)]


def depth_to_space(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """DepthToSpace."""
    batch, height, width, channels = image(op, shapes[0])
    block = op.int_arg("block_size", 1)
    if block < 1 or channels % (block * block):
        raise unsupported(op, f"block size {block} of {list(shapes[0])}")
    return [(batch, height * block, width * block, channels // (block * block))]


def space_to_depth(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """SpaceToDepth."""
    batch, height, width, channels = image(op, shapes[0])
    block = op.int_arg("block_size", 1)
    if block < 1 or height % block or width % block:
        raise unsupported(op, f"block size {block} of {list(shapes[0])}")
    return [(batch, height // block, width // block, channels * block * block)]


def space_to_batch(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """SpaceToBatchND."""
    batch, height, width, channels = image(op, shapes[0])
    (rows, columns), pads = grid_pads(op, "paddings")
    height, width = height + sum(pads[0]), width + sum(pads[1])
    if height % rows or width % columns:
        raise unsupported(op, f"blocks of {rows}x{columns} in {height}x{width} pixels")
    return [(batch * rows * columns, height // rows, width // columns, channels)]


def batch_to_space(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """BatchToSpaceND."""
    batch, height, width, channels = image(op, shapes[0])
    (rows, columns), crops = grid_pads(op, "crops")
    if batch % (rows * columns):
        raise unsupported(op, f"blocks of {rows}x{columns} from a batch of {batch}")
    height, width = height * rows - sum(crops[0]), width * columns - sum(crops[1])
    return [(batch // (rows * columns), height, width, channels)]


def channel_shuffle(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """ChannelShuffle."""
    group = op.int_arg("group", 1)
    if group < 1 or image(op, shapes[0])[3] % group:
        raise unsupported(op, f"group {group} of {list(shapes[0])}")
    return [shapes[0]]


def group_norm(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """GroupNorm."""
    group = op.int_arg("group_num", 32)
    if group < 1 or image(op, shapes[0])[3] % group:
        raise unsupported(op, f"group_num {group} of {list(shapes[0])}")
    return [shapes[0]]


def sqr_diff_mean(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """SqrDiffMean."""
    batch, _, _, channels = image(op, shapes[0])
    if math.prod(shapes[1]) != batch * channels:
        raise unsupported(op, f"inputs {list(shapes[0])}, {list(shapes[1])}")
    return [(batch, 1, 1, channels)]


def channels(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Constants with one value per channel behind an image."""
    for index in range(1, len(shapes)):
        check_vector(op, shapes, index, image(op, shapes[0])[3])
    return [shapes[0]]


def crop(op: OperatorDef, shapes: list[Shape], known: Known) -> list[Shape]:
    """Crop."""
    offsets = op.ints_arg("offset")
    whole, part = image(op, shapes[0]), image(op, shapes[1])
    sizes = []
    for size, wanted, offset in zip(whole, part, offsets, strict=True):
        if offset >= 0 and size - offset < wanted:
            raise unsupported(op, f"{list(part)} at {list(offsets)} of {list(whole)}")
        sizes.append(size if offset < 0 else wanted)
    return [tuple(sizes)]
