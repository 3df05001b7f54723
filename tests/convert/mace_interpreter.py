"""A slow, independent reading of what a MACE graph computes, for tests alone.

Written from MACE's documented conventions, in double precision: NHWC activations, OIHW filters,
MIHW depthwise filters, paddings that are totals per axis whose smaller half goes before.
"""

from __future__ import annotations

import numpy as np

from droidmace.formats.netdef import DataType, MultiNetDef, NetDef, OperatorDef, read_weights

STORAGE = {DataType.DT_FLOAT: "<f4", DataType.DT_HALF: "<f2"}


def run_model(
    model: MultiNetDef, data: bytes, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run the model's only net; inputs and outputs as the graph declares them (images NHWC)."""
    (net,) = model.nets
    tensors = {name: value.astype(np.float64) for name, value in inputs.items()}
    for info in net.input_infos:
        assert tensors[info.name].shape == info.dims
    for tensor in net.tensors:
        raw = np.frombuffer(read_weights(net, data, tensor), STORAGE[tensor.data_type])
        tensors[tensor.name] = raw.astype(np.float64).reshape(tensor.dims)
    for op in net.ops:
        result = run_op(net, op, [tensors[name] for name in op.inputs])
        assert result.shape == op.output_shapes[0].dims, op.name
        tensors[op.outputs[0]] = result
    return {info.name: tensors[info.name] for info in net.output_infos}


def run_op(net: NetDef, op: OperatorDef, inputs: list[np.ndarray]) -> np.ndarray:
    x = inputs[0]
    match op.type:
        case "Conv2D":
            result = convolve(op, x, inputs[1], depthwise=False)
        case "DepthwiseConv2d":
            result = convolve(op, x, inputs[1], depthwise=True)
        case "FullyConnected":
            assert x.shape[1:] == tuple(inputs[1].shape[axis] for axis in (2, 3, 1))
            result = np.einsum("nhwc,ochw->no", x, inputs[1])[:, None, None, :]
        case "Eltwise":
            assert op.int_arg("type", -1) == 0
            return inputs[0] + inputs[1]
        case "Reduce":
            assert op.int_arg("reduce_type", -1) == 0
            assert op.int_arg("keepdims") == 1
            return x.mean(axis=op.ints_arg("axis"), keepdims=True)
        case "Softmax":
            # With has_data_format the axis counts in NCHW: 1 is the channels.
            assert (op.int_arg("axis"), op.int_arg("has_data_format")) == (1, 1)
            powers = np.exp(x - x.max(axis=3, keepdims=True))
            return powers / powers.sum(axis=3, keepdims=True)
        case "Activation":
            return activate(op, x)
        case "Pad":
            pads = np.array(op.ints_arg("paddings")).reshape(4, 2)
            return np.pad(x, pads, constant_values=op.float_arg("constant_value"))
        case _:
            raise AssertionError(f"op type {op.type} is not known here")
    if len(inputs) > 2:
        result = result + inputs[2]
    return activate(op, result)


def convolve(op: OperatorDef, x: np.ndarray, filters: np.ndarray, *, depthwise: bool) -> np.ndarray:
    (stride_h, stride_w), (step_h, step_w) = op.ints_arg("strides"), op.ints_arg("dilations")
    total_h, total_w = op.ints_arg("padding_values")
    assert op.ints_arg("kernels") == filters.shape[2:]
    padded = np.pad(
        x,
        (
            (0, 0),
            (total_h // 2, total_h - total_h // 2),
            (total_w // 2, total_w - total_w // 2),
            (0, 0),
        ),
    )
    kernel_h, kernel_w = filters.shape[2:]
    out_h = (padded.shape[1] - step_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (padded.shape[2] - step_w * (kernel_w - 1) - 1) // stride_w + 1
    channels = filters.shape[1] if depthwise else filters.shape[0]
    result = np.zeros((x.shape[0], out_h, out_w, channels))
    for i in range(kernel_h):
        for j in range(kernel_w):
            top, left = i * step_h, j * step_w
            window = padded[
                :,
                top : top + stride_h * (out_h - 1) + 1 : stride_h,
                left : left + stride_w * (out_w - 1) + 1 : stride_w,
            ]
            if depthwise:
                result += window * filters[0, :, i, j]
            else:
                result += np.einsum("nhwc,oc->nhwo", window, filters[:, :, i, j])
    return result


def activate(op: OperatorDef, x: np.ndarray) -> np.ndarray:
    match op.str_arg("activation", "NOOP"):
        case "NOOP":
            return x
        case "RELU":
            return np.maximum(x, 0)
        case "RELUX":
            return np.clip(x, 0, op.float_arg("max_limit"))
        case other:
            raise AssertionError(f"activation {other} is not known here")
