"""Every op of the table, alone and in small patterns, on both runtimes: as onnxruntime has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mace_interpreter import run_model
from onnx import helper
from onnx_models import declare, nhwc, op_types, save_model

from droidmace.convert import convert_model
from droidmace.convert.lower import SUPPORTED
from droidmace.formats.netdef import MultiNetDef, parse_model

node = helper.make_node
X = (2, 8, 5, 6)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def positive(*shape: int, seed: int = 3) -> np.ndarray:
    return np.abs(floats(*shape, seed=seed)) + np.float32(0.2)


@dataclass(frozen=True)
class Case:
    """A graph from ``x`` to ``y``, and what of it matters.

    ``ops``: MACE's op types where they are the point; ``gpu`` false: MACE's GPU cannot, or only in
    another way. ``positive``: inputs are above zero.
    """

    nodes: list[onnx.NodeProto]
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    shape: tuple[int, ...] = X
    opset: int = 13
    ops: list[str] | None = None
    gpu: bool = True
    positive: bool = False
    more_inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)


def one(op: str, *more: str, weights: dict[str, np.ndarray] | None = None, **kw: object) -> Case:
    """A single node."""
    own = {key: kw.pop(key) for key in ("shape", "opset", "ops", "gpu", "positive") if key in kw}
    return Case([node(op, ["x", *more], ["y"], name="n", **kw)], weights or {}, **own)  # type: ignore[arg-type]


def two(op: str, shape: tuple[int, ...], other: tuple[int, ...], **kw: object) -> Case:
    """A node of two inputs."""
    case = Case([node(op, ["x", "z"], ["y"], name="n", **kw)], shape=shape)
    return Case(case.nodes, shape=shape, more_inputs={"z": other})


def chain(*nodes: tuple[str, list[str], dict[str, object]], **kw: object) -> Case:
    """Nodes one after another; each takes the result of the one before and its own more inputs."""
    made, last = [], "x"
    for number, (op, more, attributes) in enumerate(nodes):
        output = "y" if number == len(nodes) - 1 else f"t{number}"
        made.append(node(op, [last, *more], [output], name=f"n{number}", **attributes))
        last = output
    return Case(made, **kw)  # type: ignore[arg-type]


UNARY = {
    name: one(name, positive=name in {"Sqrt", "Reciprocal"})
    for name in [
        "Abs",
        "Neg",
        "Sign",
        "Sqrt",
        "Reciprocal",
        "Exp",
        "Floor",
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Sigmoid",
        "Tanh",
        "Softsign",
        "HardSigmoid",
        "Ceil",
    ]
}
ARITHMETIC = {
    **{f"{op} of tensors": two(op, X, X) for op in ("Add", "Sub", "Mul", "Max", "Min")},
    "Div of tensors": Case(
        [node("Abs", ["z"], ["a"]), node("Add", ["a", "o"], ["b"]), node("Div", ["x", "b"], ["y"])],
        {"o": np.float32(1)},
        more_inputs={"z": X},
    ),
    "Mul by a gate": two("Mul", X, (2, 8, 1, 1)),
    "Mul by a gate, first": Case([node("Sub", ["z", "x"], ["y"])], more_inputs={"z": (2, 8, 1, 1)}),
    "Mul by a mask": two("Mul", X, (2, 1, 5, 6)),
    "Mul by rows": two("Mul", X, (1, 8, 5, 1)),
    "Mul by one value": two("Mul", X, (1, 1, 1, 1)),
    "both widen": two("Add", (2, 8, 1, 1), (2, 1, 5, 6)),
    "lower rank": two("Add", (2, 8, 5, 6), (5, 6)),
    "higher rank second": two("Add", (5, 6), (2, 8, 5, 6)),
    "matrices": two("Sub", (3, 7), (3, 7)),
    "a matrix and a row": two("Add", (3, 7), (1, 7)),
    "scalar second": one("Sub", "s", weights={"s": np.float32(3)}),
    "scalar first": Case([node("Sub", ["s", "x"], ["y"])], {"s": np.float32(3)}),
    "scalar divided": Case([node("Div", ["s", "x"], ["y"])], {"s": floats(1)}, positive=True),
    "constant per channel": one("Mul", "c", weights={"c": floats(8, 1, 1)}),
    "constant per channel first": Case([node("Sub", ["c", "x"], ["y"])], {"c": floats(1, 8, 1, 1)}),
    "constant per column": one("Add", "c", weights={"c": floats(6)}),
    "constant per row": one("Add", "c", weights={"c": floats(5, 1)}),
    "constant everywhere": one("Add", "c", weights={"c": floats(1, 8, 5, 6)}),
    "constant of a matrix": one("Mul", "c", weights={"c": floats(7)}, shape=(3, 7)),
    "constant wider": one("Mul", "c", weights={"c": floats(4, 3, 7)}, shape=(3, 7)),
    "Pow": one("Pow", "p", weights={"p": np.float32(3)}),
    "Pow per channel": one("Pow", "p", weights={"p": positive(8, 1, 1)}, positive=True),
    "Sum of three": Case(
        [node("Sum", ["x", "z", "c"], ["y"])], {"c": floats(8, 1, 1)}, more_inputs={"z": X}
    ),
    "Mean of three": Case([node("Mean", ["x", "z", "x"], ["y"])], more_inputs={"z": X}),
    "Max with constants": Case(
        [node("Max", ["a", "b", "x"], ["y"])], {"a": floats(1), "b": floats(1, seed=4)}
    ),
    "Min of one": one("Min"),
    "Clip": one("Clip", "l", "h", weights={"l": np.float32(-0.5), "h": np.float32(0.7)}),
    "Clip above": one("Clip", "", "h", weights={"h": np.float32(0.7)}),
    "Clip old": one("Clip", min=-1.0, max=0.25, opset=7),
    "PRelu": one("PRelu", "s", weights={"s": floats(8, 1, 1)}),
    "PRelu of one": one("PRelu", "s", weights={"s": floats(1)}),
    "PRelu of a matrix": one("PRelu", "s", weights={"s": floats(7)}, shape=(3, 7)),
    "HardSwish": one("HardSwish", opset=14),
    "HardSwish apart": Case(
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["b"]),
            node("Mul", ["x", "b"], ["c"]),
            node("Div", ["c", "six"], ["y"]),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
        ops=["Eltwise", "Activation", "Eltwise"],
    ),
    "HardSwish apart, divided first": Case(
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["b"]),
            node("Div", ["b", "six"], ["c"]),
            node("Mul", ["c", "x"], ["y"]),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
        ops=["Eltwise", "Activation", "Eltwise"],
    ),
    "almost a HardSwish": Case(
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["b"]),
            node("Mul", ["x", "b"], ["c"]),
            node("Div", ["c", "seven"], ["y"]),
        ],
        {
            "three": np.float32(3),
            "zero": np.float32(0),
            "six": np.float32(6),
            "seven": np.float32(7),
        },
    ),
    "PRelu per pixel": one("PRelu", "s", weights={"s": floats(5, 6)}),
    "Celu": one("Celu", alpha=0.7),
    "Gelu": one("Gelu", approximate="tanh", opset=20),
    "Mish": one("Mish", opset=18),
    "Mish apart": Case(
        [
            node("Softplus", ["x"], ["s"]),
            node("Tanh", ["s"], ["t"]),
            node("Mul", ["x", "t"], ["y"]),
        ]
    ),
    "SiLU": Case([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])]),
}
WEIGHTED = {
    "grouped Conv": one("Conv", "w", weights={"w": floats(12, 4, 3, 3)}, group=2, ops=["Conv2D"]),
    "several filters per channel": one("Conv", "w", weights={"w": floats(16, 1, 3, 3)}, group=8),
    "Conv of one dimension": one(
        "Conv", "w", weights={"w": floats(4, 8, 3)}, shape=(2, 8, 11), pads=[1, 1], strides=[2]
    ),
    "a row's kernel dilated": one(
        "Conv", "w", weights={"w": floats(4, 8, 1, 3)}, dilations=[4, 2], pads=[0, 2, 0, 2]
    ),
    "scaled Conv": Case(
        [
            node("Conv", ["x", "w"], ["a"]),
            node("Mul", ["a", "m"], ["b"]),
            node("Sub", ["b", "s"], ["c"]),
            node("Div", ["c", "m"], ["y"]),
        ],
        {"w": floats(4, 8, 1, 1), "m": positive(4, 1, 1), "s": floats(1, 4, 1, 1)},
        ops=["Conv2D"],
    ),
    "Conv behind a pad": Case(
        [
            node("Pad", ["x", "p"], ["a"]),
            node("Conv", ["a", "w"], ["y"], strides=[2, 2], pads=[1, 0, 0, 0]),
        ],
        {"p": ints(0, 0, 0, 0, 0, 0, 1, 1), "w": floats(4, 8, 3, 3)},
    ),
    "BatchNorm alone": one(
        "BatchNormalization",
        *"gbmv",
        weights={"g": floats(8), "b": floats(8), "m": floats(8), "v": positive(8)},
        ops=["BatchNorm"],
    ),
    "BatchNorm of a matrix, with its activation": Case(
        [node("BatchNormalization", ["x", *"gbmv"], ["a"]), node("Relu", ["a"], ["y"])],
        {"g": floats(7), "b": floats(7), "m": floats(7), "v": positive(7)},
        shape=(3, 7),
    ),
    "Gemm with a norm": Case(
        [
            node("Gemm", ["x", "w", "c"], ["a"], transB=1, beta=0.5),
            node("BatchNormalization", ["a", *"gbmv"], ["y"]),
        ],
        {
            "w": floats(4, 7),
            "c": floats(4),
            **{"g": floats(4), "b": floats(4), "m": floats(4), "v": positive(4)},
        },
        shape=(3, 7),
        ops=["Reshape", "FullyConnected"],
    ),
    "InstanceNorm": one(
        "InstanceNormalization", "s", "b", weights={"s": floats(8), "b": floats(8, seed=4)}
    ),
    "LRN": one("LRN", size=5, alpha=0.3, bias=1.5, beta=0.6),
    "LpNormalization of a vector": one("LpNormalization", axis=1, shape=(1, 8, 1, 1)),
    "LpNormalization 2": one("LpNormalization", axis=1, p=2),
    "LpNormalization 1": one("LpNormalization", axis=-1, p=1),
    "MeanVarianceNormalization": one("MeanVarianceNormalization", axes=[2, 3]),
    "LayerNormalization": one(
        "LayerNormalization",
        "s",
        "b",
        weights={"s": floats(6), "b": floats(6, seed=5)},
        shape=(1, 5, 6),
        opset=17,
        gpu=False,
    ),
}
for kernel, strides, pads, extra, dilation in (
    (3, 2, (1, 1, 1, 1), (1, 1), 1),
    (2, 2, (0, 0, 0, 0), (0, 0), 1),
    (4, 2, (1, 1, 1, 1), (0, 0), 1),
    (3, 1, (0, 1, 2, 0), (0, 0), 1),
    (3, 3, (2, 0, 0, 2), (2, 1), 2),
):
    WEIGHTED[f"ConvTranspose {kernel} {strides} {pads} {extra} {dilation}"] = one(
        "ConvTranspose",
        "w",
        "b",
        weights={"w": floats(8, 3, kernel, kernel), "b": floats(3)},
        strides=[strides] * 2,
        pads=list(pads),
        output_padding=list(extra),
        dilations=[dilation] * 2,
        ops=["Deconv2D"],
    )
WEIGHTED |= {
    "ConvTranspose per channel": one(
        "ConvTranspose",
        "w",
        weights={"w": floats(8, 1, 3, 3)},
        group=8,
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
        ops=["DepthwiseDeconv2d"],
    ),
    "ConvTranspose in groups, with a norm": Case(
        [
            node("ConvTranspose", ["x", "w"], ["a"], group=2, strides=[2, 2]),
            node("BatchNormalization", ["a", *"gbmv"], ["r"]),
            node("Relu", ["r"], ["y"]),
        ],
        {
            "w": floats(8, 3, 2, 2),
            **{"g": floats(6), "b": floats(6), "m": floats(6), "v": positive(6)},
        },
        ops=["Deconv2D"],
    ),
    "ConvTranspose to a size": one(
        "ConvTranspose",
        "w",
        weights={"w": floats(8, 3, 3, 3)},
        strides=[2, 2],
        output_shape=[10, 13],
    ),
    "ConvTranspose to a larger size": one(
        "ConvTranspose",
        "w",
        weights={"w": floats(8, 3, 3, 3)},
        strides=[3, 2],
        output_shape=[16, 14],
    ),
    "ConvTranspose SAME": one(
        "ConvTranspose",
        "w",
        weights={"w": floats(8, 3, 3, 3)},
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    "ConvTranspose of one dimension": one(
        "ConvTranspose",
        "w",
        weights={"w": floats(8, 3, 4)},
        shape=(2, 8, 6),
        strides=[2],
        pads=[1, 1],
    ),
}
PRODUCTS = {
    "Gemm with a matrix added": one(
        "Gemm", "w", "c", weights={"w": floats(7, 4), "c": floats(3, 4)}, shape=(3, 7), beta=0.5
    ),
    "Gemm of a matrix": one("Gemm", "w", weights={"w": floats(7, 4)}, shape=(3, 7)),
    "Gemm of a turned matrix": one(
        "Gemm", "w", weights={"w": floats(3, 4)}, shape=(3, 7), transA=1
    ),
    "Gemm of computed": Case(
        [node("Gemm", ["x", "z", "c"], ["y"], transB=1, alpha=0.5, beta=2.0)],
        {"c": floats(4)},
        shape=(3, 7),
        more_inputs={"z": (4, 7)},
    ),
    "MatMul of images": two("MatMul", (2, 3, 5, 6), (2, 3, 6, 4)),
    "MatMul with weights of rank 4": one("MatMul", "w", weights={"w": floats(6, 4)}),
    "MatMul along the channels": Case(
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
            node("MatMul", ["a", "w"], ["b"]),
            node("Add", ["b", "c"], ["d"]),
            node("Transpose", ["d"], ["y"], perm=[0, 3, 1, 2]),
        ],
        {"w": floats(8, 4), "c": floats(4)},
        ops=["Conv2D", "Eltwise"],
    ),
    "MatMul from the left": Case(
        [node("MatMul", ["w", "x"], ["y"])], {"w": floats(4, 3)}, shape=(3, 7)
    ),
    "attention": Case(
        [
            node("Reshape", ["x", "flat"], ["q"]),
            node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
            node("MatMul", ["k", "q"], ["a"]),
            node("Softmax", ["a"], ["s"], axis=-1),
            node("MatMul", ["q", "s"], ["o"]),
            node("Reshape", ["o", "back"], ["y"]),
        ],
        {"flat": ints(0, 0, -1), "back": ints(2, 8, 5, 6)},
    ),
    "flatten and Gemm, turned": Case(
        [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            node("Flatten", ["t"], ["f"]),
            node("Gemm", ["f", "w"], ["y"], transB=1),
        ],
        {"w": floats(4, 240)},
        ops=["FullyConnected"],
    ),
}
POOLS = {}
for number, (op, kw) in enumerate(
    (
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("AveragePool", {"kernel_shape": [5, 6]}),
        ("AveragePool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    )
):
    POOLS[f"{op} {number}"] = one(op, **kw)  # type: ignore[arg-type]
POOLS |= {
    "MaxPool dilated": one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2], gpu=False),
    "MaxPool of one dimension": one("MaxPool", kernel_shape=[3], strides=[2], shape=(2, 8, 11)),
    "GlobalMaxPool": one("GlobalMaxPool"),
    "GlobalAveragePool": one("GlobalAveragePool", ops=["Reduce"]),
    "pad and pool": Case(
        [node("Pad", ["x", "p"], ["a"]), node("MaxPool", ["a"], ["y"], kernel_shape=[3, 3])],
        {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
}
REDUCTIONS = {
    f"{op} {axes} {keep}": one(op, axes=list(axes), keepdims=keep, opset=11)
    for op, axes, keep in (
        ("ReduceMean", (2, 3), 1),
        ("ReduceMean", (1,), 0),
        ("ReduceMean", (-1,), 1),
        ("ReduceMean", (1, 2, 3), 0),
        ("ReduceMax", (3,), 0),
        ("ReduceMin", (0, 1), 1),
        ("ReduceSum", (2,), 0),
        ("ReduceProd", (1, 2), 1),
        ("ReduceL1", (2, 3), 1),
        ("ReduceL2", (1,), 1),
        ("ReduceL2", (1,), 0),
        ("ReduceSumSquare", (3,), 0),
    )
} | {
    "ReduceSum with an input": one("ReduceSum", "a", weights={"a": ints(1, 2)}, keepdims=0),
    "ReduceMean of all": one("ReduceMean", keepdims=1, opset=11),
    "ReduceMean of a matrix": one("ReduceMean", axes=[1], shape=(3, 7), keepdims=0, opset=11),
    "Softmax": one("Softmax", axis=1),
    "Softmax of columns": one("Softmax", axis=3),
    "Softmax of rows": one("Softmax", axis=2, shape=(1, 3, 5, 4)),
    "Softmax old": one("Softmax", axis=1, opset=11, shape=(2, 3, 4, 5)),
    "Softmax old, from the rows": one("Softmax", axis=2, opset=11, shape=(2, 3, 4, 5)),
    "LogSoftmax": one("LogSoftmax", axis=1),
    "Softmax of a matrix": one("Softmax", shape=(3, 7)),
    "Softmax of three axes": one("Softmax", axis=1, shape=(2, 3, 5)),
}
SHAPES = {
    "Flatten and Relu": chain(("Flatten", [], {}), ("Relu", [], {})),
    "Flatten from 2": one("Flatten", axis=2),
    "Squeeze, Unsqueeze": chain(
        ("ReduceMean", [], {"axes": [2], "keepdims": 1}),
        ("Squeeze", ["a"], {}),
        ("Relu", [], {}),
        ("Unsqueeze", ["b"], {}),
        weights={"a": ints(2), "b": ints(1)},
    ),
    "Squeeze old": one("Squeeze", axes=[0], shape=(1, 8, 5, 6), opset=11),
    "Reshape": one("Reshape", "s", weights={"s": ints(2, 4, 10, 6)}),
    "Reshape to a matrix": one("Reshape", "s", weights={"s": ints(4, -1)}),
    "Reshape to three": one("Reshape", "s", weights={"s": ints(0, 0, -1)}),
    "Transpose": one("Transpose", perm=[0, 1, 3, 2]),
    "Transpose all": one("Transpose", perm=[3, 1, 0, 2]),
    "Transpose of a matrix": one("Transpose", shape=(3, 7)),
    "Transpose of three": one("Transpose", shape=(2, 3, 5), perm=[0, 2, 1]),
    "Transpose, Reshape": chain(
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["s"], {}),
        weights={"s": ints(2, 30, 8)},
    ),
    "a head of a detector": chain(
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["s"], {}),
        ("Sigmoid", [], {}),
        weights={"s": ints(2, 60, 4)},
    ),
    "channel shuffle": chain(
        ("Reshape", ["s"], {}),
        ("Transpose", [], {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", ["b"], {}),
        weights={"s": ints(2, 2, 4, 5, 6), "b": ints(2, 8, 5, 6)},
        ops=["ChannelShuffle"],
    ),
    "channel shuffle of four axes": chain(
        ("Reshape", ["s"], {}),
        ("Transpose", [], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["b"], {}),
        weights={"s": ints(2, 2, 4, 30), "b": ints(2, 8, 5, 6)},
        ops=["ChannelShuffle"],
    ),
    "no channel shuffle": chain(
        ("Reshape", ["s"], {}),
        ("Transpose", [], {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", ["b"], {}),
        weights={"s": ints(1, 2, 4, 5, 6), "b": ints(1, 4, 10, 6)},
        shape=(1, 8, 5, 6),
    ),
    "Concat": Case([node("Concat", ["x", "z"], ["y"], axis=1)], more_inputs={"z": (2, 3, 5, 6)}),
    "Concat of three": Case(
        [node("Concat", ["x", "z", "x"], ["y"], axis=1)], more_inputs={"z": (2, 3, 5, 6)}
    ),
    "Concat of rows": Case(
        [node("Concat", ["x", "z"], ["y"], axis=2)], more_inputs={"z": (2, 8, 1, 6)}
    ),
    "Concat of matrices": Case(
        [node("Concat", ["x", "z"], ["y"], axis=-1)], shape=(3, 7), more_inputs={"z": (3, 1)}
    ),
    "Concat of flattened": Case(
        [
            node("Reshape", ["x", "s"], ["a"]),
            node("Reshape", ["z", "s"], ["b"]),
            node("Concat", ["a", "b"], ["y"], axis=2),
        ],
        {"s": ints(0, 0, -1)},
        more_inputs={"z": (2, 8, 3, 4)},
    ),
    "stack": Case(
        [
            node("Unsqueeze", ["x", "a"], ["t"]),
            node("Unsqueeze", ["z", "a"], ["u"]),
            node("Concat", ["t", "u"], ["y"], axis=1),
        ],
        {"a": ints(1)},
        shape=(3, 7),
        more_inputs={"z": (3, 7)},
    ),
    "Split": Case(
        [node("Split", ["x"], ["a", "b"], axis=1), node("Sub", ["a", "b"], ["y"])],
        ops=["Split", "Eltwise"],
    ),
    "Split of rows": Case(
        [node("Split", ["x"], ["a", "b"], axis=3), node("Sub", ["a", "b"], ["y"])],
    ),
    "Split unequally": Case(
        [
            node("Split", ["x", "s"], ["a", "b"], axis=1),
            node("Concat", ["b", "a"], ["y"], axis=1),
        ],
        {"s": ints(3, 5)},
    ),
    "Split old": Case(
        [
            node("Split", ["x"], ["a", "b"], axis=1, split=[6, 2]),
            node("Relu", ["b"], ["y"]),
        ],
        opset=11,
    ),
    "Slice": one(
        "Slice",
        "s",
        "e",
        "a",
        "t",
        weights={"s": ints(1, 0), "e": ints(-1, 99), "a": ints(1, 3), "t": ints(1, 2)},
    ),
    "Slice backwards": one(
        "Slice",
        "s",
        "e",
        "a",
        "t",
        weights={"s": ints(-1, 4), "e": ints(-99, 0), "a": ints(1, 2), "t": ints(-2, -1)},
    ),
    "Slice old": one("Slice", starts=[2], ends=[5], axes=[2], opset=9),
    "halves": Case(
        [
            node("Slice", ["x", "zero", "four", "axis"], ["a"]),
            node("Slice", ["x", "four", "end", "axis"], ["b"]),
            node("Concat", ["b", "a"], ["y"], axis=1),
        ],
        {"zero": ints(0), "four": ints(4), "end": ints(2**62), "axis": ints(1)},
        ops=["Split", "Concat"],
    ),
    "Gather one": one("Gather", "i", weights={"i": np.array(3)}, axis=1),
    "Gather": one("Gather", "i", weights={"i": ints(3, 0, -1)}, axis=1),
    "Gather in order": one("Gather", "i", weights={"i": ints(3, 4)}, axis=3),
    "Pad": one("Pad", "p", "v", weights={"p": ints(0, 0, 1, 2, 0, 0, 0, 3), "v": np.float32(1.5)}),
    "Pad reflect": one("Pad", "p", weights={"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}, mode="reflect"),
    "Pad edge": one("Pad", "p", weights={"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}, mode="edge"),
    "Pad channels": one("Pad", "p", weights={"p": ints(0, 1, 0, 0, 0, 2, 0, 0)}, gpu=False),
    "Pad old": one("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5, opset=7),
    "Pad axes in another order": one(
        "Pad", "p", "", "a", weights={"p": ints(1, 0, 0, 1), "a": ints(3, -2)}, opset=18
    ),
    "Pad axes": one("Pad", "p", "", "a", weights={"p": ints(1, 2), "a": ints(3)}, opset=18),
    "Tile": one("Tile", "r", weights={"r": ints(1, 2, 1, 3)}),
    "Expand": one("Expand", "s", weights={"s": ints(2, 8, 5, 6)}, shape=(1, 8, 1, 1)),
    "Expand to a higher rank": one("Expand", "s", weights={"s": ints(2, 3, 7)}, shape=(3, 1)),
    "DepthToSpace": one("DepthToSpace", blocksize=2),
    "DepthToSpace CRD": one("DepthToSpace", blocksize=2, mode="CRD"),
    "SpaceToDepth": one("SpaceToDepth", blocksize=2, shape=(2, 3, 4, 6)),
    "Identity": one("Identity"),
    "Dropout": one("Dropout"),
    "Cast": one("Cast", to=1),
}
RESIZES = {
    "nearest": one("Resize", "", "s", weights={"s": np.array([1, 1, 2, 2], np.float32)}),
    "nearest asymmetric": one(
        "Resize",
        "",
        "s",
        weights={"s": np.array([1, 1, 2, 3], np.float32)},
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "nearest down": one(
        "Resize",
        "",
        "",
        "z",
        weights={"z": ints(2, 8, 3, 3)},
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "cubic": one(
        "Resize",
        "",
        "s",
        weights={"s": np.array([1, 1, 2, 4], np.float32)},
        mode="cubic",
        coordinate_transformation_mode="pytorch_half_pixel",
        ops=["ResizeBicubic"],
    ),
    "cubic of half pixels, inside": one(
        "Resize",
        "",
        "s",
        weights={"s": np.array([1, 1, 2, 2], np.float32)},
        mode="cubic",
        cubic_coeff_a=-0.5,
        exclude_outside=1,
    ),
    "Upsample": one("Upsample", "s", weights={"s": np.array([1, 1, 2, 2], np.float32)}, opset=9),
    "Upsample linear": one(
        "Upsample", "s", weights={"s": np.array([1, 1, 2, 2], np.float32)}, opset=9, mode="linear"
    ),
    "Upsample oldest": one("Upsample", scales=[1.0, 1.0, 2.0, 2.0], opset=7),
    "Resize 10": one("Resize", "s", weights={"s": np.array([1, 1, 2, 2], np.float32)}, opset=10),
    "Resize to nothing new": one("Resize", "", "", "z", weights={"z": ints(2, 8, 5, 6)}),
    "Resize with axes": one(
        "Resize", "", "", "z", weights={"z": ints(10, 12)}, axes=[2, 3], opset=18, mode="linear"
    ),
}
for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
    for height, width in ((10, 12), (7, 9), (3, 4)):
        RESIZES[f"linear {coordinates} {height}"] = one(
            "Resize",
            "",
            "",
            "z",
            weights={"z": ints(2, 8, height, width)},
            mode="linear",
            coordinate_transformation_mode=coordinates,
        )

CASES = {
    **UNARY,
    **ARITHMETIC,
    **WEIGHTED,
    **PRODUCTS,
    **POOLS,
    **REDUCTIONS,
    **SHAPES,
    **RESIZES,
}


def check(case: Case, runtime: str, folder: Path) -> MultiNetDef:
    """Convert ``case`` and compare the result with onnxruntime's."""
    shapes = {"x": case.shape, **case.more_inputs}
    path = folder / "m.onnx"
    save_model(path, case.nodes, shapes, {"y": ()}, case.weights, opset=case.opset)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(5)
    inputs = {
        name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()
    }
    if case.positive:
        inputs = {name: np.abs(value) + np.float32(0.1) for name, value in inputs.items()}
    (expected,) = session.run(["y"], inputs)
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, expected.shape)
    model.graph.output[0].CopyFrom(output)
    path.write_bytes(model.SerializeToString())
    config = declare(path, shapes, {"y": expected.shape}, runtime=runtime)
    converted = convert_model(config)
    graph = parse_model(converted.graph)
    found = run_model(graph, converted.data, {name: nhwc(value) for name, value in inputs.items()})[
        "y"
    ]
    if expected.ndim == 4:
        expected = nhwc(expected)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    return graph


def on_gpu(case: Case) -> bool:
    """Whether MACE's GPU runtime takes it: what it asks for, and inputs of four or two axes."""
    return case.gpu and all(
        len(shape) in {2, 4} for shape in (case.shape, *case.more_inputs.values())
    )


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        (name, runtime)
        for name, case in CASES.items()
        for runtime in ("cpu", "gpu")
        if runtime == "cpu" or on_gpu(case)
    ],
)
def test_an_op_is_what_onnxruntime_makes_of_it(name: str, runtime: str, tmp_path: Path) -> None:
    case = CASES[name]
    graph = check(case, runtime, tmp_path)
    if case.ops is not None:
        assert op_types(graph) == case.ops


def test_every_op_of_the_table_has_a_case() -> None:
    tried = {proto.op_type for case in CASES.values() for proto in case.nodes}
    elsewhere = {"ArgMax", "ArgMin", "Constant", "ConstantOfShape", "Range", "Shape", "Size"}
    assert set(SUPPORTED) - tried - elsewhere - {"ChannelShuffle"} == set()
