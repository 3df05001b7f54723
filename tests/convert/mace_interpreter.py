"""A slow, independent reading of what a MACE graph computes, for tests alone.

Written from MACE's sources and documented conventions, in double precision. Tensors of four axes
are kept as NHWC; an op that MACE runs on the CPU only and that has no data format of its own sees
them as NCHW. Filters are OIHW, depthwise ones MIHW; paddings are totals per axis whose smaller half
goes before.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from droidmace.formats.netdef import DataType, MultiNetDef, NetDef, OperatorDef, read_weights

STORAGE = {DataType.DT_FLOAT: "<f4", DataType.DT_HALF: "<f2", DataType.DT_INT32: "<i4"}
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def run_model(
    model: MultiNetDef, data: bytes, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run the model's only net; inputs and outputs as the graph declares them (images NHWC)."""
    (net,) = model.nets
    tensors = {
        name: value.astype(np.float64) if value.dtype.kind == "f" else value
        for name, value in inputs.items()
    }
    for info in net.input_infos:
        assert tensors[info.name].shape == info.dims
    for tensor in net.tensors:
        raw = np.frombuffer(read_weights(net, data, tensor), STORAGE[tensor.data_type])
        values = raw if tensor.data_type is DataType.DT_INT32 else raw.astype(np.float64)
        tensors[tensor.name] = values.reshape(tensor.dims)
    for op in net.ops:
        assert not set(op.outputs) & tensors.keys(), "a name has one meaning"
        results = run_op(net, op, [tensors[name] for name in op.inputs])
        for name, result, shape in zip(op.outputs, results, op.output_shapes, strict=True):
            assert result.shape == shape.dims, (op.name, op.type, result.shape, shape.dims)
            tensors[name] = result
    return {info.name: tensors[info.name] for info in net.output_infos}


def run_op(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> list[np.ndarray]:
    x = inputs[0]
    if op.type == "Split":
        axis = op.int_arg("axis")
        assert op.int_arg("has_data_format") == 1
        sizes = (
            inputs[1] if len(inputs) > 1 else [x.shape[axis] // len(op.outputs)] * len(op.outputs)
        )
        return list(np.split(x, np.cumsum(sizes)[:-1], axis))
    if op.type in OPS:
        return [OPS[op.type](net, op, inputs)]
    if op.type in NCHW_OPS:
        turned = [value.transpose(TO_NCHW) if value.ndim == 4 else value for value in inputs]
        result = NCHW_OPS[op.type](op, turned)
        return [result.transpose(TO_NHWC) if result.ndim == 4 else result]
    raise AssertionError(f"op type {op.type} is not known here")


# --- convolutions -------------------------------------------------------------------------------


def finish(op: OperatorDef, result: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray:
    if len(inputs) > 2:
        result = result + inputs[2]
    return activate(op, result, [])


def fully_connected(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, weights = inputs[:2]
    assert x.shape[1:] == tuple(weights.shape[axis] for axis in (2, 3, 1))
    return finish(op, np.einsum("nhwc,ochw->no", x, weights)[:, None, None, :], inputs)


def windows(x: np.ndarray, op: OperatorDef, fill: float) -> tuple[np.ndarray, int, int]:
    """(kernel h, kernel w, n, out h, out w, c), from ``x`` padded with ``fill``."""
    (stride_h, stride_w) = op.ints_arg("strides")
    step_h, step_w = op.ints_arg("dilations", (1, 1))
    total_h, total_w = op.ints_arg("padding_values")
    kernel_h, kernel_w = op.ints_arg("kernels")
    pads = ((0, 0), *((t // 2, t - t // 2) for t in (total_h, total_w)), (0, 0))
    padded = np.pad(x, pads, constant_values=fill)
    out_h = (padded.shape[1] - step_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (padded.shape[2] - step_w * (kernel_w - 1) - 1) // stride_w + 1
    taken = np.empty((kernel_h, kernel_w, x.shape[0], out_h, out_w, x.shape[3]))
    for i in range(kernel_h):
        for j in range(kernel_w):
            top, left = i * step_h, j * step_w
            taken[i, j] = padded[
                :,
                top : top + stride_h * (out_h - 1) + 1 : stride_h,
                left : left + stride_w * (out_w - 1) + 1 : stride_w,
            ]
    return taken, out_h, out_w


def conv(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, filters = inputs[:2]
    assert op.ints_arg("kernels") == filters.shape[2:]
    taken, out_h, out_w = windows(x, op, 0.0)
    if op.type == "Conv2D":
        assert op.int_arg("group", 1) == 1, "MACE has no groups"
        result = np.einsum("ijnhwc,ocij->nhwo", taken, filters, optimize=True)
    else:
        assert filters.shape[0] == 1 or net.int_arg("runtime_type") == 0, "one filter on the GPU"
        result = np.einsum("ijnhwc,mcij->nhwcm", taken, filters, optimize=True)
        result = result.reshape(x.shape[0], out_h, out_w, -1)
    return finish(op, result, inputs)


def deconv(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, filters = inputs[:2]
    stride_h, stride_w = op.ints_arg("strides")
    total_h, total_w = op.ints_arg("padding_values")
    kernel_h, kernel_w = filters.shape[2:]
    batch, height, width, channels = x.shape
    depthwise = op.type == "DepthwiseDeconv2d"
    outputs = channels if depthwise else filters.shape[0]
    full = np.zeros(
        (batch, (height - 1) * stride_h + kernel_h, (width - 1) * stride_w + kernel_w, outputs)
    )
    for i in range(kernel_h):
        for j in range(kernel_w):
            part = x * filters[0, :, i, j] if depthwise else x @ filters[:, :, i, j].T
            full[
                :,
                i : i + stride_h * (height - 1) + 1 : stride_h,
                j : j + stride_w * (width - 1) + 1 : stride_w,
            ] += part
    assert total_h <= 2 * (kernel_h - 1)
    assert total_w <= 2 * (kernel_w - 1)
    top, left = total_h // 2, total_w // 2
    result = full[
        :,
        top : full.shape[1] - (total_h - top),
        left : full.shape[2] - (total_w - left),
    ]
    return finish(op, result, inputs)


def pool(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    assert op.int_arg("round_mode", 1) == 0
    if op.int_arg("pooling_type") == 2:
        return windows(inputs[0], op, -np.inf)[0].max(axis=(0, 1))
    with np.errstate(invalid="ignore"):
        return np.nanmean(windows(inputs[0], op, np.nan)[0], axis=(0, 1))


# --- everything else -----------------------------------------------------------------------------


def eltwise(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    assert op.int_arg("has_data_format") == 1
    on_gpu = net.int_arg("runtime_type") == 2
    if len(inputs) == 1:
        scalar = np.float64(np.float32(op.float_arg("scalar_input", 1.0)))
        pair = [inputs[0], scalar] if op.int_arg("scalar_input_index", 1) else [scalar, inputs[0]]
    else:
        constants = {tensor.name for tensor in net.tensors}
        pair = [
            value.transpose(TO_NHWC)
            if name in constants and value.ndim == 4 and not on_gpu
            else value
            for name, value in zip(op.inputs, inputs, strict=True)
        ]
        small, large = sorted(pair, key=lambda value: (value.ndim, value.size))
        assert np.broadcast_shapes(*(value.shape for value in pair)) == large.shape
        if on_gpu and small.shape != large.shape and small.ndim == 4:
            vector = small.shape[1:3] == (1, 1) and small.shape[3] == large.shape[3]
            # A single number counts as a vector, too short for the channels.
            assert (vector and small.shape[0] in {1, large.shape[0]}) or (
                small.shape == (*large.shape[:3], 1) and small.size > 1
            ), (small.shape, large.shape)
        assert small.ndim in {1, 4}
        if small.ndim == 1:
            assert small.shape == (large.shape[3],)
    a, b = pair
    coeff = op.floats_arg("coeff")
    with np.errstate(all="ignore"):
        match op.int_arg("type", -1):
            case 0:
                return a * coeff[0] + b * coeff[1] if coeff else a + b
            case 1:
                return a - b
            case 2:
                return a * b
            case 3:
                return a / b
            case 4:
                return np.minimum(a, b)
            case 5:
                return np.maximum(a, b)
            case 6:
                return -a
            case 7:
                return np.abs(a)
            case 9:
                return a**b
            case 11:
                return np.floor(a / b)
            case 12:
                assert coeff[0] < coeff[1]
                return np.clip(a, *coeff)
            case 13:
                return np.sign(a)
            case other:
                raise AssertionError(f"eltwise type {other} is not known here")


def reduce(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    assert op.int_arg("keepdims") == op.int_arg("has_data_format") == 1
    reduction = (np.mean, np.min, np.max, np.prod, np.sum)[op.int_arg("reduce_type")]
    return reduction(inputs[0], axis=op.ints_arg("axis"), keepdims=True)


def softmax(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    # With has_data_format the axis counts in NCHW: 1 is the channels.
    assert (op.int_arg("axis"), op.int_arg("has_data_format")) == (1, 1)
    powers = np.exp(inputs[0] - inputs[0].max(axis=3, keepdims=True))
    result = powers / powers.sum(axis=3, keepdims=True)
    return np.log(result) if op.int_arg("use_log") else result


def activate(op: OperatorDef, x: np.ndarray, more: list[np.ndarray]) -> np.ndarray:
    factor = op.float_arg("activation_coefficient")
    match op.str_arg("activation", "NOOP"):
        case "NOOP":
            return x
        case "RELU":
            return np.maximum(x, 0)
        case "RELUX":
            return np.clip(x, 0, op.float_arg("max_limit"))
        case "LEAKYRELU":
            return np.where(x > 0, x, x * factor)
        case "PRELU":
            return np.where(x > 0, x, x * more[0])
        case "ELU":
            return np.where(x > 0, x, factor * np.expm1(np.minimum(x, 0)))
        case "TANH":
            return np.tanh(x)
        case "SIGMOID":
            return 1 / (1 + np.exp(-x))
        case "HARDSIGMOID":
            line = x * op.float_arg("hardsigmoid_alpha") + op.float_arg("hardsigmoid_beta")
            return np.clip(line, 0, 1)
        case other:
            raise AssertionError(f"activation {other} is not known here")


def activation(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    on_gpu = net.int_arg("runtime_type") == 2
    assert not (on_gpu and op.str_arg("activation") == "HARDSIGMOID"), "not on MACE's GPU"
    return activate(op, inputs[0], inputs[1:])


def batch_norm(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    return activate(op, inputs[0] * inputs[1] + inputs[2], [])


def instance_norm(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, scale, offset = inputs
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    deviation = np.sqrt(x.var(axis=(1, 2), keepdims=True) + op.float_arg("epsilon"))
    return activate(op, centred / deviation * scale + offset, [])


def pad(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    pads = np.array(op.ints_arg("paddings")).reshape(4, 2)
    if net.int_arg("runtime_type") == 2:
        assert not pads[[0, 3]].any(), "MACE's GPU pads height and width only"
    match op.int_arg("pad_type"):
        case 0:
            return np.pad(inputs[0], pads, constant_values=op.float_arg("constant_value"))
        case 1:
            return np.pad(inputs[0], pads, mode="reflect")
        case _:
            return np.pad(inputs[0], pads, mode="symmetric")


def reshape(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, dims = inputs[0], op.ints_arg("dim")
    if x.ndim != 4:
        on_cpu = net.int_arg("runtime_type") == 0
        assert on_cpu == bool(op.int_arg("has_data_format")), "only the CPU turns the shape"
        assert op.int_arg("data_format") == (1000 if on_cpu else 1)
        turned = [dims[axis] for axis in TO_NCHW]
        return x.reshape(turned).transpose(TO_NHWC) if on_cpu else x.reshape(dims)
    assert op.int_arg("has_data_format") == 1
    turned = [dims[axis] for axis in TO_NCHW]
    return x.transpose(TO_NCHW).reshape(turned).transpose(TO_NHWC)


def concat(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    assert op.int_arg("has_data_format") == 1
    return np.concatenate(inputs, op.int_arg("axis"))


def tile(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    assert op.int_arg("has_data_format") == 1
    return np.tile(inputs[0], inputs[1])


def channel_shuffle(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, groups = inputs[0], op.int_arg("group")
    return x.reshape(*x.shape[:3], groups, -1).swapaxes(3, 4).reshape(x.shape)


def depth_to_space(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, block = inputs[0], op.int_arg("block_size")
    n, h, w, _ = x.shape
    if op.str_arg("mode", "DCR") == "DCR":
        split = x.reshape(n, h, w, block, block, -1).transpose(0, 1, 3, 2, 4, 5)
    else:
        split = x.reshape(n, h, w, -1, block, block).transpose(0, 1, 4, 2, 5, 3)
    return split.reshape(n, h * block, w * block, -1)


def space_to_depth(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, block = inputs[0], op.int_arg("block_size")
    n, h, w, _ = x.shape
    split = x.reshape(n, h // block, block, w // block, block, -1)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // block, w // block, -1)


def resize_axis(op: OperatorDef, source: int, result: int) -> np.ndarray:
    """(results, sources)."""
    aligned = op.int_arg("align_corners") == 1 and result > 1
    scale = np.float32((source - 1) / (result - 1) if aligned else source / result)
    mode = op.int_arg("coordinate_transformation_mode")
    matrix = np.zeros((result, source))
    for x in range(result):
        at = float(np.float32(x) * scale if mode == 0 else np.float32(x + 0.5) * scale)
        if op.type == "ResizeNearestNeighbor":
            if op.int_arg("align_corners"):
                at = math.floor(at + 0.5)
            elif op.str_arg("nearest_mode", "floor") == "round_prefer_floor":
                at = math.ceil(at - 0.5)
            matrix[x, min(math.floor(at), source - 1)] = 1
            continue
        if mode:
            at = 0.0 if mode == 2 and result == 1 else at - 0.5
        low = math.floor(at)
        if op.type == "ResizeBicubic":
            for place, weight in cubic_weights(low, round((at - low) * 1024) / 1024, mode, source):
                matrix[x, place] += weight
            continue
        matrix[x, max(low, 0)] += 1 - (at - low)
        matrix[x, min(math.ceil(at), source - 1)] += at - low
    return matrix


def cubic_weights(low: int, x: float, mode: int, source: int) -> list[tuple[int, float]]:
    """Pixels and their weights, as ``resize_bicubic.cc`` has them."""
    a = -0.5 if mode == 1 else -0.75

    def near(d: float) -> float:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: float) -> float:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weights = [(low - 1, far(x + 1)), (low, near(x)), (low + 1, near(1 - x)), (low + 2, far(2 - x))]
    if mode == 1:
        inside = [(place, weight) for place, weight in weights if 0 <= place < source]
        total = sum(weight for _, weight in inside)
        return [(place, weight / total) for place, weight in inside]
    return [(min(max(place, 0), source - 1), weight) for place, weight in weights]


def resize(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, (height, width) = inputs[0], op.ints_arg("size")
    rows, columns = resize_axis(op, x.shape[1], height), resize_axis(op, x.shape[2], width)
    return np.einsum("ph,qw,nhwc->npqc", rows, columns, x, optimize=True)


OPS: dict[str, Callable[[NetDef, OperatorDef, list[np.ndarray]], np.ndarray]] = {
    "Activation": activation,
    "BatchNorm": batch_norm,
    "ChannelShuffle": channel_shuffle,
    "Concat": concat,
    "Conv2D": conv,
    "Deconv2D": deconv,
    "DepthToSpace": depth_to_space,
    "DepthwiseConv2d": conv,
    "DepthwiseDeconv2d": deconv,
    "Eltwise": eltwise,
    "FullyConnected": fully_connected,
    "InstanceNorm": instance_norm,
    "Pad": pad,
    "Pooling": pool,
    "Reduce": reduce,
    "Reshape": reshape,
    "ResizeBicubic": resize,
    "ResizeBilinear": resize,
    "ResizeNearestNeighbor": resize,
    "Softmax": softmax,
    "SpaceToDepth": space_to_depth,
    "Tile": tile,
}


# --- ops of the CPU: (n, c, h, w) ----------------------------------------------------------------


def cut(op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    if len(inputs) == 1:
        (start,), (end,) = op.ints_arg("starts"), op.ints_arg("ends")
        (axis,), step = op.ints_arg("axes"), 1
    else:
        start, end, axis, step = (int(value[0]) for value in inputs[1:])
    index = [slice(None)] * inputs[0].ndim
    index[axis] = slice(start, end, step)
    return inputs[0][tuple(index)]


def local_response_norm(op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x, radius = inputs[0], op.int_arg("depth_radius")
    sums = np.zeros_like(x)
    for c in range(x.shape[1]):
        sums[:, c] = (x[:, max(0, c - radius) : c + radius + 1] ** 2).sum(axis=1)
    base = op.float_arg("bias") + op.float_arg("alpha") * sums
    return x * base ** -op.float_arg("beta")


def arg_max(op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    find = np.argmin if op.int_arg("argmin") else np.argmax
    return np.expand_dims(find(inputs[0], op.int_arg("axis")), op.int_arg("axis"))


NCHW_OPS: dict[str, Callable[[OperatorDef, list[np.ndarray]], np.ndarray]] = {
    "ArgMax": arg_max,
    "Gather": lambda op, inputs: np.take(inputs[0], inputs[1], op.int_arg("axis")),
    "LocalResponseNorm": local_response_norm,
    "MatMul": lambda op, inputs: inputs[0] @ inputs[1],
    "Slice": cut,
    "Transpose": lambda op, inputs: inputs[0].transpose(op.ints_arg("dims")),
}
