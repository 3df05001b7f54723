"""Names that the converter makes up never meet one that the model has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, helper
from onnx_models import compare_with_onnxruntime, declare, save_model

from droidmace.formats.netdef import MultiNetDef

node = helper.make_node
X = {"x": (1, 4, 6, 6)}
Y = {"y": (1, 4, 6, 6)}


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


NORM = {name: weights(4) for name in ("gamma", "beta", "mean")} | {"var": np.full(4, 0.5, "f4")}


def norm(source: str, target: str) -> NodeProto:
    constants = ["gamma", "beta", "mean", "var"]
    return node("BatchNormalization", [source, *constants], [target], name="bn")


CASES = {
    "a new bias and a bias of the model": (
        [
            node("Conv", ["x", "w"], ["a"], name="c1"),
            norm("a", "b"),
            node("Conv", ["b", "v", "bnoffset"], ["y"], name="c2"),
        ],
        {"w": weights(4, 4, 1, 1), "v": -weights(4, 4, 1, 1), "bnoffset": weights(4), **NORM},
    ),
    "a new bias and a tensor": (
        [
            node("Conv", ["x", "w"], ["a"], name="c1"),
            norm("a", "b"),
            node("Relu", ["b"], ["bnoffset"]),
            node("Conv", ["bnoffset", "v"], ["y"], name="c2"),
        ],
        {"w": weights(4, 4, 1, 1), "v": -weights(4, 4, 1, 1), **NORM},
    ),
    "folded weights and weights of the model": (
        [
            node("Conv", ["x", "w"], ["a"], name="c1"),
            norm("a", "b"),
            node("Conv", ["b", "w"], ["c"], name="c2"),
            node("Conv", ["c", "bn_w"], ["y"], name="c3"),
        ],
        {"w": weights(4, 4, 1, 1), "bn_w": -weights(4, 4, 1, 1), **NORM},
    ),
    "weights laid out twice and weights of the model": (
        [
            node("Conv", ["x", "first"], ["a"], name="c0", group=4),
            node("GlobalAveragePool", ["a"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "g2_w"], ["g"], name="g0"),
            node("Gemm", ["g", "w"], ["h"], name="g1"),
            node("Gemm", ["h", "w"], ["i"], name="g2", transB=1),
            node("Reshape", ["i", "shape"], ["r"]),
            node("Relu", ["r"], ["y"]),
        ],
        {
            "first": weights(4, 1, 1, 1),
            "w": weights(4, 4),
            "g2_w": -weights(4, 4),
            "shape": np.array([1, 4, 1, 1]),
        },
    ),
    "a padded tensor and a tensor of the model": (
        [
            node("Conv", ["x", "w"], ["a_padded"], name="first"),
            node("Conv", ["a_padded", "v"], ["b"], name="a", pads=[2, 2, 0, 0]),
            node("Add", ["b", "a_padded"], ["y"]),
        ],
        {"w": weights(4, 4, 1, 1), "v": weights(4, 4, 3, 3)},
    ),
    "a node's outputs and a node's name": (
        [
            node("Conv", ["x", "w"], ["b"], name="a"),
            node("Relu", ["b"], ["a"]),
            node("Conv", ["a", "w"], ["y"], name="c"),
        ],
        {"w": weights(4, 4, 1, 1)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_made_up_names_are_new(case: str, tmp_path: Path) -> None:
    chain, constants = CASES[case]
    outputs = {"y": (1, 4, 1, 1)} if "shape" in constants else Y
    path = save_model(tmp_path / "m.onnx", chain, X, outputs, constants)
    model = compare_with_onnxruntime(declare(path, X, outputs))
    _check_one_meaning_per_name(model)


def _check_one_meaning_per_name(model: MultiNetDef) -> None:
    (net,) = model.nets
    tensors = [*(info.name for info in net.input_infos), *(op.outputs[0] for op in net.ops)]
    tensors += [tensor.name for tensor in net.tensors]
    assert len(set(tensors)) == len(tensors)
    names = [op.name for op in net.ops]
    assert len(set(names)) == len(names)
