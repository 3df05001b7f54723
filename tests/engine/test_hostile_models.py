"""Models that contradict themselves: one error that names the op, on either runtime."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from engine_harness import AbortedError, LogReader
from engine_models import make_gpu, model, op

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.model import Model, load_model
from droidmace.engine.net import Net
from droidmace.errors import EngineError
from droidmace.formats.netdef import ConstTensor, MultiNetDef, OperatorDef

_X = np.zeros((1, 4, 4, 4), np.float32)
_CONSTANTS = {
    "w": np.ones((4, 4, 1, 1), np.float32),
    "whole": np.ones((4, 4, 1, 1), np.int32),
    "table": np.ones((2, 2), np.int32),
    "reals": np.ones(4, np.float32),
}


def _model(*ops: OperatorDef, outputs: tuple[str, ...] = ("y",)) -> Model:
    return model(ops, {"x": _X.shape}, outputs, _CONSTANTS)


def _nothing_made(operator: OperatorDef) -> OperatorDef:
    return dataclasses.replace(operator, outputs=())


_GRAPHS = [
    (_model(op("Identity", ["x"], "x"), outputs=("x",)), "'x_op'.* 'x' is there already"),
    (
        _model(op("Identity", ["x"], "y"), op("Softmax", ["y"], "y")),
        "'y_op' .Softmax.*'y' is there already",
    ),
    (_model(op("Softmax", ["x"], "w")), "'w' is there already"),
    (
        _model(op("Softmax", ["b"], "a"), op("Softmax", ["a"], "b"), outputs=("b",)),
        "'a_op'.*nothing makes its input 'b'",
    ),
    (_model(_nothing_made(op("Softmax", ["x"], "y"))), "'y_op'.*has no output"),
    (_model(op("Softmax", ["x"], "z")), "can not find output in model: y"),
]


@pytest.mark.parametrize(("made", "words"), _GRAPHS)
def test_graphs_that_are_none(made: Model, words: str, log_reader: LogReader) -> None:
    """Refused before anything is done, so that a loop in them cannot hang a run."""
    with pytest.raises(EngineError, match=words):
        CpuNet(made, log_reader.log)
    with pytest.raises(EngineError, match=words):
        GpuNet(made, gpu=None)  # type: ignore[arg-type]


def _run(net: Net) -> None:
    net.run({"x": _X})


_OPS = [
    (op("LSTMCell", ["reals"], "y"), "no such op"),
    (op("BiasAdd", ["x"], "y"), "1 inputs are too few"),
    (op("Conv2D", ["x", "whole"], "y"), "'whole' is of int32"),
    (op("Conv2D", ["x", "w"], "y", strides=(1 << 31, 1)), r"'y_op'.*strides \[2147483648, 1\]"),
    (op("Conv2D", ["x", "w"], "y", dilations=(1 << 40, 1)), r"'y_op'.*dilations"),
    (op("Conv2D", ["x", "w"], "y", padding_values=(1 << 31, 0)), r"'y_op'.*padding_values"),
    (op("Conv2D", ["x", "w"], "y", padding_values=(1,)), r"'y_op'.*padding_values \[1\]"),
    (op("Conv2D", ["x", "w"], "y", padding=7), r"'y_op'.*padding 7"),
    (op("Pooling", ["x"], "y", kernels=(1 << 31, 1)), r"'y_op'.*kernels"),
    (op("Reshape", ["x", "table"], "y"), r"'y_op'.*shape of int32 in \[2, 2\]"),
    (op("Reshape", ["x", "reals"], "y"), r"'y_op'.*shape of float32"),
]


@pytest.mark.parametrize(("layer", "words"), _OPS)
def test_ops_that_no_kernel_takes(
    layer: Any, words: str, opencl_devices: dict[str, object], log_reader: LogReader
) -> None:
    gpu = make_gpu(opencl_devices["intel"], log_reader.log)
    with pytest.raises(EngineError, match=words):
        GpuNet(_model(layer), gpu)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        *_OPS[3:8],
        *_OPS[9:],
        (op("Conv2D", ["x", "w"], "y", padding_values=(1 << 20, 1 << 20)), "too large"),
        (op("Pad", ["x"], "y", paddings=(0, 0, 1 << 20, 0, 1 << 20, 0, 0, 0)), "too large"),
        (op("Pad", ["x"], "y", paddings=(0, 0, 1)), "paddings"),
        (op("Reduce", ["x"], "y", axis=(1,), reduce_type=9), "y_op"),
    ],
)
def test_ops_that_the_cpu_refuses(layer: Any, words: str, log_reader: LogReader) -> None:
    """A failed check in the run, as in MACE."""
    net = CpuNet(_model(layer), log_reader.log)
    with pytest.raises(AbortedError):
        _run(net)
    (line,) = [line for line in log_reader.text.splitlines() if line.startswith("F ")]
    assert "y_op" in line
    assert words.rpartition("*")[2].replace("\\", "") in line


@pytest.mark.parametrize("dims", [(4,), (-1, -3), (0,), ()])
def test_constants_inside_the_graph_have_their_size(dims: tuple[int, ...]) -> None:
    tensor = ConstTensor(name="k", dims=dims, float_data=(1.0, 2.0, 3.0))
    net = dataclasses.replace(_model().net, tensors=(tensor,))
    with pytest.raises(EngineError, match="constant 'k' has 3 values for the shape"):
        load_model(MultiNetDef(nets=(net,)), b"")


def test_scratch_images_are_not_the_models(
    opencl_devices: dict[str, object], log_reader: LogReader
) -> None:
    """Whatever the model calls its tensors, an op's own images are others."""
    names = ["0:0", "00:0", "y:scratch0", "1:0"]
    reduce = op("Reduce", ["x"], "0", axis=(1, 2), keepdims=1)
    copies = [op("Identity", ["0"], name) for name in names]
    made = model([reduce, *copies], {"x": (1, 37, 5, 4)}, ["0", *names])
    x = np.random.default_rng(2).standard_normal((1, 37, 5, 4), dtype=np.float32)
    outputs = GpuNet(made, make_gpu(opencl_devices["intel"], log_reader.log)).run({"x": x})
    for value in outputs.values():
        np.testing.assert_allclose(value, x.mean(axis=(1, 2), keepdims=True), atol=1e-5)
