"""Single ops and small patterns: the converted graph computes what onnxruntime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import compare_with_onnxruntime, declare, op_types, save_model

from droidmace.convert import convert_model
from droidmace.errors import ModelError
from droidmace.formats.netdef import parse_model

node = helper.make_node


def weights(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def norm_weights(channels: int) -> dict[str, np.ndarray]:
    return {
        "gamma": weights(channels, seed=1),
        "beta": weights(channels, seed=2),
        "mean": weights(channels, seed=3),
        "var": np.abs(weights(channels, seed=4)) + 0.1,
    }


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_convolution(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 5))
    height, width = draw(st.integers(5, 9)), draw(st.integers(5, 9))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    depthwise = draw(st.booleans()) and channels > 1
    filters = channels if depthwise else draw(st.integers(1, 6))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilations = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    attributes: dict[str, object] = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "group": channels if depthwise else 1,
    }
    # onnxruntime refuses automatic padding of dilated convolutions.
    automatic = ["VALID"] if dilations != (1, 1) else ["VALID", "SAME_UPPER", "SAME_LOWER"]
    padding = draw(st.sampled_from(["explicit", *automatic]))
    if padding == "explicit":
        attributes["pads"] = draw(st.tuples(*[st.integers(0, 2)] * 4))
    else:
        attributes["auto_pad"] = padding
    constants = {"w": weights(filters, 1 if depthwise else channels, *kernel)}
    inputs = ["x", "w"]
    if draw(st.booleans()):
        constants["b"] = weights(filters)
        inputs.append("b")
    chain = [node("Conv", inputs, ["conv"], name="conv", **attributes)]
    last = "conv"
    if draw(st.booleans()):
        constants |= norm_weights(filters)
        chain.append(
            node("BatchNormalization", [last, "gamma", "beta", "mean", "var"], ["bn"], epsilon=1e-3)
        )
        last = "bn"
    match draw(st.sampled_from(["none", "relu", "relu6"])):
        case "relu":
            chain.append(node("Relu", [last], ["y"]))
            last = "y"
        case "relu6":
            constants |= {"zero": np.float32(0), "six": np.float32(6)}
            chain.append(node("Clip", [last, "zero", "six"], ["y"]))
            last = "y"
    shape = (batch, channels, height, width)
    path = save_model(
        tmp_path / "m.onnx", chain, {"x": shape}, {last: ("n", "c", "h", "w")}, constants
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": np.zeros(shape, np.float32)})
    # The GPU runtime refuses some dilations; the CPU's takes all of them.
    config = declare(path, {"x": shape}, {last: out.shape}, runtime="cpu")
    graph = compare_with_onnxruntime(config, count=1, tolerance=1e-4)
    types = op_types(graph)
    assert types.count("Pad") <= 1
    assert len(types) - types.count("Pad") == 1, "norm and activation are folded"


def conv(source: str, target: str, **attributes: object) -> object:
    return node("Conv", [source, "w"], [target], name=target, kernel_shape=[1, 1], **attributes)


def test_a_pad_that_mace_can_say_needs_no_op(tmp_path: Path) -> None:
    chain = [
        node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2])
    ]
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": (1, 2, 8, 8)},
        {"y": (1, 3, 4, 4)},
        {"w": weights(3, 2, 3, 3)},
    )
    config = declare(path, {"x": (1, 2, 8, 8)}, {"y": (1, 3, 4, 4)})
    graph = compare_with_onnxruntime(config)
    assert op_types(graph) == ["Conv2D"]
    assert graph.nets[0].ops[0].ints_arg("padding_values") == (1, 1)


def test_a_pad_that_mace_cannot_say_becomes_an_op(tmp_path: Path) -> None:
    chain = [node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 0, 0])]
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": (1, 2, 8, 8)},
        {"y": (1, 3, 7, 7)},
        {"w": weights(3, 2, 3, 3)},
    )
    config = declare(path, {"x": (1, 2, 8, 8)}, {"y": (1, 3, 7, 7)})
    graph = compare_with_onnxruntime(config)
    assert op_types(graph) == ["Pad", "Conv2D"]
    pad, convolution = graph.nets[0].ops
    assert pad.ints_arg("paddings") == (0, 0, 1, 0, 1, 0, 0, 0)
    assert convolution.ints_arg("padding_values") == (0, 0)


def test_padding_behind_that_no_window_reaches_needs_no_op(tmp_path: Path) -> None:
    """One row before and none behind: with a stride of 2 one behind changes nothing."""
    chain = [
        node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 0, 0], strides=[2, 2])
    ]
    inputs, outputs = {"x": (1, 2, 8, 8)}, {"y": (1, 3, 4, 4)}
    path = save_model(tmp_path / "m.onnx", chain, inputs, outputs, {"w": weights(3, 2, 3, 3)})
    graph = compare_with_onnxruntime(declare(path, inputs, outputs))
    assert op_types(graph) == ["Conv2D"]
    assert graph.nets[0].ops[0].ints_arg("padding_values") == (2, 2)


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("flatten", ["Flatten", "Reshape"])
def test_a_flattened_image_and_a_gemm_are_fully_connected(
    tmp_path: Path, trans_b: int, flatten: str
) -> None:
    constants = {"fc": weights(*((5, 36) if trans_b else (36, 5))), "b": weights(1, 5)}
    first = node("Flatten", ["x"], ["flat"])
    if flatten == "Reshape":
        constants["shape"] = np.array([0, -1], np.int64)
        first = node("Reshape", ["x", "shape"], ["flat"])
    chain = [
        first,
        node("Gemm", ["flat", "fc", "b"], ["g"], transB=trans_b, alpha=0.5, beta=2.0),
        node("Relu", ["g"], ["r"]),
        node("Softmax", ["r"], ["y"]),
    ]
    path = save_model(tmp_path / "m.onnx", chain, {"x": (2, 4, 3, 3)}, {"y": (2, 5)}, constants)
    graph = compare_with_onnxruntime(declare(path, {"x": (2, 4, 3, 3)}, {"y": (2, 5)}))
    assert op_types(graph) == ["FullyConnected", "Softmax"]
    assert graph.nets[0].ops[0].str_arg("activation") == "RELU"


def test_matmul_and_add_after_a_mean(tmp_path: Path) -> None:
    chain = [
        node("ReduceMean", ["x"], ["m"], axes=[-1, -2], keepdims=0),
        node("MatMul", ["m", "fc"], ["p"]),
        node("Add", ["b", "p"], ["y"]),
    ]
    constants = {"fc": weights(4, 5), "b": weights(5)}
    path = save_model(tmp_path / "m.onnx", chain, {"x": (1, 4, 3, 3)}, {"y": (1, 5)}, constants)
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 4, 3, 3)}, {"y": (1, 5)}))
    assert op_types(graph) == ["Reduce", "FullyConnected"]
    assert len(graph.nets[0].ops[1].inputs) == 3


@pytest.mark.parametrize(
    ("automatic", "ops"),
    [("SAME_UPPER", ["Conv2D"]), ("SAME_LOWER", ["Pad", "Conv2D"]), ("VALID", ["Conv2D"])],
)
def test_automatic_pads(automatic: str, ops: list[str], tmp_path: Path) -> None:
    """Three rows of padding: two on one side, one on the other."""
    inputs = {"x": (1, 3, 7, 6)}
    outputs = {"y": (1, 2, 4, 4) if automatic == "VALID" else (1, 2, 7, 6)}
    chain = [node("Conv", ["x", "w"], ["y"], auto_pad=automatic)]
    path = save_model(tmp_path / "m.onnx", chain, inputs, outputs, {"w": weights(2, 3, 4, 3)})
    assert op_types(compare_with_onnxruntime(declare(path, inputs, outputs))) == ops


def test_a_filter_that_two_convolutions_share_stays_a_filter(tmp_path: Path) -> None:
    """As in MACE: what is a convolution's elsewhere is not laid out for a matrix product."""
    chain = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Conv", ["a", "w"], ["y"]),
    ]
    inputs, outputs = {"x": (1, 4, 3, 3)}, {"y": (1, 4, 1, 1)}
    path = save_model(tmp_path / "m.onnx", chain, inputs, outputs, {"w": weights(4, 4, 3, 3)})
    graph = compare_with_onnxruntime(declare(path, inputs, outputs))
    assert op_types(graph) == ["Conv2D", "Conv2D"]


@pytest.mark.parametrize("opset", [11, 12, 13, 17])
def test_the_axis_that_a_softmax_does_not_name(opset: int, tmp_path: Path) -> None:
    """Up to opset 12 the channels, here; then the columns, of which there is one."""
    chain = [node("GlobalAveragePool", ["x"], ["p"]), node("Softmax", ["p"], ["y"], name="s")]
    outputs = {"y": (1, 4, 1, 1)}
    path = save_model(tmp_path / "m.onnx", chain, X, outputs, opset=opset)
    ops = op_types(compare_with_onnxruntime(declare(path, X, outputs)))
    turned = ["Reduce", "Reshape", "Softmax", "Reshape"]
    assert ops == (["Reduce", "Softmax"] if opset < 13 else turned)


def test_an_opset_too_old(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], X, {"y": X["x"]}, opset=6)
    with pytest.raises(ModelError, match="opset 6; opset 7 to 21 is needed"):
        convert_model(declare(path, X, {"y": X["x"]}))


def test_weights_begin_at_multiples_of_four(tmp_path: Path) -> None:
    """Half precision and an odd number of elements leave a gap."""
    inputs, outputs = {"x": (1, 1, 5, 5)}, {"y": (1, 3, 3, 3)}
    chain = [node("Conv", ["x", "w", "b"], ["y"])]
    constants = {"w": weights(3, 1, 3, 3), "b": weights(3)}
    path = save_model(tmp_path / "m.onnx", chain, inputs, outputs, constants)
    converted = convert_model(declare(path, inputs, outputs, data_type="fp16_fp32"))
    (net,) = parse_model(converted.graph).nets
    assert [(tensor.name, tensor.offset) for tensor in net.tensors] == [("w", 0), ("b", 56)]
    assert net.data_size == len(converted.data) == 62
    stored = np.frombuffer(converted.data, "<f2", offset=56)
    np.testing.assert_array_equal(stored, constants["b"].astype(np.float16))


@pytest.mark.parametrize("with_bias", [False, True])
def test_beta_scales_a_gemms_own_bias_only(with_bias: bool, tmp_path: Path) -> None:
    names = ["f", "w", "c"] if with_bias else ["f", "w"]
    chain = [
        node("GlobalAveragePool", ["x"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", names, ["g"], alpha=2.0, beta=0.5),
        node("Add", ["g", "added"], ["y"]),
    ]
    constants = {"w": weights(4, 3), "c": weights(3), "added": weights(3, seed=8)}
    inputs, outputs = {"x": (1, 4, 5, 5)}, {"y": (1, 3)}
    path = save_model(tmp_path / "m.onnx", chain, inputs, outputs, constants)
    graph = compare_with_onnxruntime(declare(path, inputs, outputs))
    assert op_types(graph) == ["Reduce", "FullyConnected"]


@pytest.mark.parametrize("opset", range(7, 22))
def test_every_opset_that_is_read(opset: int, tmp_path: Path) -> None:
    """Clip's bounds, ReduceMean's axes and Softmax's meaning changed on the way."""
    clip, clip_constants = node("Clip", ["b"], ["r"], min=0.0, max=5.5), {}
    if opset >= 11:
        clip = node("Clip", ["b", "low", "high"], ["r"])
        clip_constants = {"low": np.float32(0), "high": np.float32(5.5)}
    mean, mean_constants = node("ReduceMean", ["r"], ["m"], axes=[-1, 2], keepdims=0), {}
    if opset >= 18:
        mean = node("ReduceMean", ["r", "axes"], ["m"], keepdims=0)
        mean_constants = {"axes": np.array([-1, 2])}
    if opset < 11:  # negative axes came with opset 11
        mean = node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=0)
    chain = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["b"]),
        clip,
        mean,
        node("Gemm", ["m", "v", "c"], ["g"]),
        node("Softmax", ["g"], ["y"], axis=1),
    ]
    constants = {
        **{"w": weights(4, 4, 3, 3), "v": weights(4, 3), "c": weights(3), **norm_weights(4)},
        **clip_constants,
        **mean_constants,
    }
    path = save_model(tmp_path / "m.onnx", chain, X, {"y": (1, 3)}, constants, opset=opset)
    graph = compare_with_onnxruntime(declare(path, X, {"y": (1, 3)}))
    assert op_types(graph) == ["Conv2D", "Reduce", "FullyConnected", "Softmax"]


def test_a_convolution_over_the_whole_image_is_fully_connected(tmp_path: Path) -> None:
    chain = [node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3])]
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": (1, 2, 3, 3)},
        {"y": (1, 4, 1, 1)},
        {"w": weights(4, 2, 3, 3)},
    )
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 2, 3, 3)}, {"y": (1, 4, 1, 1)}))
    assert op_types(graph) == ["FullyConnected"]


def test_an_activation_is_not_folded_when_others_read_before_it(tmp_path: Path) -> None:
    chain = [
        conv("x", "c"),
        node("Relu", ["c"], ["r"]),
        node("Add", ["c", "r"], ["s"]),
        node("Clip", ["s"], ["y"], min=0.0, max=6.0),
    ]
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": (1, 2, 4, 4)},
        {"y": (1, 2, 4, 4)},
        {"w": weights(2, 2, 1, 1)},
        opset=9,
    )
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 2, 4, 4)}, {"y": (1, 2, 4, 4)}))
    assert op_types(graph) == ["Conv2D", "Activation", "Eltwise", "Activation"]


def test_a_declared_output_is_never_folded_away(tmp_path: Path) -> None:
    chain = [conv("x", "c"), node("Relu", ["c"], ["r"])]
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": (1, 2, 4, 4)},
        {"c": (1, 3, 4, 4), "r": (1, 3, 4, 4)},
        {"w": weights(3, 2, 1, 1)},
    )
    outputs = {"c": (1, 3, 4, 4), "r": (1, 3, 4, 4)}
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 2, 4, 4)}, outputs))
    assert op_types(graph) == ["Conv2D", "Activation"]


def test_weights_that_two_nodes_share_stay_right(tmp_path: Path) -> None:
    norm = ["gamma", "beta", "mean", "var"]
    chain = [
        conv("x", "c1"),
        node("BatchNormalization", ["c1", *norm], ["n1"], name="norm"),
        conv("n1", "c2"),
        conv("c2", "y"),
    ]
    constants = {"w": weights(3, 3, 1, 1), **norm_weights(3)}
    path = save_model(
        tmp_path / "m.onnx", chain, {"x": (1, 3, 4, 4)}, {"y": (1, 3, 4, 4)}, constants
    )
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 3, 4, 4)}, {"y": (1, 3, 4, 4)}))
    read = [op.inputs[1] for op in graph.nets[0].ops]
    assert read[1] == read[2] == "w"
    assert read[0] != "w"


def test_what_does_nothing_is_left_out_and_outputs_keep_their_names(tmp_path: Path) -> None:
    chain = [
        node("Identity", ["x"], ["i"]),
        conv("i", "c"),
        node("Dropout", ["c"], ["d"]),
        node("GlobalAveragePool", ["d"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Identity", ["f"], ["y"]),
        node("Sigmoid", ["c"], ["nobody reads this"]),
    ]
    path = save_model(
        tmp_path / "m.onnx", chain, {"x": (1, 2, 4, 4)}, {"y": (1, 3)}, {"w": weights(3, 2, 1, 1)}
    )
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 2, 4, 4)}, {"y": (1, 3)}))
    assert [(op.type, op.inputs[0], op.outputs[0]) for op in graph.nets[0].ops] == [
        ("Conv2D", "x", "c"),
        ("Reduce", "c", "y"),
    ]


def test_an_output_whose_source_others_read_too(tmp_path: Path) -> None:
    chain = [
        conv("x", "c"),
        node("Dropout", ["c"], ["d"]),
        node("Identity", ["d"], ["y"]),
        node("Relu", ["d"], ["r"]),
        node("Add", ["c", "r"], ["z"]),
    ]
    shape = (1, 3, 4, 4)
    path = save_model(
        tmp_path / "m.onnx",
        chain,
        {"x": (1, 2, 4, 4)},
        {"y": shape, "z": shape},
        {"w": weights(3, 2, 1, 1)},
    )
    graph = compare_with_onnxruntime(declare(path, {"x": (1, 2, 4, 4)}, {"y": shape, "z": shape}))
    assert graph.nets[0].ops[0].outputs == ("y",)


def test_an_open_batch_size_is_what_the_declaration_says(tmp_path: Path) -> None:
    path = save_model(
        tmp_path / "m.onnx",
        [conv("x", "y")],
        {"x": ("batch", 2, 4, 4)},
        {"y": ("batch", 3, 4, 4)},
        {"w": weights(3, 2, 1, 1)},
    )
    compare_with_onnxruntime(declare(path, {"x": (3, 2, 4, 4)}, {"y": (3, 3, 4, 4)}))


X = {"x": (1, 4, 6, 6)}
REFUSED = {
    "unsupported op": ([node("Erf", ["x"], ["y"], name="gate")], {}, r"Erf node 'gate'"),
    "a lonely Softplus": (
        [node("Softplus", ["x"], ["s"], name="s"), node("Tanh", ["s"], ["y"])],
        {},
        "Softplus node 's': this op cannot be converted",
    ),
    "comparison": (
        [
            node("Greater", ["x", "zero"], ["b"], name="g"),
            node("Where", ["b", "x", "zero"], ["y"], name="w"),
        ],
        {"zero": np.float32(0)},
        "Greater node 'g': this op cannot be converted",
    ),
    "empty clip": (
        [node("Clip", ["x", "low", "high"], ["y"], name="c")],
        {"low": np.float32(1), "high": np.float32(-1)},
        "Clip node 'c': it clips to 1 … -1",
    ),
    "filters that do not fit": (
        [node("Conv", ["x", "w"], ["y"], name="c", group=4, kernel_shape=[1, 1])],
        {"w": weights(6, 1, 1, 1)},
        "Conv node 'c': filters",
    ),
    "even window of LRN": (
        [node("LRN", ["x"], ["y"], name="l", size=4)],
        {},
        "LRN node 'l': it runs over 4 channels",
    ),
    "cubic resize between MACE's steps": (
        [node("Resize", ["x", "", "scales"], ["y"], name="r", mode="cubic")],
        {"scales": np.array([1, 1, 1.9, 1.9], np.float32)},
        "Resize node 'r': cubic with coordinates 'half_pixel'",
    ),
    "a resize that keeps the size": (
        [node("Resize", ["x", "", "scales"], ["y"], name="r", mode="linear")],
        {"scales": np.array([1, 1, 1.1, 1.1], np.float32)},
        "Resize node 'r': linear with coordinates 'half_pixel' from 6x6 to 6x6",
    ),
    "resize that rounds up": (
        [
            node(
                "Resize",
                ["x", "", "scales"],
                ["y"],
                name="r",
                mode="nearest",
                nearest_mode="ceil",
                coordinate_transformation_mode="asymmetric",
            )
        ],
        {"scales": np.array([1, 1, 1.5, 1.5], np.float32)},
        "Resize node 'r': nearest with coordinates 'asymmetric'",
    ),
    "channels padded on the gpu": (
        [node("Pad", ["x", "pads"], ["y"], name="p")],
        {"pads": np.array([0, 1, 0, 0, 0, 1, 0, 0])},
        "Pad node 'p': MACE's GPU runtime pads height and width only",
    ),
    "indices of a pool": (
        [
            node("MaxPool", ["x"], ["m", "i"], name="p", kernel_shape=[2, 2]),
            node("Cast", ["i"], ["f"], to=1),
            node("Add", ["m", "f"], ["y"]),
        ],
        {},
        "MaxPool node 'p': its indices are used",
    ),
    "five dimensions": (
        [
            node("Reshape", ["x", "five"], ["r"], name="r"),
            node("Relu", ["r"], ["s"]),
            node("Reshape", ["s", "four"], ["y"]),
        ],
        {"five": np.array([2, 2, 2, 6, 3]), "four": np.array([1, 4, 6, 6])},
        r"Reshape node 'r': \(2, 2, 2, 6, 3\) has five axes",
    ),
    "computed weights": (
        [node("Relu", ["x"], ["r"]), node("Conv", ["x", "r"], ["y"], name="c")],
        {},
        "Conv node 'c': its input 1 .* is not a constant",
    ),
    "dilation with a stride": (
        [
            node(
                "Conv",
                ["x", "w"],
                ["y"],
                name="c",
                kernel_shape=[3, 3],
                dilations=[2, 2],
                strides=[2, 2],
            )
        ],
        {"w": weights(4, 4, 3, 3)},
        "Conv node 'c': MACE's GPU runtime has no dilated",
    ),
    "norm in training mode": (
        [
            node("Conv", ["x", "w"], ["a"]),
            node(
                "BatchNormalization",
                ["a", "gamma", "beta", "mean", "var"],
                ["y", "m", "v"],
                name="n",
                training_mode=1,
            ),
        ],
        {"w": weights(4, 4, 1, 1), **norm_weights(4)},
        "BatchNormalization node 'n': it is in training mode",
    ),
    "an edge a million times": (
        [node("Pad", ["x", "pads"], ["y"], name="p", mode="edge")],
        {"pads": np.array([0, 0, 10**6, 0, 0, 0, 0, 0])},
        "Pad node 'p': it repeats an edge 1000000 times",
    ),
    "depth to space of six channels": (
        [
            node("Conv", ["x", "w"], ["a"]),
            node("DepthToSpace", ["a"], ["y"], name="d", blocksize=2),
        ],
        {"w": weights(24, 4, 1, 1)},
        "DepthToSpace node 'd': blocks of 6 channels; MACE's GPU runtime",
    ),
    "space to depth of six channels": (
        [
            node("Conv", ["x", "w"], ["a"]),
            node("SpaceToDepth", ["a"], ["y"], name="s", blocksize=2),
        ],
        {"w": weights(6, 4, 1, 1)},
        "SpaceToDepth node 's': blocks of 6 channels; MACE's GPU runtime",
    ),
    "alpha of Celu": (
        [node("Celu", ["x"], ["y"], name="c", alpha=0.0)],
        {},
        "Celu node 'c': its alpha is 0",
    ),
    "slopes for other channels": (
        [node("PRelu", ["x", "s"], ["y"], name="p")],
        {"s": weights(5, 1, 1)},
        r"PRelu node 'p': slopes of shape \(5, 1, 1\) for 4 channels",
    ),
    "an instance norm of other channels": (
        [node("InstanceNormalization", ["x", "s", "s"], ["y"], name="n")],
        {"s": weights(5)},
        r"InstanceNormalization node 'n': weights of shape \(5,\) for 4 channels",
    ),
    "a pad with no number": (
        [node("Pad", ["x", "pads", "v"], ["y"], name="p")],
        {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 0]), "v": np.zeros(0, np.float32)},
        "Pad node 'p': its value 'v' is not one number",
    ),
    "a norm over channels that are not there": (
        [
            node("ReduceMean", ["x"], ["m"], keepdims=0),
            node("LRN", ["m"], ["n"], name="l", size=3),
            node("Add", ["x", "n"], ["y"]),
        ],
        {},
        "LRN node 'l': its input has 0 axes, not 4",
    ),
    "a norm of a single number": (
        [
            node("ReduceMean", ["x"], ["m"], keepdims=0),
            node("LpNormalization", ["m"], ["n"], name="l"),
            node("Add", ["x", "n"], ["y"]),
        ],
        {},
        "LpNormalization node 'l': its input is a single number",
    ),
    "a gather of nothing": (
        [
            node("Gather", ["x", "i"], ["g"], name="g", axis=1),
            node("Concat", ["g", "x"], ["y"], axis=1),
        ],
        {"i": np.zeros(0, np.int64)},
        "Gather node 'g': it leaves nothing over",
    ),
    "dropout in training mode": (
        [node("Dropout", ["x", "ratio", "training"], ["d"], name="d"), node("Relu", ["d"], ["y"])],
        {"ratio": np.float32(0.5), "training": np.array(True)},
        "Dropout node 'd': it is in training mode",
    ),
    "depthwise with two strides": (
        [node("Conv", ["x", "w"], ["y"], name="c", group=4, kernel_shape=[1, 1], strides=[2, 1])],
        {"w": weights(4, 1, 1, 1)},
        r"Conv node 'c': MACE's GPU runtime has no depthwise .* strides \(2, 1\)",
    ),
    "constant output": (
        [node("Constant", [], ["y"], value_floats=[1.0, 2.0])],
        {},
        "output 'y' is a constant",
    ),
    "clip to NaN": (
        [node("Clip", ["x", "low", "high"], ["y"], name="c")],
        {"low": np.float32(0), "high": np.float32(np.nan)},
        "Clip node 'c': it clips to 0 … nan",
    ),
    "negative variance": (
        [
            node("Conv", ["x", "w"], ["a"], name="c"),
            node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["y"], name="n"),
        ],
        {"w": weights(4, 4, 1, 1), **norm_weights(4), "var": np.full(4, -1, np.float32)},
        "its weights 'w' hold NaN or infinity",
    ),
    "NaN weights": (
        [node("Conv", ["x", "w"], ["y"], name="c")],
        {"w": np.full((4, 4, 1, 1), np.nan, np.float32)},
        "Conv node 'c': its weights 'w' hold NaN or infinity",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(case: str, tmp_path: Path) -> None:
    chain, constants, message = REFUSED[case]
    path = tmp_path / "m.onnx"
    # From opset 14 on a norm says itself whether it is in training mode.
    opset = 14 if case == "norm in training mode" else 13
    save_model(path, chain, X, {"y": ("n", "a", "b", "c")}, constants, opset=opset)
    import onnx

    # The declared output must fit, so that only the op is to blame.
    model = onnx.load(path)
    del model.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(model)
    shape = next(
        tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in inferred.graph.value_info
        if value.name == "y"
    )
    info = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    model.graph.output.append(info)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message) as caught:
        convert_model(declare(path, X, {"y": shape}))
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_one_scale_for_two_axes_is_not_that_of_their_sizes(tmp_path: Path) -> None:
    resize = node(
        "Resize",
        ["x", "", "", "s"],
        ["y"],
        name="r",
        mode="linear",
        keep_aspect_ratio_policy="not_smaller",
        axes=[2, 3],
    )
    path = tmp_path / "m.onnx"
    sizes = {"s": np.array([14, 20])}
    save_model(path, [resize], {"x": (1, 4, 9, 7)}, {"y": (1, 4, 26, 20)}, sizes, opset=18)
    # 20 / 7 along both axes, where MACE has 26 / 9 along the height.
    with pytest.raises(ModelError, match="Resize node 'r': linear .* from 9x7 to 26x20"):
        convert_model(declare(path, {"x": (1, 4, 9, 7)}, {"y": (1, 4, 26, 20)}))


def test_a_dropout_whose_mask_is_read(tmp_path: Path) -> None:
    chain = [node("Dropout", ["x"], ["d", "mask"], name="drop"), node("Relu", ["mask"], ["y"])]
    path = save_model(tmp_path / "m.onnx", chain, X, {"y": X["x"]}, opset=9)
    with pytest.raises(ModelError, match="Dropout node 'drop': its mask is used"):
        convert_model(declare(path, X, {"y": X["x"]}))


def test_every_unsupported_op_is_listed(tmp_path: Path) -> None:
    chain = [node("Erf", ["x"], ["s"], name="one"), node("Sinh", ["s"], ["y"], name="two")]
    path = save_model(tmp_path / "m.onnx", chain, X, {"y": X["x"]})
    with pytest.raises(ModelError) as caught:
        convert_model(declare(path, X, {"y": X["x"]}))
    assert caught.value.details == "Erf 'one'\nSinh 'two'"
    assert caught.value.hint is not None
    assert "GELU" in caught.value.hint


def test_an_unknown_op_is_told_what_can_be_converted(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", [node("Sinh", ["x"], ["y"])], X, {"y": X["x"]})
    with pytest.raises(ModelError) as caught:
        convert_model(declare(path, X, {"y": X["x"]}))
    assert caught.value.hint is not None
    assert "Softmax" in caught.value.hint


def test_weights_too_large_for_half_precision(tmp_path: Path) -> None:
    constants = {"w": np.full((4, 4, 1, 1), 70000, np.float32)}
    path = save_model(tmp_path / "m.onnx", [conv("x", "y")], X, {"y": X["x"]}, constants)
    config = declare(path, X, {"y": X["x"]}, data_type="fp16_fp32")
    with pytest.raises(ModelError, match="'w' reach 70000, too large for half precision"):
        convert_model(config)
    single = convert_model(declare(path, X, {"y": X["x"]}))
    assert parse_model(single.graph).nets[0].tensors[0].data_size == 16
