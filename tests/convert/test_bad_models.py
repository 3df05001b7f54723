"""Models that are damaged or made to harm: one error with a name in it, in little memory and time.

All of them are converted by one process whose memory is limited; what it says is looked up here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import declare

from droidmace.config import load_deployment
from droidmace.convert import ConvertedModel, convert_model
from droidmace.errors import ModelError

SAMPLES = Path(__file__).parents[1] / "samples"
DEADLINE_S = 60
X = (1, 4, 6, 6)
BIG = 2**31


def conv(**attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)


def relu(source: str, target: str, name: str = "relu") -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], name=name)


def weights(*shape: int, value: float = 1.0) -> np.ndarray:
    return np.full(shape, value, np.float32)


@dataclass
class Bad:
    """A model, how it is spoilt, and what must be said of it."""

    says: str
    nodes: list[onnx.NodeProto] = field(default_factory=lambda: [conv()])
    constants: dict[str, np.ndarray] = field(default_factory=lambda: {"w": weights(4, 4, 1, 1)})
    input_shape: tuple[int, ...] = X
    output_shape: tuple[int, ...] = X
    opset: int = 13
    spoil: Callable[[onnx.ModelProto, Path], None] = lambda model, folder: None
    cut: Callable[[bytes], bytes] = lambda content: content

    def write(self, folder: Path) -> Path:
        """Into a folder of its own."""
        folder.mkdir()
        graph = helper.make_graph(
            self.nodes,
            "bad",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, self.output_shape)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        self.spoil(model, folder)
        path = folder / "model.onnx"
        path.write_bytes(self.cut(model.SerializeToString()))
        return path


def the_weights(model: onnx.ModelProto) -> TensorProto:
    return model.graph.initializer[0]


def set_dims(*dims: int) -> Callable[[onnx.ModelProto, Path], None]:
    def spoil(model: onnx.ModelProto, folder: Path) -> None:
        the_weights(model).dims[:] = dims

    return spoil


def external(
    location: str | None, content: bytes | None = None, **entries: object
) -> Callable[[onnx.ModelProto, Path], None]:
    """Move the weights into a file beside the model; None leaves that file out."""

    def spoil(model: onnx.ModelProto, folder: Path) -> None:
        tensor = the_weights(model)
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            if value is not None:
                tensor.external_data.add(key=key, value=str(value))
        (folder / "w.bin").write_bytes(raw if content is None else content)
        (folder.parent / "outside.bin").write_bytes(raw)

    return spoil


def link_outside(model: onnx.ModelProto, folder: Path) -> None:
    external("link.bin")(model, folder)
    (folder / "link.bin").symlink_to(folder.parent / "outside.bin")


def pipe_as_weights(model: onnx.ModelProto, folder: Path) -> None:
    external("pipe.bin")(model, folder)
    os.mkfifo(folder / "pipe.bin")


def say_another_type(kind: int) -> Callable[[onnx.ModelProto, Path], None]:
    def spoil(model: onnx.ModelProto, folder: Path) -> None:
        the_weights(model).data_type = kind

    return spoil


def twice(what: str) -> Callable[[onnx.ModelProto, Path], None]:
    def spoil(model: onnx.ModelProto, folder: Path) -> None:
        values = getattr(model.graph, what)
        values.append(values[0])

    return spoil


def set_domain(model: onnx.ModelProto, folder: Path) -> None:
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def set_input_dim(size: int) -> Callable[[onnx.ModelProto, Path], None]:
    def spoil(model: onnx.ModelProto, folder: Path) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size

    return spoil


def declare_value(*dims: int) -> Callable[[onnx.ModelProto, Path], None]:
    def spoil(model: onnx.ModelProto, folder: Path) -> None:
        info = helper.make_tensor_value_info("m", TensorProto.FLOAT, dims)
        model.graph.value_info.append(info)

    return spoil


def flat(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, X)


def nested(depth: int) -> onnx.NodeProto:
    """``If`` in ``If`` in ``If``…"""
    node = relu("x", "inner")
    for level in range(depth):
        info = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, X)
        graph = helper.make_graph([node], f"g{level}", [], [info])
        other = helper.make_graph([relu("x", f"e{level}")], f"h{level}", [], [flat(f"e{level}")])
        output = "y" if level == depth - 1 else f"o{level}"
        node = helper.make_node(
            "If", ["w"], [output], name=f"if{level}", then_branch=graph, else_branch=other
        )
    return node


def nested_bytes(depth: int) -> bytes:
    """Deeper than the ``onnx`` package would write it: graph, node, attribute, graph…"""
    inner = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            inner = bytes([tag]) + varint(len(inner)) + inner
    return b"\x3a" + varint(len(inner)) + inner  # ModelProto.graph


def varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def shape_constant(*sizes: int) -> dict[str, np.ndarray]:
    return {"s": np.array(sizes, np.int64)}


def spread(kind: str, *sizes: int) -> dict[str, object]:
    """A model that makes something huge of a few bytes, and adds it."""
    source = {"ConstantOfShape": ["s"], "Expand": ["one", "s"], "Tile": ["one", "s"]}[kind]
    nodes = [
        helper.make_node(kind, source, ["m"], name="huge"),
        helper.make_node("GlobalAveragePool", ["m"], ["p"], name="pool"),
        helper.make_node("Add", ["x", "p"], ["y"], name="add"),
    ]
    constants = {**shape_constant(*sizes), "one": weights(1, 1, 1, 1)}
    if kind == "ConstantOfShape":
        del constants["one"]
    return {"nodes": nodes, "constants": constants}


CASES: dict[str, Bad] = {
    # the file
    "empty file": Bad("the ONNX file is empty", cut=lambda content: b""),
    "half a file": Bad("not an ONNX model, or a truncated one", cut=lambda c: c[: len(c) // 2]),
    "text": Bad("not an ONNX model", cut=lambda content: b"not a model at all"),
    "no graph": Bad("the file holds no graph", cut=lambda content: b"\x08\x07"),
    "a name that is not text": Bad(
        r"the name b'\\xffonv' is not text", cut=lambda c: c.replace(b"conv", b"\xffonv")
    ),
    # the opset
    "an old opset": Bad("opset 6; opset 7 to 21 is needed", opset=6),
    "a new opset": Bad("opset 99; opset 7 to 21 is needed", opset=99),
    "no opset": Bad(
        "no standard opset", spoil=lambda model, folder: model.ClearField("opset_import")
    ),
    "an op of a vendor": Bad("Conv node 'conv' is of the domain 'com.example'", spoil=set_domain),
    # external weights
    "missing weights": Bad("'w' lie in 'none.bin', which is not there", spoil=external("none.bin")),
    "weights one folder up": Bad(
        "'w' lie outside the model's folder, in '../outside.bin'", spoil=external("../outside.bin")
    ),
    "weights by an absolute path": Bad(
        "'w' lie outside the model's folder, in '/etc/passwd'", spoil=external("/etc/passwd")
    ),
    "weights behind a link": Bad("'w' lie outside the model's folder", spoil=link_outside),
    "weights from a pipe": Bad("'w' lie in 'pipe.bin', which is not there", spoil=pipe_as_weights),
    "weights without a place": Bad(
        "'w' lie in an external file without a name", spoil=external("")
    ),
    "weights in a folder": Bad("'w' lie in '.', which is not there", spoil=external(".")),
    "weights with a name too long": Bad("'w' lie in 'a", spoil=external("a" * 5000)),
    "truncated weights": Bad(
        "'w' need bytes 0 to 64 of 'w.bin', which has 10", spoil=external("w.bin", b"0123456789")
    ),
    "weights behind the end": Bad(
        "'w' need bytes 1152921504606846976 to", spoil=external("w.bin", offset=2**60)
    ),
    "weights at no place": Bad("'w': '-8' is no offset", spoil=external("w.bin", offset=-8)),
    "weights at a long place": Bad("is no offset", spoil=external("w.bin", offset="9" * 5000)),
    "a length of everything": Bad(
        f"'w': {2**62} bytes in 'w.bin' for a shape of 64", spoil=external("w.bin", length=2**62)
    ),
    # stored weights
    "fewer weights than declared": Bad("'w': 16 values do not fill", spoil=set_dims(4, 4, 3, 3)),
    "weights of 2^31": Bad(
        f"'w' has the shape {BIG},4,1,1: {BIG} is no", spoil=set_dims(BIG, 4, 1, 1)
    ),
    "weights of many": Bad(
        "'w' has the shape .*, too large for any phone", spoil=set_dims(2**20, 2**20, 1, 1)
    ),
    "weights of -1": Bad("'w' has the shape -1,4,1,1: -1 is no size", spoil=set_dims(-1, 4, 1, 1)),
    "weights of 0": Bad("'w': 16 values do not fill the shape 0,4,1,1", spoil=set_dims(0, 4, 1, 1)),
    "empty weights": Bad("conv", constants={"w": weights(0, 4, 1, 1)}),
    "weights of 10000 dimensions": Bad("'w' has 10000 dimensions", spoil=set_dims(*[2] * 10000)),
    "weights of text": Bad("'w': values of the type 8", spoil=say_another_type(TensorProto.STRING)),
    "weights of half the size": Bad(
        "'w': 8 values do not", spoil=say_another_type(TensorProto.DOUBLE)
    ),
    "weights of no type": Bad("'w': values of the type 0", spoil=say_another_type(0)),
    "NaN weights": Bad("'w' hold NaN", constants={"w": weights(4, 4, 1, 1, value=np.nan)}),
    "infinite weights": Bad(
        "'w' hold NaN or infinity", constants={"w": weights(4, 4, 1, 1, value=np.inf)}
    ),
    # the graph
    "a circle": Bad(
        "Relu node 'one': it reads 'b', which is made only after it",
        nodes=[relu("b", "a", "one"), relu("a", "b", "two"), relu("b", "y", "three")],
    ),
    "a node that reads itself": Bad(
        "Relu node 'one': it reads 'y', which is made only", nodes=[relu("y", "y", "one")]
    ),
    "a dangling input": Bad(
        "Relu node 'one': it reads 'nowhere', which nothing", nodes=[relu("nowhere", "y", "one")]
    ),
    "a dangling output": Bad("nothing makes the output 'y'", nodes=[relu("x", "z")]),
    "an output made twice": Bad(
        "Relu node 'two': its output 'y' is there", nodes=[relu("x", "y"), relu("x", "y", "two")]
    ),
    "an output that is the input": Bad(
        "Relu node 'relu': its output 'x' is there", nodes=[relu("x", "x")]
    ),
    "weights named twice": Bad("the name 'w' stands for more than one", spoil=twice("initializer")),
    "inputs named twice": Bad("the name 'x' stands for more than one", spoil=twice("input")),
    "an unknown op": Bad("Strange", nodes=[helper.make_node("Strange", ["x"], ["y"], name="s")]),
    "too few inputs": Bad("", nodes=[helper.make_node("Conv", ["x"], ["y"], name="c")]),
    "too many nodes": Bad(
        "graph 'bad' brings the model to 20001 nodes",
        nodes=[relu("x" if i == 0 else f"t{i}", f"t{i + 1}", f"r{i}") for i in range(20_000)]
        + [relu("t20000", "y")],
    ),
    "ifs in ifs": Bad("If node 'if11'", nodes=[nested(12)], constants={"w": np.array(True)}),
    "ifs too deep for a file": Bad("not an ONNX model", cut=lambda content: nested_bytes(5000)),
    # shapes
    "an input of 0": Bad(
        "input 'x' is declared as .*the model has 0,4,6,6", spoil=set_input_dim(0)
    ),
    "an input of -1": Bad("'x'.*the model has -1,4,6,6", spoil=set_input_dim(-1)),
    "an input of 2^31": Bad(f"'x'.*the model has {BIG},4,6,6", spoil=set_input_dim(BIG)),
    "a shape nothing has": Bad(
        "node name: relu.*differ",
        nodes=[relu("x", "m"), relu("m", "y")],
        spoil=declare_value(1, -5),
    ),
    "huge padding": Bad(
        "too large|no size",
        nodes=[
            helper.make_node("Pad", ["x", "s"], ["m"], name="pad"),
            helper.make_node("GlobalAveragePool", ["m"], ["y"], name="pool"),
        ],
        constants=shape_constant(0, 0, 2**30, 2**30, 0, 0, 2**30, 2**30),
        output_shape=(1, 4, 1, 1),
    ),
    "huge strides": Bad("conv", nodes=[conv(strides=[2**31, 2**31])], output_shape=(1, 4, 1, 1)),
    "huge dilations": Bad("conv", nodes=[conv(dilations=[2**62, 2**62])]),
    "strides of 0": Bad("conv", nodes=[conv(strides=[0, 0])]),
    "a kernel that is another": Bad("", nodes=[conv(kernel_shape=[7, 7])]),
    "no group": Bad("conv", nodes=[conv(group=0)]),
    "groups that do not divide": Bad("conv", nodes=[conv(group=3)]),
    "slopes that do not fit": Bad(
        "PRelu node 'prelu'",
        nodes=[helper.make_node("PRelu", ["x", "w"], ["y"], name="prelu")],
        constants={"w": weights(4, 6, 5)},
    ),
    "more parts than there are": Bad(
        "Split node 'split': 1 num_outputs, but 2 outputs",
        nodes=[helper.make_node("Split", ["x"], ["y", "z"], name="split", num_outputs=1)],
        opset=18,
    ),
    # few bytes that become many
    "a reshape into 2^62": Bad(
        "'m' has the shape",
        nodes=[
            helper.make_node("Reshape", ["x", "s"], ["m"], name="reshape"),
            helper.make_node("Concat", ["m", "t"], ["c"], name="concat", axis=0),
            helper.make_node("Relu", ["c"], ["y"], name="relu"),
        ],
        output_shape=(2**62 + 4,),
        constants={**shape_constant(2**62), "t": weights(4)},
    ),
    "a constant of 2^31": Bad("'m'|huge", **spread("ConstantOfShape", 1, 4, BIG, 1)),
    "a constant of many": Bad("'m'|huge", **spread("ConstantOfShape", 1, 4, 2**14, 2**14)),
    "a constant of a GiB": Bad("'m'|huge", **spread("ConstantOfShape", 1, 4, 2**13, 2**13)),
    "a constant of -1": Bad("huge", **spread("ConstantOfShape", 1, 4, -1, 6)),
    "an expansion of many": Bad("'m'|huge", **spread("Expand", 1, 4, 2**14, 2**14)),
    "a tiling of a GiB": Bad("'m'|huge", **spread("Tile", 1, 4, 2**13, 2**13)),
    "a range of a GiB": Bad(
        "'m'|huge",
        nodes=[
            helper.make_node("Range", ["a", "b", "c"], ["m"], name="huge"),
            helper.make_node("ReduceMean", ["m"], ["p"], name="mean", keepdims=0),
            helper.make_node("Add", ["x", "p"], ["y"], name="add"),
        ],
        constants={"a": np.float32(0), "b": np.float32(2**28), "c": np.float32(1)},
    ),
}


Outcomes = dict[str, tuple[str, str, str]]
"""Case to what came of it: the error's type, its message and its hint."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("bad")
    cases = [
        [
            name,
            str(case.write(folder / str(i))),
            {"x": case.input_shape},
            {"y": case.output_shape},
        ]
        for i, (name, case) in enumerate(CASES.items())
    ]
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "limited_conversion.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])},
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    # A crash would take the process along: the first case without an outcome is to blame.
    ended = (str(done.returncode), done.stderr[-2000:], "")
    return {"ended": ended, **{name: (kind, message, hint) for name, kind, message, hint in found}}


def test_the_process_that_converts_them_lives(outcomes: Outcomes) -> None:
    assert outcomes["ended"][0] == "0", outcomes["ended"][1]


@pytest.mark.parametrize("name", CASES)
def test_a_bad_model_is_one_clear_error(name: str, outcomes: Outcomes) -> None:
    kind, message, hint = outcomes[name]
    assert kind == "ModelError", message
    path, _, complaint = message.partition(".onnx: ")
    assert Path(path).name == "model"
    assert re.search(CASES[name].says, complaint), message
    assert hint


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    place = external("w.bin", b"12345678" + weights(4, 4, 1, 1, value=2.0).tobytes(), offset=8)
    path = Bad("", spoil=place).write(tmp_path / "good")
    converted = convert_model(declare(path, {"x": X}, {"y": X}))
    assert converted.data == weights(4, 4, 1, 1, value=2.0).tobytes()


@pytest.mark.parametrize("name", ["half a file", "missing weights", "a circle"])
def test_the_command_says_so_and_exits_with_2(name: str, tmp_path: Path) -> None:
    path = CASES[name].write(tmp_path / "bad")
    config = tmp_path / "bad.yml"
    tensors = {
        "input_tensors": "x",
        "input_shapes": "1,4,6,6",
        "input_data_formats": "NCHW",
        "output_tensors": "y",
        "output_shapes": "1,4,6,6",
        "output_data_formats": "NCHW",
    }
    model = {"platform": "onnx", "model_file_path": str(path), "subgraphs": [tensors]}
    document = {"library_name": "bad", "target_abis": ["host"], "models": {"bad": model}}
    config.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [sys.executable, "-m", "droidmace", "convert", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {path}: ")
    assert re.search(CASES[name].says, done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "build").exists()


# --- mutations ----------------------------------------------------------------------------------

TINY = (SAMPLES / "tiny.onnx").read_bytes()
CHANGES = st.lists(
    st.tuples(st.integers(0, len(TINY) - 1), st.binary(min_size=0, max_size=3), st.integers(0, 12)),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=CHANGES, cut=st.none() | st.integers(0, len(TINY)))
def test_a_changed_or_cut_file_is_a_model_or_one_clear_error(
    tmp_path: Path, changes: list[tuple[int, bytes, int]], cut: int | None
) -> None:
    """Each change puts a few bytes in the place of some others."""
    damaged = bytearray(TINY)
    for position, new, length in changes:
        damaged[position : position + length] = new
    path = tmp_path / "m.onnx"
    path.write_bytes(damaged[:cut])
    (config,) = load_deployment(SAMPLES / "tiny_gpu.yml").models.values()
    try:
        result = convert_model(dataclasses.replace(config, model_file=path))
    except ModelError as error:
        assert error.where == str(path)
        assert error.hint
    else:
        assert isinstance(result, ConvertedModel)
