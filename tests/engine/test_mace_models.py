"""Models as MACE's converters write them: ONNX's own, TensorFlow's and Caffe's by hand."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from cpu_harness import AUTO, NCHW, NHWC, ArgumentValue, Values, argument, close, noise, to_nchw
from engine_harness import SAMPLES, LogReader
from engine_models import make_gpu

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.model import Model, load_model
from droidmace.formats.netdef import InputOutputInfo, NetDef, OperatorDef, parse_model

CONVERTED = SAMPLES / "converted"
TENSORFLOW, CAFFE = 0, 1


def _converted(name: str) -> Model:
    graph = parse_model((CONVERTED / f"{name}.pb").read_bytes())
    return load_model(graph, (CONVERTED / f"{name}.data").read_bytes())


@pytest.mark.parametrize(
    ("name", "tolerance"), [("cnn", 1e-6), ("blocks", 2e-6), ("attention", 5e-3)]
)
def test_model_made_by_maces_converter(name: str, tolerance: float, log_reader: LogReader) -> None:
    """Agrees with onnxruntime on the ONNX file it was made from; ``attention`` has half weights."""
    session = onnxruntime.InferenceSession(
        CONVERTED / f"{name}.onnx", providers=["CPUExecutionProvider"]
    )
    x = noise(5, *session.get_inputs()[0].shape)
    (expected,) = session.run(None, {"x": x})
    (y,) = CpuNet(_converted(name), log_reader.log).run({"x": x.transpose(0, 2, 3, 1)}).values()
    close(to_nchw(y) if expected.ndim == 4 else y, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["blocks", "attention"])
def test_the_gpu_agrees(
    name: str, opencl_devices: dict[str, object], log_reader: LogReader
) -> None:
    """Ops that the GPU has not fall back to the CPU. One driver: the kernels by themselves are
    held against numpy on both."""
    made = _converted(name)
    x = noise(6, *made.net.input_infos[0].dims)
    (on_gpu,) = (
        GpuNet(made, make_gpu(opencl_devices["intel"], log_reader.log)).run({"x": x}).values()
    )
    (on_cpu,) = CpuNet(made, log_reader.log).run({"x": x}).values()
    close(on_gpu, on_cpu, atol=1e-5 if name != "attention" else 2e-2)


def _op(
    kind: str, inputs: list[str], output: str, framework: int, **arguments: ArgumentValue
) -> OperatorDef:
    given = {"T": 1, "framework_type": framework, "data_format": AUTO, **arguments}
    return OperatorDef(
        inputs=tuple(inputs),
        outputs=(output,),
        name=output,
        type=kind,
        args=tuple(argument(name, value) for name, value in given.items()),
    )


def _run(
    ops: list[OperatorDef], x: Values, constants: dict[str, Values], log_reader: LogReader
) -> Values:
    net = NetDef(
        ops=tuple(ops),
        input_infos=(InputOutputInfo(name="x", dims=x.shape),),
        output_infos=(InputOutputInfo(name=ops[-1].outputs[0]),),
    )
    return CpuNet(Model(net, constants), log_reader.log).run({"x": x})[ops[-1].outputs[0]]


def test_tensorflow_flattens_in_nhwc_order(log_reader: LogReader) -> None:
    """Padding by name, and a Reshape that the converter leaves in TensorFlow's order."""
    x, w, b = noise(1, 1, 5, 6, 3), noise(2, 4, 3, 3, 3), noise(3, 4)
    dense = noise(4, 3 * 3 * 4, 2)
    ops = [
        _op("Conv2D", ["x", "w"], "c", TENSORFLOW, strides=(2, 2), padding=1, dilations=(1, 1)),
        _op("BiasAdd", ["c", "b"], "d", TENSORFLOW, has_data_format=1),
        _op("Reshape", ["d", "shape"], "f", TENSORFLOW, data_format=NHWC),
        _op("MatMul", ["f", "dense"], "y", TENSORFLOW, data_format=NHWC),
    ]
    shape = np.array([-1, 36], np.int32)
    y = _run(ops, x, {"w": w, "b": b, "shape": shape, "dense": dense}, log_reader)
    image = _run(ops[:2], x, {"w": w, "b": b}, log_reader)
    assert image.shape == (1, 3, 3, 4)
    close(y, image.reshape(1, -1) @ dense)


def test_caffe_rounds_up_and_cuts_what_it_is_told(log_reader: LogReader) -> None:
    """Pooling without a round mode, an upsampling by Deconv2D, weighted sums, Crop."""
    x = noise(1, 1, 5, 5, 2)
    twice = np.zeros((2, 2, 2, 2), np.float32)
    twice[[0, 1], [0, 1]] = 1
    ops = [
        _op(
            "Pooling",
            ["x"],
            "p",
            CAFFE,
            kernels=(2, 2),
            strides=(2, 2),
            padding_values=(0, 0),
            pooling_type=2,
        ),
        _op("Deconv2D", ["p", "twice"], "u", CAFFE, strides=(2, 2), padding_values=(0, 0)),
        _op("Crop", ["u", "x"], "k", CAFFE, offset=(-1, 0, 0, -1), has_data_format=1),
        _op("Eltwise", ["k", "x"], "y", CAFFE, type=0, coeff=(1.0, -0.5), has_data_format=1),
    ]
    y = _run(ops, x, {"twice": twice}, log_reader)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    largest = padded.reshape(1, 3, 2, 3, 2, 2).max(axis=(2, 4))
    close(y, largest.repeat(2, 1).repeat(2, 2)[:, :5, :5] - x / 2)


def test_ops_that_mace_leaves_in_onnx_order(log_reader: LogReader) -> None:
    """Between ops that know images: axes as in ONNX, and values that go on as an image."""
    x = noise(1, 1, 2, 3, 4)
    ops = [
        _op("Activation", ["x"], "a", 2, activation="RELU", has_data_format=1),
        _op("Slice", ["a"], "s", 2, data_format=NCHW, axes=(1,), starts=(0,), ends=(2,)),
        _op("ArgMax", ["s"], "m", 2, data_format=NCHW, axis=1, keepdims=1),
        _op("Cast", ["m"], "f", 2, data_format=NCHW),
        _op("Concat", ["s", "f"], "c", 2, data_format=NCHW, axis=1),
        _op("ChannelShuffle", ["c"], "y", 2, group=3, has_data_format=1),
    ]
    y = _run(ops, x, {}, log_reader)
    first = np.maximum(x, 0)[..., :2]
    # of equal values MACE takes the last
    largest = 1 - np.argmax(first[..., ::-1], axis=3).astype(np.float32)
    close(y, np.concatenate([first, largest[..., None]], axis=3))
