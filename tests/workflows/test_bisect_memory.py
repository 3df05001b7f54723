"""Bisections on a phone whose ``mace_run`` shares memory and falls back to the CPU as MACE does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from droidmace.formats.netdef import (
    Argument,
    DataType,
    MemoryType,
    MultiNetDef,
    NetDef,
    OperatorDef,
    OutputShape,
)
from droidmace.graphs.parts import Dissection
from droidmace.graphs.variants import in_memory
from droidmace.results import DeviceInfo
from droidmace.results.bisect import Cause
from droidmace.workflows import bisect_runs
from droidmace.workflows.bisect_finding import Finding
from droidmace.workflows.bisect_search import Hunt
from droidmace.workflows.bisect_sentence import sentence_of
from tests.workflows.fashion_net import GRAPH, OPS, WEIGHTS, spoilt
from tests.workflows.mace_phone import WHOLE, MacePhone, runner_on

WRONG = OPS[6].name
DEVICE = DeviceInfo("S1", "device", model="Phone", gpu="Adreno")


def model_for(memory: MemoryType, *, half: bool = False) -> MultiNetDef:
    model = in_memory(GRAPH, memory)
    kind = DataType.DT_HALF if half else DataType.DT_FLOAT
    return replace(model, nets=(replace(model.nets[0], data_type=kind),))


def wrong_op(net: NetDef, name: str = WRONG) -> NetDef:
    """With a multiplication behind an op, and behind what computes the same."""
    ops: list[OperatorDef] = []
    wrong = [op.inputs for op in net.ops if op.name == name]
    for op in net.ops:
        ops += spoilt(op) if op.inputs in wrong else [op]
    return replace(net, ops=tuple(ops))


def hunt(phone: MacePhone, model: MultiNetDef, memory_bytes: int = 1 << 30) -> Finding:
    random = np.random.default_rng(5)
    inputs = {
        info.name: random.uniform(0, 1, info.dims).astype(np.float32)
        for info in model.nets[0].input_infos
    }
    runner = runner_on(phone, model, inputs)
    contents = {name: values.tobytes() for name, values in inputs.items()}
    return Hunt(runner, WHOLE, WEIGHTS, contents, memory_bytes).hunt()


def said(finding: Finding) -> str:
    return sentence_of(finding, GRAPH.nets[0], DEVICE, half=False)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("memory", [MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER])
def test_memory_that_tensors_share_is_nobody_s_fault(memory: MemoryType, half: bool) -> None:
    found = hunt(MacePhone(WEIGHTS), model_for(memory, half=half))
    assert found.cause is Cause.NOTHING
    assert len(found.ops) == len(OPS)


def test_it_would_be_without_readers_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above tests something."""
    monkeypatch.setattr(bisect_runs, "held", lambda model, *_: model)
    found = hunt(MacePhone(WEIGHTS), model_for(MemoryType.GPU_IMAGE))
    assert any(op.wrong for op in found.ops)


@pytest.mark.parametrize("memory", [MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER])
def test_the_wrong_op_is_named_where_few_tensors_fit(memory: MemoryType) -> None:
    """Cuts ask the GPU for tensors that other ops read as well."""
    found = hunt(MacePhone(WEIGHTS, spoil=wrong_op), model_for(memory), memory_bytes=100_000)
    assert found.culprit is not None
    assert found.culprit.name == WRONG
    assert len(found.ops) < len(OPS)


@pytest.mark.parametrize("reader", range(7, len(OPS) - 2, 4))
def test_the_wrong_op_is_named_where_cuts_meet_the_cpu(reader: int) -> None:
    """The images of some cut are what ops on the CPU read."""
    phone = MacePhone(WEIGHTS, on_cpu=frozenset({OPS[reader].name}), spoil=wrong_op)
    found = hunt(phone, model_for(MemoryType.GPU_IMAGE), memory_bytes=100_000)
    assert found.culprit is not None
    assert found.culprit.name == WRONG


@pytest.mark.parametrize("before", range(2, len(OPS) - 2, 4))
def test_the_wrong_op_is_named_where_cuts_meet_what_lies_in_its_input(before: int) -> None:
    """The copies of a cut's other tensors would overwrite it."""
    model = model_for(MemoryType.GPU_IMAGE)
    (net,) = model.nets
    read = net.ops[before].inputs[0]
    flat = OperatorDef(
        type="ExpandDims",
        name="flat",
        inputs=(read,),
        outputs=("flat",),
        output_shapes=(OutputShape((1, *net.ops[before - 1].output_shapes[0].dims)),),
        args=(Argument(name="axis", ints=(0,)),),
    )
    shape = OutputShape(flat.output_shapes[0].dims[1:])
    back = replace(flat, type="Squeeze", name="back", inputs=("flat",), outputs=("back",))
    back = replace(back, output_shapes=(shape,))
    reader = replace(net.ops[before], inputs=("back", *net.ops[before].inputs[1:]))
    ops = (*net.ops[:before], flat, back, reader, *net.ops[before + 1 :])
    model = replace(model, nets=(replace(net, ops=ops),))
    phone = MacePhone(WEIGHTS, on_cpu=frozenset({"flat", "back"}), spoil=wrong_op)
    found = hunt(phone, model, memory_bytes=100_000)
    assert found.culprit is not None
    assert found.culprit.name == WRONG


def test_what_lies_in_its_input_on_the_cpu_is_told_and_not_run_by_itself() -> None:
    """In images its output is nobody's in the end, unless it is known where it was made."""
    model = model_for(MemoryType.GPU_IMAGE)
    (net,) = model.nets
    shape = net.ops[-1].output_shapes[0]
    flat = OperatorDef(
        type="ExpandDims",
        name="flat",
        inputs=net.ops[-1].outputs,
        outputs=("flat",),
        output_shapes=(replace(shape, dims=(1, *shape.dims)),),
    )
    last = replace(net.output_infos[0], name="flat", dims=(1, *shape.dims))
    model = replace(model, nets=(replace(net, ops=(*net.ops, flat), output_infos=(last,)),))
    found = hunt(MacePhone(WEIGHTS, on_cpu=frozenset({"flat"})), model)
    assert found.cause is Cause.NOTHING
    assert "flat" not in {op.name for op in found.ops}
    assert "MACE runs 'flat' on the CPU" in said(found)


@pytest.mark.parametrize("memory", [MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER])
def test_ops_that_fall_back_are_told_and_not_judged(memory: MemoryType) -> None:
    names = frozenset({OPS[2].name, OPS[3].name, WRONG})
    found = hunt(MacePhone(WEIGHTS, on_cpu=names), model_for(memory))
    assert found.cause is Cause.NOTHING
    assert {op.name for op in found.ops if op.on_cpu} == names == found.on_cpu
    assert f"{len(OPS) - 3} of {len(OPS)} ops are right by themselves" in said(found)
    assert f"MACE runs {OPS[2].name!r}" in said(found)


def test_an_op_on_the_cpu_is_not_blamed() -> None:
    phone = MacePhone(WEIGHTS, on_cpu=frozenset({WRONG}), spoil=wrong_op)
    found = hunt(phone, model_for(MemoryType.GPU_IMAGE))
    assert found.cause is Cause.IN_NET
    assert not any(op.wrong for op in found.ops)
    assert repr(WRONG) in found.warnings[0]
    assert "on the CPU" in found.warnings[0]
    assert "every op on the GPU is right by itself" in said(found)


def test_a_net_that_runs_on_the_cpu_only_is_not_judged() -> None:
    phone = MacePhone(WEIGHTS, on_cpu=frozenset(op.name for op in OPS))
    found = hunt(phone, model_for(MemoryType.GPU_IMAGE))
    assert found.cause is Cause.UNJUDGED
    assert not found.wrong
    assert "MACE runs all of them on the CPU" in said(found)


def test_what_the_net_has_on_the_gpu_goes_first() -> None:
    """An op that only by itself runs on the GPU does not make the net wrong."""
    earlier = OPS[1].name
    phone = MacePhone(WEIGHTS, on_cpu=frozenset({earlier}), on_cpu_alone=frozenset())
    phone.spoil = lambda net: wrong_op(wrong_op(net), earlier)
    found = hunt(phone, model_for(MemoryType.GPU_IMAGE))
    assert found.culprit is not None
    assert found.culprit.name == WRONG
    assert [op.name for op in found.ops if op.wrong] == [earlier, WRONG]
    assert "In the whole net" not in said(found)

    phone.spoil = lambda net: wrong_op(net, earlier)
    found = hunt(phone, model_for(MemoryType.GPU_IMAGE))
    assert found.culprit is not None
    assert found.culprit.name == earlier
    assert "In the whole net MACE runs it on the CPU" in said(found)


def test_a_suspect_that_is_right_on_the_cpu_acquits_no_memory() -> None:
    """MACE has few kernels for buffers: that an op is right there may be the CPU's merit."""
    phone = MacePhone(WEIGHTS, spoil=wrong_op, on_cpu_in_buffers=frozenset({WRONG}))
    found = hunt(phone, model_for(MemoryType.GPU_IMAGE))
    assert found.culprit is not None
    (suspect,) = [one for one in found.suspects if one.name == "in buffers"]
    assert suspect.error is None
    assert "on the CPU" in suspect.why_not
    assert "buffers" not in said(found)


@pytest.mark.parametrize("half", [False, True])
def test_a_net_whose_own_output_mace_overwrites_is_no_op_s_fault(half: bool) -> None:
    """In images it takes an op on the CPU that makes it."""
    model = model_for(MemoryType.GPU_IMAGE, half=half)
    net = model.nets[0]
    maker = net.ops[4]
    output = Dissection(model).activations[maker.outputs[0]].info(maker.outputs[0])
    model = replace(model, nets=(replace(net, output_infos=(*net.output_infos, output)),))
    phone = MacePhone(WEIGHTS, on_cpu=frozenset(op.name for op in net.ops[4:7]))
    found = hunt(phone, model)
    assert {one.name for one in found.outputs if one.differs} == {output.name}
    assert found.cause is Cause.IN_NET
    assert found.culprit is None
    assert f"MACE overwrites {output.name!r}" in said(found)


def test_too_little_memory_to_judge_any_op_is_told() -> None:
    found = hunt(MacePhone(WEIGHTS), model_for(MemoryType.GPU_IMAGE), memory_bytes=1000)
    assert found.cause is Cause.UNJUDGED
    assert not found.ops
    needed = 2 * sum(one.size_bytes for one in Dissection(GRAPH).activations.values())
    assert f"--memory {math.ceil(needed / (1 << 20))} " in found.warnings[0]
