"""Outputs keep their memory, by the plan of MACE that a program here carries out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.formats.netdef import (
    Argument,
    DataFormat,
    DataType,
    DeviceType,
    InputOutputInfo,
    MemoryType,
    MultiNetDef,
    NetDef,
    OperatorDef,
    OutputShape,
)
from droidmace.graphs.held import held, lain_in
from droidmace.graphs.parts import Dissection, Part
from droidmace.graphs.variants import in_memory
from tests.graphs.computing import compute_part, inputs_of
from tests.graphs.mace_memory import Memory, adapted, overwritten

WAYS = [
    (Memory.CPU, False),
    (Memory.BUFFER, False),
    (Memory.BUFFER, True),
    (Memory.IMAGE, False),
    (Memory.IMAGE, True),
]


def info(name: str, shape: tuple[int, ...]) -> InputOutputInfo:
    data_format = DataFormat.NHWC if len(shape) == 4 else DataFormat.NONE
    return InputOutputInfo(name=name, dims=shape, data_format=int(data_format))


SHAPE = (1, 4, 4, 8)


def drawn(
    ops: list[tuple[str, list[str], str]],
    outputs: list[str],
    memory: Memory = Memory.IMAGE,
    *,
    half: bool = False,
) -> MultiNetDef:
    """A net on ``x`` and ``y`` whose tensors are all of one shape, for a memory of a GPU."""
    lying = MemoryType.GPU_BUFFER if memory is Memory.BUFFER else MemoryType.GPU_IMAGE
    shape = SHAPE
    net = NetDef(
        ops=tuple(
            OperatorDef(
                type=kind,
                name=output,
                inputs=tuple(inputs),
                outputs=(output,),
                output_shapes=(OutputShape(shape),),
            )
            for kind, inputs, output in ops
        ),
        input_infos=(info("x", shape), info("y", shape)),
        output_infos=tuple(info(name, shape) for name in outputs),
        data_type=DataType.DT_HALF if half else DataType.DT_FLOAT,
        args=(Argument(name="opencl_mem_type", i=int(lying)),),
    )
    return MultiNetDef(nets=(net,), input_tensors=("x", "y"), output_tensors=tuple(outputs))


@pytest.fixture
def everything(files: tuple[MultiNetDef, bytes]) -> Part:
    dissection = Dissection(files[0])
    return dissection.up_to(tuple(dissection.activations))


def lost(model: MultiNetDef, memory: Memory, *, half: bool = False, on_cpu: str = "") -> set[str]:
    (net,) = model.nets
    outputs = [one.name for one in net.output_infos]
    return overwritten(adapted(net, memory, half=half, on_cpu=on_cpu.split()), outputs)


def lost_if_held(
    model: MultiNetDef, memory: Memory, *, half: bool = False, on_cpu: str = ""
) -> set[str]:
    """The same once the outputs are held, for which MACE's log has told what falls back."""
    runtime = DeviceType.CPU if memory is Memory.CPU else DeviceType.GPU
    fell_back = adapted(model.nets[0], memory, half=half, on_cpu=on_cpu.split()).on_cpu
    return lost(held(model, runtime, fell_back), memory, half=half, on_cpu=on_cpu)


def for_memory(model: MultiNetDef, memory: Memory, *, half: bool) -> MultiNetDef:
    """The same net; on the CPU it is one for images, as most are."""
    lying = MemoryType.GPU_BUFFER if memory is Memory.BUFFER else MemoryType.GPU_IMAGE
    model = in_memory(model, lying)
    kind = DataType.DT_HALF if half else DataType.DT_FLOAT
    return replace(model, nets=(replace(model.nets[0], data_type=kind),))


@pytest.mark.parametrize(("memory", "half"), WAYS)
def test_every_tensor_of_a_net_is_there_at_the_end(
    everything: Part, memory: Memory, half: bool
) -> None:
    model = for_memory(everything.model, memory, half=half)
    bare = lost(model, memory, half=half)
    # On a GPU a copy at the end reads them, but for fp32 in buffers.
    assert bool(bare) == ((memory, half) in {(Memory.CPU, False), (Memory.BUFFER, False)})
    assert not lost_if_held(model, memory, half=half)


@pytest.mark.parametrize(("memory", "half"), WAYS)
def test_nets_for_any_memory_keep_their_outputs_on_the_cpu(
    everything: Part, memory: Memory, half: bool
) -> None:
    model = for_memory(everything.model, memory, half=half)
    assert lost(model, Memory.CPU)
    assert not lost_if_held(model, Memory.CPU)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WAYS), st.sets(st.sampled_from("abcdefgh")), st.data())
def test_outputs_are_there_wherever_ops_fall_back(
    way: tuple[Memory, bool], on_cpu: set[str], data: st.DataObject
) -> None:
    memory, half = way
    # MACE itself aborts at Identity on a GPU.
    only_there = ["Identity"] if memory is Memory.CPU else []
    kinds = st.sampled_from(["Activation", "Conv2D", "Reshape", "Squeeze", *only_there])
    ops: list[tuple[str, list[str], str]] = []
    for index, output in enumerate("abcdefgh"):
        source = data.draw(st.sampled_from("yx" + "abcdefgh"[:index]))
        ops.append((data.draw(kinds), [source], output))
    outputs = sorted(data.draw(st.sets(st.sampled_from("abcdefgh"), min_size=1)))
    model = drawn(ops, outputs, memory, half=half)
    missing = lost_if_held(model, memory, half=half, on_cpu=" ".join(on_cpu))
    if memory is Memory.IMAGE:
        fell_back = adapted(model.nets[0], memory, half=half, on_cpu=on_cpu).on_cpu
        missing = {name for name in missing if lain_in(model.nets[0], name, fell_back) == name}
    assert not missing
    assert not lost_if_held(model, Memory.CPU)


@pytest.mark.parametrize(("memory", "half"), WAYS)
def test_what_falls_back_is_lost_without_a_reader(memory: Memory, half: bool) -> None:
    chain = [("Activation", [before], after) for before, after in zip("xabc", "abcd", strict=True)]
    model = drawn(chain, list("abcd"), memory, half=half)
    assert lost(model, memory, half=half, on_cpu="a b c d")
    # Made on the GPU in fp32 buffers, it is read by way of a copy that another op has had before.
    assert not lost_if_held(model, memory, half=half, on_cpu="b c")
    assert not lost_if_held(model, memory, half=half, on_cpu="a b c d")


@pytest.mark.parametrize(("memory", "half"), WAYS[1:])
def test_what_lies_in_a_copy_of_its_input_is_there_at_the_end(memory: Memory, half: bool) -> None:
    """Ops by themselves on a GPU: nobody reads an output, but it lies where others copy to."""
    model = drawn([("Reshape", ["x"], "a"), ("Tile", ["y"], "b")], ["a", "b"], memory, half=half)
    assert lost(model, memory, half=half, on_cpu="a b") == {"a"}
    assert not lost_if_held(model, memory, half=half, on_cpu="a b")


@pytest.mark.parametrize("memory", [Memory.BUFFER, Memory.IMAGE])
def test_the_reader_changes_no_values(
    files: tuple[MultiNetDef, bytes], everything: Part, memory: Memory
) -> None:
    inputs = inputs_of(files[0])
    expected = compute_part(everything, files[1], inputs)
    model = for_memory(everything.model, memory, half=False)
    ops = model.nets[0].ops
    for runtime, on_cpu in (
        (DeviceType.CPU, ()),
        (DeviceType.GPU, ()),
        (DeviceType.GPU, [op.name for op in ops[2:5]]),
    ):
        found = compute_part(
            replace(everything, model=held(model, runtime, on_cpu)), files[1], inputs
        )
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_the_reader_looks_at_no_values(everything: Part) -> None:
    for memory, runtime, type_name in (
        (Memory.IMAGE, DeviceType.CPU, "Shape"),
        (Memory.BUFFER, DeviceType.GPU, "Reshape"),
    ):
        model = for_memory(everything.model, memory, half=False)
        before, after = model.nets[0], held(model, runtime).nets[0]
        assert after.ops[: len(before.ops)] == before.ops
        assert after.output_infos == before.output_infos
        readers = after.ops[len(before.ops) :]
        assert {op.type for op in readers} == {type_name}
        assert len({op.name for op in after.ops}) == len(after.ops)


def test_outputs_that_nobody_else_has_need_no_reader(files: tuple[MultiNetDef, bytes]) -> None:
    single = Dissection(files[0]).alone([0]).model
    chain = drawn([("Conv2D", ["x"], "a"), ("Conv2D", ["a"], "b")], ["b"])
    for runtime in DeviceType.CPU, DeviceType.GPU:
        assert held(single, runtime) is single
        assert held(chain, runtime) is chain


def test_images_have_readers_already(everything: Part) -> None:
    model = for_memory(everything.model, Memory.IMAGE, half=False)
    assert held(model, DeviceType.GPU) is model


@pytest.mark.parametrize("half", [False, True])
def test_an_image_that_an_op_on_the_cpu_reads_is_made_twice(half: bool) -> None:
    """MACE would have one name for the image behind the output and for what that op reads."""
    ops = [("Conv2D", ["x"], "a"), ("Tile", ["a"], "b"), ("Conv2D", ["a"], "c")]
    model = drawn(ops, ["a", "b"], half=half)
    assert lost(model, Memory.IMAGE, half=half, on_cpu="b") == {"a"}
    assert not lost_if_held(model, Memory.IMAGE, half=half, on_cpu="b")
    (net,) = held(model, DeviceType.GPU, ["b"]).nets
    assert [op.type for op in net.ops] == ["Conv2D", "Conv2D", "Tile", "Conv2D"]
    assert net.ops[0].inputs == net.ops[1].inputs == ("x",)
    (inner,) = net.ops[0].outputs
    assert net.ops[1].outputs == ("a",)
    assert net.ops[2].inputs == net.ops[3].inputs == (inner,)


def test_a_twin_hands_out_only_what_is_asked_for() -> None:
    model = drawn([("Split", ["x"], "a"), ("Tile", ["a"], "c"), ("Conv2D", ["b"], "d")], ["a", "b"])
    (net,) = model.nets
    split = replace(net.ops[0], outputs=("a", "b"), output_shapes=net.ops[0].output_shapes * 2)
    model = replace(model, nets=(replace(net, ops=(split, *net.ops[1:])),))
    assert not lost_if_held(model, Memory.IMAGE, on_cpu="c")
    (net,) = held(model, DeviceType.GPU, ["c"]).nets
    made = [name for op in net.ops for name in op.outputs]
    assert len(set(made)) == len(made)
    assert net.ops[0].outputs[1] == "b"
    assert net.ops[1].outputs[0] == "a"


def test_names_that_are_taken_are_left_alone() -> None:
    model = drawn([("Conv2D", ["x"], "hold"), ("Conv2D", ["hold"], "hold0")], ["hold", "hold0"])
    names = [op.name for op in held(model, DeviceType.CPU).nets[0].ops]
    assert len(set(names)) == len(names) == 3
