from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.formats.message import serialize_message
from droidmace.formats.netdef import (
    Argument,
    ConstTensor,
    DataFormat,
    DataType,
    InputOutputInfo,
    MultiNetDef,
    NetDef,
    OperatorDef,
    OutputShape,
    check_all_weights,
    parse_model,
    read_weights,
    serialize_model,
)

SAMPLES = Path(__file__).parents[1] / "samples"
GRAPH = (SAMPLES / "tiny_gpu.pb").read_bytes()
WEIGHTS = (SAMPLES / "tiny_gpu.data").read_bytes()

NAMES = st.text(max_size=6)
SIZES = st.lists(st.integers(1, 64), max_size=4).map(tuple)
ARGUMENTS = st.one_of(
    st.builds(Argument, NAMES, i=st.integers(-(2**63), 2**63 - 1)),
    st.builds(Argument, NAMES, f=st.floats(width=32, allow_nan=False)),
    st.builds(Argument, NAMES, s=st.binary(max_size=6)),
    st.builds(Argument, NAMES, ints=st.lists(st.integers(-9, 9), max_size=3).map(tuple)),
)
OPS = st.builds(
    OperatorDef,
    inputs=st.lists(NAMES, max_size=3).map(tuple),
    outputs=st.lists(NAMES, max_size=2).map(tuple),
    name=NAMES,
    type=st.sampled_from(["Conv2D", "Softmax"]),
    device_type=st.none() | st.sampled_from([0, 2]),
    args=st.lists(ARGUMENTS, max_size=3).map(tuple),
    output_shapes=st.lists(st.builds(OutputShape, SIZES), max_size=2).map(tuple),
    output_types=st.lists(st.sampled_from(DataType), max_size=2).map(tuple),
)
NETS = st.builds(
    NetDef,
    ops=st.lists(OPS, min_size=1, max_size=3).map(tuple),
    args=st.lists(ARGUMENTS, max_size=2).map(tuple),
    tensors=st.lists(
        st.builds(ConstTensor, dims=SIZES, data_type=st.sampled_from(DataType), name=NAMES),
        max_size=2,
    ).map(tuple),
    name=NAMES,
    input_infos=st.lists(st.builds(InputOutputInfo, NAMES, dims=SIZES), max_size=2).map(tuple),
)
MODELS = st.builds(
    MultiNetDef,
    version_code=st.integers(1, 3),
    name=NAMES,
    nets=st.lists(NETS, min_size=1, max_size=2).map(tuple),
    input_tensors=st.lists(NAMES, max_size=2).map(tuple),
)


def test_the_real_model() -> None:
    model = parse_model(GRAPH)

    assert not model.is_bare_net
    assert (model.input_tensors, model.output_tensors) == (("input",), ("output",))
    (net,) = model.nets
    assert [op.type for op in net.ops] == [
        "Conv2D", "DepthwiseConv2d", "Conv2D", "Reduce", "FullyConnected", "Softmax",
    ]  # fmt: skip
    first = net.ops[0]
    assert first.inputs == ("input", "c1_w", "c1_b")
    assert first.device_type is None
    assert first.ints_arg("strides") == (2, 2)
    assert first.int_arg("group") == 1
    assert first.str_arg("activation") == "RELU"
    assert first.float_arg("activation_coefficient", 0.5) == 0.0
    assert first.output_shapes[0].dims == (1, 16, 16, 16)
    assert net.int_arg("opencl_mem_type") == 2
    assert net.int_arg("filter_format") == DataFormat.OIHW
    assert net.input_infos[0].dims == (1, 32, 32, 3)
    assert serialize_model(model) == GRAPH


def test_arguments_that_are_not_there_have_the_callers_default() -> None:
    op = OperatorDef(args=(Argument("i", i=0), Argument("empty")))
    assert op.arg("none") is None
    assert op.int_arg("none", 7) == 7
    assert op.int_arg("i", 7) == 0
    assert op.int_arg("empty", 7) == 0
    assert op.float_arg("none", 0.5) == 0.5
    assert op.str_arg("none", "x") == "x"
    assert op.ints_arg("none", (1,)) == (1,)
    assert op.floats_arg("none", (1.5,)) == (1.5,)


def test_a_changed_model_keeps_everything_else() -> None:
    model = parse_model(GRAPH + b"\xa2\x06\x01x" + b"\xc2\x3e\x03new")  # field 1000 is unknown
    (net,) = model.nets
    assert model.unknown == b"\xc2\x3e\x03new"

    quieter = dataclasses.replace(
        net, args=tuple(arg for arg in net.args if arg.name != "framework_type")
    )
    again = parse_model(serialize_model(dataclasses.replace(model, nets=(quieter,))))

    assert again.unknown == model.unknown
    assert again.input_tensors == model.input_tensors
    assert again.nets[0].ops == net.ops
    assert again.nets[0].tensors == net.tensors
    assert again.nets[0].arg("framework_type") is None
    # What was written although it is the default is written again.
    assert again.nets[0].tensors[0].origin is not None
    assert "offset" in again.nets[0].tensors[0].origin.present


@given(MODELS)
def test_models_round_trip(model: MultiNetDef) -> None:
    data = serialize_model(model)
    parsed = parse_model(data)
    assert parsed == model
    assert serialize_model(parsed) == data


@given(NETS)
def test_bare_nets_stay_bare(net: NetDef) -> None:
    data = serialize_message(net)
    model = parse_model(data)
    assert model.is_bare_net
    assert model.nets == (net,)
    assert serialize_model(model) == data


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_a_model_or_a_format_error(data: bytes) -> None:
    try:
        model = parse_model(data)
    except FormatError as error:
        assert error.message
    else:
        assert serialize_model(model) == data


@given(st.integers(0, len(GRAPH) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_as_it_is_or_refused(position: int, byte: int) -> None:
    data = GRAPH[:position] + bytes([byte]) + GRAPH[position + 1 :]
    try:
        model = parse_model(data)
    except FormatError as error:
        assert error.offset is None or 0 <= error.offset <= len(data)
    else:
        assert serialize_model(model) == data


def test_a_cut_model_is_refused_at_every_length() -> None:
    end_of_net = GRAPH.index(b"\xa2\x06")  # what follows are the input and output names
    for end in range(end_of_net):
        with pytest.raises(FormatError):
            parse_model(GRAPH[:end])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MultiNetDef(version_code=2), "holds no net"),
        (MultiNetDef(nets=(NetDef(name="n"),)), "net 'n' holds no op"),
        (MultiNetDef(nets=(NetDef(ops=(OperatorDef(name="o"),)),)), "op 'o' .* has no type"),
    ],
)
def test_a_model_must_have_something_to_run(model: MultiNetDef, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_model(serialize_model(model))


def test_a_data_type_that_mace_does_not_have() -> None:
    with pytest.raises(FormatError, match="37 is not a DataType") as caught:
        parse_model(b"\x0a\x06\x22\x04Conv" + b"\x20\x25")
    assert caught.value.offset == 8


def test_a_value_that_does_not_fit_names_its_field() -> None:
    with pytest.raises(ValueError, match=r"data_offset: 4294967296"):
        serialize_model(MultiNetDef(nets=(NetDef(data_offset=2**32),)))
    with pytest.raises(ValueError, match="f: "):
        serialize_message(Argument("a", f=1e300))
    with pytest.raises(ValueError, match="one net, not 2"):
        serialize_model(MultiNetDef(nets=(NetDef(), NetDef()), is_bare_net=True))


def test_weights_of_the_real_model() -> None:
    (net,) = parse_model(GRAPH).nets
    end = 0
    for tensor in net.tensors:
        weights = read_weights(net, WEIGHTS, tensor)
        assert weights.nbytes == 4 * tensor.data_size
        assert bytes(weights) == WEIGHTS[end : end + weights.nbytes]
        end += weights.nbytes
    assert end == len(WEIGHTS)
    bias = net.tensor("fc_b")
    assert bias is not None
    values = struct.unpack("<10f", read_weights(net, memoryview(WEIGHTS), bias))
    assert values == struct.unpack_from("<10f", WEIGHTS, 5888)
    assert net.tensor("nothing") is None


def tensor(**changes: object) -> ConstTensor:
    base = ConstTensor(name="w", dims=(2, 3), data_type=DataType.DT_HALF, offset=4, data_size=6)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_weights_count_from_the_nets_own_region() -> None:
    data = bytes(range(64))
    assert bytes(read_weights(NetDef(data_offset=10), data, tensor())) == data[14:26]
    assert bytes(read_weights(NetDef(data_offset=10, data_size=16), data, tensor())) == data[14:26]
    with pytest.raises(FormatError, match="but they end at 25"):
        read_weights(NetDef(data_offset=10, data_size=15), data, tensor())


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({}, 15, "needs bytes 4 to 16 of the weights, but they end at 15"),
        ({"dims": (2, 0)}, 64, r"shape \[2, 0\]: every size must be positive"),
        ({"dims": (-2, -3)}, 64, r"shape \[-2, -3\]: every size must be positive"),
        ({"dims": (7,)}, 64, r"has 6 elements, but its shape \[7\] needs 7"),
        ({"offset": -4}, 64, "negative offset"),
        ({"offset": 2**62}, 64, "but they end at 64"),
        ({"data_type": DataType.DT_INVALID}, 64, "DT_INVALID, which has no elements"),
    ],
)
def test_weights_that_do_not_agree_name_the_tensor(
    changes: dict[str, object], size: int, message: str
) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read_weights(NetDef(name="n"), bytes(size), tensor(**changes))
    assert "tensor 'w' of net 'n'" in caught.value.message


def test_all_weights_are_checked_but_those_that_the_graph_carries() -> None:
    inside = ConstTensor(name="inside", dims=(2,), float_data=(1.0, 2.0))
    outside = ConstTensor(name="outside", dims=(2,), data_size=2)
    net = NetDef(name="n", tensors=(inside, outside), data_size=8)
    check_all_weights(MultiNetDef(nets=(net,)), 8)
    with pytest.raises(FormatError, match="tensor 'outside' of net 'n' needs bytes 0 to 8"):
        check_all_weights(MultiNetDef(nets=(net,)), 7)


def test_weights_longer_than_the_graph_was_made_with() -> None:
    """All tensors would be found in them, and hold another model's numbers."""
    nets = (NetDef(name="a", data_size=8), NetDef(name="b", data_offset=8, data_size=4))
    check_all_weights(MultiNetDef(nets=nets), 12)
    with pytest.raises(FormatError, match="16 bytes of weights, but .* made with 12") as caught:
        check_all_weights(MultiNetDef(nets=nets), 16)
    assert caught.value.hint
    # Models from before there were several nets do not say how long their weights are.
    check_all_weights(MultiNetDef(nets=(NetDef(name="old"),)), 16)
