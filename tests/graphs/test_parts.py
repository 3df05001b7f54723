"""Parts of nets: they compute what the whole net computes, on both kinds of graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from droidmace.errors import InputError
from droidmace.formats.netdef import (
    Argument,
    DataType,
    MemoryType,
    MultiNetDef,
    read_weights,
)
from droidmace.graphs.activations import activations, frontier
from droidmace.graphs.parts import Dissection, describe
from droidmace.graphs.variants import (
    in_memory,
    is_half,
    memory_type,
    packed,
    uses_winograd,
    without_winograd,
)
from tests.graphs.computing import compute, compute_part, inputs_of


def test_every_tensor_at_once_gives_the_net_s_own_outputs(
    files: tuple[MultiNetDef, bytes], dissection: Dissection
) -> None:
    inputs = inputs_of(files[0])
    whole = compute(*files, inputs)
    found = compute_part(dissection.up_to(tuple(dissection.activations)), files[1], inputs)
    assert set(found) == {name for op in files[0].nets[0].ops for name in op.outputs}
    for name, values in whole.items():
        np.testing.assert_array_equal(found[name].reshape(values.shape), values)


def test_ops_by_themselves_make_what_they_make_in_the_net(
    files: tuple[MultiNetDef, bytes], dissection: Dissection
) -> None:
    inputs = inputs_of(files[0])
    net = compute_part(dissection.up_to(tuple(dissection.activations)), files[1], inputs)
    part = dissection.alone(range(len(dissection.net.ops)))
    # No op is fed by another.
    (parted,) = part.model.nets
    made = {name for op in parted.ops for name in op.outputs}
    assert not made & {name for op in parted.ops for name in op.inputs}
    alone = compute_part(part, files[1], {**inputs, **net})
    assert set(alone) == set(net)
    for name, values in net.items():
        np.testing.assert_array_equal(alone[name], values)


def test_a_cut_takes_no_more_than_it_needs(
    files: tuple[MultiNetDef, bytes], dissection: Dissection
) -> None:
    first = next(iter(dissection.activations))
    part = dissection.up_to([first])
    (net,) = part.model.nets
    assert len(net.ops) == 1
    assert {tensor.name for tensor in net.tensors} < {
        tensor.name for tensor in files[0].nets[0].tensors
    }
    assert [info.dims for info in net.output_infos] == [dissection.activations[first].shape]


def test_packed_weights_give_the_same_values(
    files: tuple[MultiNetDef, bytes], dissection: Dissection
) -> None:
    inputs = inputs_of(files[0])
    part = dissection.up_to(list(dissection.activations)[:2])
    model, weights = packed(part.model, files[1])
    assert len(weights) < len(files[1])
    assert model.nets[0].data_size == len(weights)
    wanted = compute_part(part, files[1], inputs)
    for name, values in compute_part(replace(part, model=model), weights, inputs).items():
        np.testing.assert_array_equal(values, wanted[name])


def test_a_half_precision_model_in_float32(files: tuple[MultiNetDef, bytes]) -> None:
    graph, data = files
    (net,) = graph.nets
    half_weights = b""
    tensors = []
    for tensor in net.tensors:
        values = np.frombuffer(read_weights(net, data, tensor), "<f4")
        kind = tensor.data_type
        if kind == DataType.DT_FLOAT:
            values, kind = values.astype("<f2"), DataType.DT_HALF
        half_weights += bytes(-len(half_weights) % 4)
        tensors.append(replace(tensor, data_type=kind, offset=len(half_weights)))
        half_weights += values.tobytes()
    half = replace(net, tensors=tuple(tensors), data_type=DataType.DT_HALF, data_size=0)
    assert is_half(half)
    model, weights = packed(replace(graph, nets=(half,)), half_weights, float32=True)
    (widened,) = model.nets
    assert not is_half(widened)
    assert all(tensor.data_type != DataType.DT_HALF for tensor in widened.tensors)
    inputs = inputs_of(graph)
    wanted = compute(replace(graph, nets=(half,)), half_weights, inputs)
    for name, values in compute(model, weights, inputs).items():
        np.testing.assert_array_equal(values, wanted[name])


def test_ops_in_half_precision_become_float32_ones(files: tuple[MultiNetDef, bytes]) -> None:
    (net,) = files[0].nets
    kind = Argument(name="T", i=int(DataType.DT_HALF))
    ops = tuple(
        replace(op, args=tuple(kind if arg.name == "T" else arg for arg in op.args))
        for op in net.ops
    )
    half = replace(net, ops=ops)
    assert is_half(half)
    model, _ = packed(replace(files[0], nets=(half,)), files[1], float32=True)
    assert [op.int_arg("T") for op in model.nets[0].ops] == [1] * len(ops)


def test_winograd_goes_with_its_argument(files: tuple[MultiNetDef, bytes]) -> None:
    (net,) = files[0].nets
    block = Argument(name="wino_block_size", i=4)
    first = replace(net.ops[0], args=(*net.ops[0].args, block))
    model = replace(files[0], nets=(replace(net, ops=(first, *net.ops[1:])),))
    assert uses_winograd(model.nets[0].ops[0])
    assert "Winograd 4" in describe(model.nets[0], 0)
    assert without_winograd(model) == files[0]


def test_the_memory_type_is_the_net_s(files: tuple[MultiNetDef, bytes]) -> None:
    assert memory_type(files[0].nets[0]) is MemoryType.GPU_IMAGE
    changed = in_memory(files[0], MemoryType.GPU_BUFFER)
    assert memory_type(changed.nets[0]) is MemoryType.GPU_BUFFER


def test_behind_a_frontier_nothing_else_is_read(dissection: Dissection) -> None:
    net, known = dissection.net, dissection.activations
    inputs = {info.name for info in net.input_infos} | {one.name for one in net.tensors}
    for position in range(len(net.ops)):
        made = {name for op in net.ops[position + 1 :] for name in op.outputs}
        read = {name for op in net.ops[position + 1 :] for name in op.inputs}
        assert read <= made | inputs | set(frontier(net, known, position))


def test_whole_numbers_and_unknown_shapes_are_not_asked_for(
    files: tuple[MultiNetDef, bytes],
) -> None:
    (net,) = files[0].nets
    last, before = net.ops[-1], net.ops[-2]
    ops = (*net.ops[:-2], replace(before, output_types=(DataType.DT_INT32,)), last)
    changed = replace(net, ops=ops)
    assert before.outputs[0] not in activations(changed)
    # The op behind brings the one before along, as that cannot be fed.
    dissection = Dissection(replace(files[0], nets=(changed,)))
    part = dissection.alone([len(ops) - 1])
    assert [op.type for op in part.model.nets[0].ops] == [before.type, last.type]
    shapeless = replace(net, ops=(*net.ops[:-1], replace(last, output_shapes=())))
    assert last.outputs[0] not in activations(shapeless)


def test_names_are_short_and_none_of_a_constant(files: tuple[MultiNetDef, bytes]) -> None:
    (net,) = files[0].nets
    taken = replace(net.tensors[0], name="t0")
    ops = tuple(
        replace(op, inputs=tuple("t0" if one == net.tensors[0].name else one for one in op.inputs))
        for op in net.ops
    )
    changed = replace(net, ops=ops, tensors=(taken, *net.tensors[1:]))
    dissection = Dissection(replace(files[0], nets=(changed,)))
    inputs = inputs_of(files[0])
    names = tuple(dissection.activations)
    found = compute_part(dissection.up_to(names), files[1], inputs)
    wanted = compute_part(Dissection(files[0]).up_to(names), files[1], inputs)
    for name in names:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_models_of_several_nets_are_refused(files: tuple[MultiNetDef, bytes]) -> None:
    with pytest.raises(InputError, match="2 nets"):
        Dissection(replace(files[0], nets=files[0].nets * 2))
