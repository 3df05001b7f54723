"""What a tuning key tells of its kernel: family, axes and global size; and the key of an op.

Keys and global sizes are read off ``mace/ops/opencl/image/*.cc`` of XiaoMi/mace. Most kernels of
images run one work-item for each four channels of a pixel: (channel blocks, width, batch * height);
convolutions take several pixels of a row at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.formats.tuning_key import TuningKey

Sizes = tuple[int, ...]
MAX_ITEMS = 1 << 40
"""A key that tells of more work-items than this is not believed."""


@dataclass(frozen=True, slots=True)
class KernelShape:
    """A kernel as its key tells it.

    ``family``: kernels of one family behave alike. ``axes``: 2 or 3, 0 where unknown. ``gws`` in
    work-items, empty where the key does not tell it.
    """

    family: str
    axes: int
    gws: Sizes


def kernel_shape(key: str, axes: int | None = None) -> KernelShape:
    """What ``key`` (readable or obfuscated) tells; one that is not known has itself as family.

    ``axes``, if a tuned value of the key told it, wins: a global size of other axes is dropped.
    """
    parsed = TuningKey.parse(key)
    rule = _RULES.get(parsed.kernel) or _transform(parsed.kernel)
    if rule is None:
        return KernelShape(parsed.kernel, axes or 0, ())
    gws = rule.gws(parsed.sizes)
    if axes is not None and axes != rule.axes:
        return KernelShape(rule.family, axes, ())
    if min(gws, default=0) < 1 or math.prod(gws) > MAX_ITEMS:
        gws = ()
    return KernelShape(rule.family, rule.axes, gws)


def guess_keys(
    op_type: str, output: Sizes, filter_shape: Sizes = (), *, obfuscated: bool = False
) -> tuple[str, ...]:
    """Keys that an op of the op table may run with; which of them it does, a run has to prove.

    ``op_type``, ``output`` (n, h, w, c) and ``filter_shape`` as in its row; a key that no kernel
    has is passed over by MACE. ``obfuscated``: for a build that obfuscates its keys.
    """
    if len(output) == 2:
        output = (output[0], 1, 1, output[1])
    if len(output) != 4 or min(output) < 1:
        return ()
    keys = _op_keys(op_type, output, filter_shape)
    return tuple(obfuscate_symbol(key) for key in keys) if obfuscated else keys


@dataclass(frozen=True, slots=True)
class _Rule:
    family: str
    axes: int
    gws: Callable[[Sizes], Sizes]


def _blocks(size: int, width: int = 4) -> int:
    return -(-size // width)


def _per_pixel(per_item: int, first: int = 0, count: int = 4) -> Callable[[Sizes], Sizes]:
    """From n, h, w, c at ``first``, in keys of ``count`` sizes or (negative) at least as many."""

    def gws(sizes: Sizes) -> Sizes:
        if len(sizes) != count if count > 0 else len(sizes) < -count:
            return ()
        batch, height, width, channels = sizes[first : first + 4]
        return (_blocks(channels), _blocks(width, per_item), batch * height)

    return gws


def _leading(count: int) -> Callable[[Sizes], Sizes]:
    return lambda sizes: sizes[:count] if len(sizes) >= count else ()


def _unknown(_: Sizes) -> Sizes:
    return ()


def _row(sizes: Sizes) -> Sizes:
    """Kernels that see a row of an image as one axis."""
    if len(sizes) != 4:
        return ()
    batch, height, width, channels = sizes
    return (_blocks(channels) * width, batch * height)


def _product(sizes: Sizes) -> Sizes:
    return (_blocks(sizes[2]), _blocks(sizes[1]) * sizes[0]) if len(sizes) == 3 else ()


def _winograd_input(sizes: Sizes) -> Sizes:
    return (sizes[2], _blocks(sizes[1])) if len(sizes) == 3 else ()


def _winograd_output(sizes: Sizes) -> Sizes:
    return (sizes[4], _blocks(sizes[3])) if len(sizes) == 5 else ()


def _lstm(sizes: Sizes) -> Sizes:
    return (_blocks(sizes[1]), sizes[0]) if len(sizes) == 2 else ()


_ACTIVATIONS = ("relu", "relux", "prelu", "elu", "tanh", "sigmoid", "leakyrelu")
_RESIZES = ("resize_bilinear", "resize_bicubic", "resize_nearest_neighbor")
_RULES: dict[str, _Rule] = {
    "conv2d_1x1_opencl_kernel": _Rule("conv2d_1x1", 3, _per_pixel(4)),
    "conv2d_3x3_opencl_kernel": _Rule("conv2d_3x3", 3, _per_pixel(5)),
    "conv2d_general_opencl_kernel": _Rule("conv2d_general", 3, _per_pixel(4, 0, -6)),
    "depthwise_conv2d_ocl_kernel": _Rule("depthwise_conv2d", 3, _leading(3)),
    # how wide a row of theirs is depends on the stride
    "deconv2d_opencl_kernel": _Rule("deconv2d", 3, _unknown),
    "depthwise_deconv2d_kernel": _Rule("deconv2d", 3, _unknown),
    "pooling_opencl_kernel": _Rule("pooling", 3, _per_pixel(1)),
    "softmax_opencl_kernel": _Rule("softmax", 3, _per_pixel(1)),
    "eltwise_opencl_kernel": _Rule("pointwise", 3, _per_pixel(1)),
    "bias_add_opencl_kernel": _Rule("pointwise", 3, _per_pixel(1)),
    "pad": _Rule("pad", 3, _per_pixel(1)),
    "crop_opencl_kernel": _Rule("pad", 3, _per_pixel(1)),
    "batch_to_space": _Rule("rearrange", 3, _per_pixel(1)),
    "space_to_batch": _Rule("rearrange", 3, _per_pixel(1)),
    # the groups, the block or the depth mode are not in these keys
    "channel_shuffle_opencl_kernel": _Rule("rearrange", 3, _unknown),
    "depth_to_space": _Rule("rearrange", 3, _unknown),
    "space_to_depth": _Rule("rearrange", 3, _unknown),
    "extract_image_patches_opencl_kernel": _Rule("rearrange", 3, _per_pixel(1)),
    "concat_opencl_kernel": _Rule("concat", 3, _per_pixel(1)),
    "batch_norm_opencl_kernel": _Rule("pointwise", 3, _per_pixel(1, 1, 5)),
    "instance_norm_opencl_kernel": _Rule("normalize", 3, _per_pixel(1, 2, 6)),
    "lpnorm_opencl_kernel": _Rule("normalize", 3, _per_pixel(1, 0, 6)),
    "mvnorm_compute_mean_opencl_kernel": _Rule("normalize", 2, _leading(2)),
    "mvnorm_mean_opencl_kernel": _Rule("normalize", 3, _leading(3)),
    "mvnorm_v_step1_opencl_kernel": _Rule("normalize", 3, _leading(3)),
    "mvnorm_v_step2_opencl_kernel": _Rule("normalize", 3, _leading(3)),
    "reduce_hw_opencl_kernel": _Rule("reduce", 3, _leading(3)),
    "reduce_c_opencl_kernel": _Rule("reduce", 3, _leading(3)),
    "addn_opencl_kernel": _Rule("pointwise", 2, _row),
    "matmul_opencl_kernel": _Rule("matmul", 2, _product),
    "lstmcell_opencl_kernel": _Rule("lstm", 2, _lstm),
    "winograd_transform_kernel": _Rule("winograd", 2, _winograd_input),
    "winograd_inverse_transform_kernel": _Rule("winograd", 2, _winograd_output),
    # kernels of buffers, for GPUs without images
    "conv2d_1x1_buffer": _Rule("conv2d_1x1", 2, _unknown),
    "conv2d_general_buffer": _Rule("conv2d_general", 2, _unknown),
    "depthwise_conv2d_buffer_kernel": _Rule("depthwise_conv2d", 2, _unknown),
    "pad_input": _Rule("pad", 2, _unknown),
    **{f"{name}_opencl_kernel": _Rule("pointwise", 3, _per_pixel(1)) for name in _ACTIVATIONS},
    **{f"{name}_opencl_kernel": _Rule("resize", 3, _per_pixel(1)) for name in _RESIZES},
    **{
        f"in_out_{way}": _Rule("transform", 2, _row)
        for way in ("buffer_to_image", "image_to_buffer")
    },
}


def _transform(kernel: str) -> _Rule | None:
    """Of weights: no op shows their time, so their sizes are of no use."""
    if kernel.endswith(("buffer_to_image", "image_to_buffer")) or "buffer_to_image_" in kernel:
        return _Rule("transform", 2, _unknown)
    return None


def _joined(prefix: str, *sizes: int) -> str:
    return "_".join((prefix, *map(str, sizes)))


def _convolution(output: Sizes, filter_shape: Sizes) -> tuple[str, ...]:
    if len(filter_shape) != 4:
        return ()
    taps = filter_shape[2:]
    general = _joined("conv2d_general_opencl_kernel", *output, *taps)
    if taps == (1, 1):
        return (_joined("conv2d_1x1_opencl_kernel", *output), general)
    if taps == (3, 3):
        return (_joined("conv2d_3x3_opencl_kernel", *output), *_winograd(output, filter_shape))
    return (general,)


def _winograd(output: Sizes, filter_shape: Sizes) -> tuple[str, ...]:
    """For tiles of 2x2 and of 4x4 outputs; the transformed filters have (tile + 2)² taps."""
    batch, height, width, channels = output
    keys: list[str] = []
    for tile in (2, 4):
        tiles = batch * _blocks(height, tile) * _blocks(width, tile)
        taps = (tile + 2) ** 2
        keys += (
            _joined("winograd_transform_kernel", taps, filter_shape[1], tiles),
            _joined("matmul_opencl_kernel", taps, channels, tiles),
            _joined("winograd_inverse_transform_kernel", *output, tiles),
        )
    return tuple(keys)


def _depthwise(output: Sizes, filter_shape: Sizes) -> tuple[str, ...]:
    if not filter_shape:
        return ()
    gws = _per_pixel(4)(output)
    return (_joined("depthwise_conv2d_ocl_kernel", *gws, filter_shape[0]),)


_PLAIN = {
    "Eltwise": ("eltwise_opencl_kernel",),
    "Pooling": ("pooling_opencl_kernel_",),
    "Softmax": ("softmax_opencl_kernel",),
    "FullyConnected": ("fc_opencl_kernel",),
    "AddN": ("addn_opencl_kernel",),
    "BiasAdd": ("bias_add_opencl_kernel",),
    "Concat": ("concat_opencl_kernel",),
    "Pad": ("pad",),
    "Crop": ("crop_opencl_kernel",),
    "ChannelShuffle": ("channel_shuffle_opencl_kernel",),
    "ResizeBilinear": ("resize_bilinear_opencl_kernel",),
    "ResizeBicubic": ("resize_bicubic_opencl_kernel",),
    "ResizeNearestNeighbor": ("resize_nearest_neighbor_opencl_kernel",),
    # the table does not tell which activation it is
    "Activation": tuple(f"{name}_opencl_kernel" for name in _ACTIVATIONS),
    "BatchNorm": tuple(f"batch_norm_opencl_kernel_{number}" for number in range(9)),
}


def _op_keys(op_type: str, output: Sizes, filter_shape: Sizes) -> tuple[str, ...]:
    if op_type == "Conv2D":
        return _convolution(output, filter_shape)
    if op_type == "DepthwiseConv2d":
        return _depthwise(output, filter_shape)
    return tuple(_joined(prefix, *output) for prefix in _PLAIN.get(op_type, ()))
