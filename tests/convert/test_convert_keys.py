"""What each key of a deployment file changes in the converted model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from mace_interpreter import run_model
from onnx import helper
from onnx_models import compare_with_onnxruntime, declare, nhwc, save_model

from droidmace.config import ModelConfig, TensorSpec
from droidmace.convert import convert_model
from droidmace.convert.obfuscate import obfuscate
from droidmace.errors import ModelError
from droidmace.formats.netdef import (
    ConstTensor,
    DataFormat,
    DataType,
    DeviceType,
    InputOutputInfo,
    MemoryType,
    NetDef,
    OperatorDef,
    parse_model,
)

SHAPE = (1, 4, 6, 5)


@pytest.fixture
def branches(tmp_path: Path) -> Path:
    """Two inputs, two outputs: ``s = conv(a) + b`` and ``t = relu(s)``."""
    random = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["a", "w", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["s"], name="sum"),
        helper.make_node("Relu", ["s"], ["t"], name="relu"),
    ]
    weights = {
        "w": random.standard_normal((4, 4, 3, 3), dtype=np.float32),
        "k": random.standard_normal(4, dtype=np.float32),
    }
    shapes = {"a": SHAPE, "b": SHAPE}, {"s": SHAPE, "t": SHAPE}
    return save_model(tmp_path / "m.onnx", nodes, *shapes, weights)


def declared(path: Path, **changes: object) -> ModelConfig:
    config = declare(path, {"a": SHAPE, "b": SHAPE}, {"s": SHAPE, "t": SHAPE})
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def net_of(config: ModelConfig) -> NetDef:
    (net,) = parse_model(convert_model(config).graph).nets
    return net


@pytest.mark.parametrize(
    ("key", "value", "argument", "number"),
    [
        ("runtime", "cpu", "runtime_type", DeviceType.CPU),
        ("runtime", "gpu", "runtime_type", DeviceType.GPU),
        ("runtime", "cpu+gpu", "runtime_type", DeviceType.GPU),
        ("cl_mem_type", "image", "opencl_mem_type", MemoryType.GPU_IMAGE),
        ("cl_mem_type", "buffer", "opencl_mem_type", MemoryType.GPU_BUFFER),
    ],
)
def test_keys_that_become_arguments_of_the_net(
    branches: Path, key: str, value: str, argument: str, number: int
) -> None:
    net = net_of(declared(branches, **{key: value}))
    assert net.int_arg(argument, -1) == number


@pytest.mark.parametrize(
    ("data_type", "kind", "size"),
    [("fp32_fp32", DataType.DT_FLOAT, 4), ("fp16_fp32", DataType.DT_HALF, 2)],
)
def test_data_type(branches: Path, data_type: str, kind: DataType, size: int) -> None:
    converted = convert_model(declared(branches, data_type=data_type))
    (net,) = parse_model(converted.graph).nets
    assert net.data_type is kind
    assert {op.int_arg("T") for op in net.ops} == {kind}
    assert {tensor.data_type for tensor in net.tensors} == {kind}
    assert len(converted.data) == size * (4 * 4 * 3 * 3 + 4)


@pytest.mark.parametrize("winograd", [0, 2, 4])
def test_winograd_is_recorded_in_convolutions(branches: Path, winograd: int) -> None:
    net = net_of(declared(branches, winograd=winograd))
    found = {op.type: op.int_arg("wino_block_size", 0) for op in net.ops}
    assert found.pop("Conv2D") == winograd
    assert set(found.values()) == {0}


def test_what_a_run_is_told_is_not_in_the_model(branches: Path) -> None:
    """As in MACE, where they are environment variables of mace_run."""
    plain = convert_model(declared(branches))
    limited = declared(branches, limit_opencl_kernel_time=True, opencl_queue_window_size=16)
    assert convert_model(limited) == plain


def test_names_of_the_net_and_its_borders(branches: Path) -> None:
    config = declared(
        branches,
        graph_name="first",
        inputs=(
            TensorSpec("a", SHAPE, data_format="NCHW", alias="picture"),
            TensorSpec("b", (1, 6, 5, 4)),
        ),
    )
    net = net_of(config)
    assert net.name == "first"
    assert [(info.name, info.alias) for info in net.input_infos] == [("a", "picture"), ("b", "b")]
    # Declared as NCHW or as NHWC, an image stands as NHWC in the graph.
    assert {info.dims for info in net.input_infos} == {(1, 6, 5, 4)}
    assert {info.data_format for info in net.input_infos} == {DataFormat.NHWC}


def test_several_inputs_and_outputs_are_right(branches: Path) -> None:
    compare_with_onnxruntime(declared(branches))


# --- obfuscation --------------------------------------------------------------------------------


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def all_names(net: NetDef) -> set[str]:
    names: set[str] = {tensor.name for tensor in net.tensors}
    for op in net.ops:
        names |= {op.name, *op.inputs, *op.outputs}
    return names


def test_obfuscated_names(branches: Path) -> None:
    plain, hidden = (net_of(declared(branches, obfuscate=switch)) for switch in (False, True))
    border = {"a", "b", "s", "t"}
    assert {info.name for info in (*hidden.input_infos, *hidden.output_infos)} == border
    assert all_names(hidden) & all_names(plain) == border
    # MACE's own manner: it tells by which kind a name is used.
    conv = hidden.ops[0]
    assert conv.name == md5("opconv")[:8]
    assert conv.inputs == ("a", md5("tensorw")[:8], md5("tensork")[:8])
    assert conv.outputs == (md5("outc")[:8],)
    assert hidden.ops[1].inputs == (md5("outc")[:8], "b")


def test_an_obfuscated_model_computes_the_same(branches: Path) -> None:
    random = np.random.default_rng(5)
    inputs = {name: nhwc(random.standard_normal(SHAPE, dtype=np.float32)) for name in "ab"}
    results = []
    for switch in (False, True):
        converted = convert_model(declared(branches, obfuscate=switch))
        results.append(run_model(parse_model(converted.graph), converted.data, inputs))
    plain, hidden = results
    assert plain.keys() == hidden.keys() == {"s", "t"}
    for name, value in plain.items():
        np.testing.assert_array_equal(hidden[name], value)


def tiny_net(tensors: Iterable[str], ops: Iterable[tuple[str, str, str, str]]) -> NetDef:
    """A net of ops (name, first input, second input, output) from ``x`` to ``y``."""
    return NetDef(
        tensors=tuple(ConstTensor(name=name) for name in tensors),
        ops=tuple(
            OperatorDef(name=name, inputs=(first, second), outputs=(output,))
            for name, first, second, output in ops
        ),
        input_infos=(InputOutputInfo(name="x"),),
        output_infos=(InputOutputInfo(name="y"),),
    )


def test_names_that_agree_in_the_first_digits_stay_apart() -> None:
    """An input that is called as a weight would be: MACE writes the whole digest then."""
    rival = md5("tensorw")[:8]
    net = tiny_net(["w"], [("one", rival, "w", "y")])
    net = NetDef(
        ops=net.ops,
        tensors=net.tensors,
        input_infos=(InputOutputInfo(name=rival),),
        output_infos=net.output_infos,
    )
    (op,) = obfuscate(net).ops
    assert op.inputs == (rival, md5("tensorw"))


def test_what_is_renamed_is_renamed_everywhere() -> None:
    net = tiny_net(
        ["w"], [("one", "x", "w", "m"), ("two", "m", "w", "n"), ("three", "m", "n", "y")]
    )
    hidden = obfuscate(net)
    one, two, three = hidden.ops
    (weights,) = hidden.tensors
    assert one.inputs == ("x", weights.name)
    assert two.inputs == (one.outputs[0], weights.name)
    assert three.inputs == (one.outputs[0], two.outputs[0])
    assert three.outputs == ("y",)
    assert len({op.name for op in hidden.ops}) == 3


# --- whole numbers at the border ------------------------------------------------------------------


def with_whole_input(path: Path, kind: int) -> Path:
    model = onnx.load(path)
    (value,) = [value for value in model.graph.input if value.name == "b"]
    value.type.tensor_type.elem_type = kind
    path.write_bytes(model.SerializeToString())
    return path


def test_an_input_declared_as_another_type(branches: Path) -> None:
    inputs = (
        TensorSpec("a", SHAPE, data_format="NCHW"),
        TensorSpec("b", SHAPE, data_format="NCHW", data_type="int32"),
    )
    with pytest.raises(ModelError, match="'b' is declared as int32, the model has float32") as got:
        convert_model(declared(branches, inputs=inputs))
    assert got.value.hint == "set input_data_types to float32"
    with pytest.raises(ModelError, match="'b' is declared as float32, the model has int32"):
        convert_model(declared(with_whole_input(branches, onnx.TensorProto.INT64)))


def test_computing_with_whole_numbers(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"], name="minus")]
    path = save_model(tmp_path / "m.onnx", nodes, {"x": (4,)}, {"y": (4,)})
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    path.write_bytes(model.SerializeToString())
    inputs = (TensorSpec("x", (4,), data_format="NONE", data_type="int32"),)
    config = dataclasses.replace(declare(path, {}, {"y": (4,)}), inputs=inputs)
    with pytest.raises(ModelError, match="Neg node 'minus': it computes with the whole numbers"):
        convert_model(config)


@pytest.mark.parametrize("kind", [onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16])
def test_inputs_of_other_types(branches: Path, kind: int) -> None:
    with pytest.raises(ModelError, match="input 'b' is neither float32 nor a whole number"):
        convert_model(declared(with_whole_input(branches, kind)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantized": True}, "a model of 8-bit numbers cannot be made"),
        ({"cl_mem_type": "texture"}, "for the memory type 'texture'"),
        ({"outputs": (TensorSpec("s", SHAPE, data_type="uint8"),)}, "'s' cannot be of uint8"),
        ({"outputs": (TensorSpec("s", SHAPE, data_format="OIHW"),)}, "'s' cannot have the format"),
    ],
)
def test_what_is_not_made(branches: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        convert_model(declared(branches, **changes))
    assert caught.value.where == str(branches)
    assert caught.value.hint


def test_what_a_phone_lacks_in_buffers_is_told(branches: Path) -> None:
    (warning,) = convert_model(declared(branches, cl_mem_type="buffer")).summary.warnings
    assert "no such kernels for Activation, Eltwise and stops there" in warning
    for changes in ({"cl_mem_type": "image"}, {"cl_mem_type": "buffer", "runtime": "cpu"}):
        assert convert_model(declared(branches, **changes)).summary.warnings == ()
