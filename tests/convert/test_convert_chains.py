"""Random chains of ops that move axes about: wherever a tensor ends up, it is read rightly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mace_interpreter import run_model
from onnx import helper
from onnx_models import declare, nhwc, save_model

from droidmace.convert import convert_model
from droidmace.formats.netdef import parse_model

node = helper.make_node
Shape = tuple[int, ...]
KINDS = (
    *("reshape", "transpose", "unsqueeze", "squeeze", "softmax", "reduce"),
    *("add", "concat", "slice", "same", "channels", "matmul"),
)


class Chain:
    """A graph that grows at its end."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.name, self.shape = "x", shape

    def add(self, op: str, shape: Shape, *more: str, **attributes: object) -> None:
        output = f"t{len(self.nodes)}"
        made = node(op, [self.name, *more], [output], name=f"n{len(self.nodes)}", **attributes)
        self.nodes.append(made)
        self.name, self.shape = output, shape

    def constant(self, values: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = values
        return name


def factors(draw: st.DrawFn, total: int, count: int) -> Shape:
    """``count`` sizes whose product is ``total``."""
    sizes = []
    for _ in range(count - 1):
        size = draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0]))
        sizes.append(size)
        total //= size
    return (*sizes, total)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    rank = draw(st.sampled_from([2, 4, 4]))
    chain = Chain(draw(st.tuples(*[st.integers(1, 4)] * rank)))
    first = chain.shape
    for _ in range(draw(st.integers(1, 6))):
        shape = chain.shape
        rank = len(shape)
        axis = draw(st.integers(0, rank - 1))
        match draw(st.sampled_from(KINDS)):
            case "reshape":
                target = factors(draw, math.prod(shape), draw(st.integers(1, 4)))
                chain.add("Reshape", target, chain.constant(np.array(target)))
            case "transpose":
                perm = draw(st.permutations(range(rank)))
                chain.add("Transpose", tuple(shape[i] for i in perm), perm=perm)
            case "unsqueeze" if rank < 4:
                chain.add(
                    "Unsqueeze",
                    (*shape[:axis], 1, *shape[axis:]),
                    chain.constant(np.array([axis])),
                )
            case "squeeze" if shape[axis] == 1 and rank > 1:
                rest = (*shape[:axis], *shape[axis + 1 :])
                chain.add("Squeeze", rest, chain.constant(np.array([axis])))
            case "softmax":
                chain.add("Softmax", shape, axis=axis)
            case "reduce" if rank > 1:
                rest = (*shape[:axis], *shape[axis + 1 :])
                chain.add("ReduceMax", rest, axes=[axis], keepdims=0)
            case "add":
                sizes = [draw(st.sampled_from([1, size])) for size in shape]
                sizes = sizes[draw(st.integers(0, rank - 1)) :]
                values = np.random.default_rng(2).standard_normal(sizes).astype(np.float32)
                chain.add("Add", shape, chain.constant(values))
            case "concat" if math.prod(shape) < 200:
                both = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
                before = chain.name
                chain.add("Sigmoid", shape)
                chain.add("Concat", both, before, axis=axis)
            case "slice" if shape[axis] > 1:
                less = (*shape[:axis], shape[axis] - 1, *shape[axis + 1 :])
                bounds = [chain.constant(np.array([number])) for number in (1, 2**31, axis)]
                chain.add("Slice", less, *bounds)
            case "channels" if rank == 4:
                chain.add("GlobalAveragePool", (*shape[:2], 1, 1))
            case "matmul" if rank > 1:
                values = np.random.default_rng(3).standard_normal((shape[-1], 3))
                weights = chain.constant(values.astype(np.float32))
                chain.add("MatMul", (*shape[:-1], 3), weights)
            case _:
                chain.add("Abs", shape)
    chain.add("Relu", chain.shape)
    chain.first = first  # type: ignore[attr-defined]
    return chain


@pytest.mark.parametrize("runtime", ["cpu", "gpu"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chain=chains())
def test_any_chain(chain: Chain, runtime: str, tmp_path: Path) -> None:
    first: Shape = chain.first  # type: ignore[attr-defined]
    path = save_model(
        tmp_path / "m.onnx",
        chain.nodes,
        {"x": first},
        {chain.name: chain.shape},
        chain.constants,
        opset=13,
    )
    x = np.random.default_rng(1).standard_normal(first, dtype=np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    config = declare(path, {"x": first}, {chain.name: chain.shape}, runtime=runtime)
    converted = convert_model(config)
    found = run_model(parse_model(converted.graph), converted.data, {"x": nhwc(x)})[chain.name]
    wanted = nhwc(expected)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)
