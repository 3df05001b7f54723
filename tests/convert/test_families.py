"""The nets that people ship, with seeded weights: converted, they are what onnxruntime has."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import onnxruntime
import pytest
from mace_interpreter import run_model
from onnx_models import declare, nhwc

from droidmace.convert import convert_model
from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.model import load_model
from droidmace.formats.netdef import MultiNetDef, parse_model

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples/nets"))
import nets  # noqa: E402 - an example, not a package

SIZES = {"inception": 96, "unet": 32}
SMALL = 64
WHOLLY_ON_GPU = {
    "Activation",
    "BatchNorm",
    "Concat",
    "Conv2D",
    "Deconv2D",
    "DepthwiseConv2d",
    "Eltwise",
    "FullyConnected",
    "Pad",
    "Pooling",
    "Reduce",
    "ResizeBilinear",
    "ResizeNearestNeighbor",
    "Softmax",
}
"""What MACE's GPU runtime has kernels for, of what these nets need."""


@dataclass(frozen=True)
class Net:
    """An exported net, two inputs, and what onnxruntime makes of them."""

    path: Path
    inputs: dict[str, tuple[int, ...]]
    samples: list[dict[str, np.ndarray]]
    expected: list[dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nets")


@functools.cache
def made(name: str, folder: Path) -> Net:
    try:
        model = nets.load_net(name, image_size=SIZES.get(name.partition("_")[0], SMALL))
    except ValueError:  # a pool of a fixed size
        model = nets.load_net(name)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {
        value.name: tuple(size if isinstance(size, int) else 1 for size in value.shape)
        for value in session.get_inputs()
    }
    random = np.random.default_rng(3)
    samples = [
        {key: random.standard_normal(shape, dtype=np.float32) for key, shape in inputs.items()}
        for _ in range(2)
    ]
    names = [value.name for value in session.get_outputs()]
    expected = [dict(zip(names, session.run(names, sample), strict=True)) for sample in samples]
    return Net(path, inputs, samples, expected)


def converted(net: Net, runtime: str) -> tuple[MultiNetDef, bytes]:
    outputs = {name: value.shape for name, value in net.expected[0].items()}
    result = convert_model(declare(net.path, net.inputs, outputs, runtime=runtime))
    return parse_model(result.graph), result.data


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Within what the project promises: cosine, largest error, and the first of all classes."""
    for name, value in expected.items():
        wanted = nhwc(value).astype(np.float64).reshape(-1)
        got = found[name].astype(np.float64).reshape(-1)
        cosine = got @ wanted / (np.linalg.norm(got) * np.linalg.norm(wanted))
        assert cosine >= 0.9999, name
        assert np.abs(got - wanted).max() <= 1e-3 * np.abs(wanted).max(), name
        assert got.argmax() == wanted.argmax(), name


@pytest.mark.parametrize("name", nets.NAMES)
def test_a_net_for_the_gpu(name: str, folder: Path) -> None:
    """By the slow reading of MACE's rules, which also knows what MACE's GPU cannot do."""
    net = made(name, folder)
    graph, weights = converted(net, "gpu")
    for sample, expected in zip(net.samples[:1], net.expected, strict=False):
        inputs = {key: nhwc(value) for key, value in sample.items()}
        check(run_model(graph, weights, inputs), expected)
    others = {op.type for op in graph.nets[0].ops} - WHOLLY_ON_GPU
    assert others <= ({"ChannelShuffle", "Split", "Slice"} if "shufflenet" in name else set())


@pytest.mark.parametrize("name", [name for name in nets.NAMES if "_dynamo" not in name])
def test_a_net_for_the_cpu(name: str, folder: Path) -> None:
    """By the engine."""
    net = made(name, folder)
    graph, weights = converted(net, "cpu")

    def abort() -> NoReturn:
        raise AssertionError("the engine aborted")

    with Path(os.devnull).open("wb") as nowhere:
        log = MaceLog(StdioStream(nowhere.fileno()), verbosity=0, abort=abort)
        engine = CpuNet(load_model(graph, weights), log)
        for sample, expected in zip(net.samples, net.expected, strict=True):
            inputs = {key: np.ascontiguousarray(nhwc(value)) for key, value in sample.items()}
            check(engine.run(inputs), expected)
