"""The search with every op wrong in turn; parts run in this process, on the engine's CPU nets."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.macelog import MaceLog
from droidmace.engine.model import load_model
from droidmace.errors import MaceRunOutputError
from droidmace.formats.netdef import (
    DeviceType,
    MultiNetDef,
    OperatorDef,
    parse_model,
    serialize_model,
)
from droidmace.graphs.parts import Dissection, Part
from droidmace.graphs.runtime import on_runtime
from droidmace.results.bisect import BisectRun, Cause
from droidmace.workflows.bisect_finding import Finding
from droidmace.workflows.bisect_runs import Tensors, fetched
from droidmace.workflows.bisect_search import Hunt
from tests.workflows.fashion_net import GRAPH, OPS, WEIGHTS, spoilt

ALL_BYTES = 2 * sum(one.size_bytes for one in Dissection(GRAPH).activations.values())


@dataclass
class Bench:
    """Stands in for a phone whose GPU computes one op wrong."""

    wrong_op: str | None
    only_inside: bool = False
    runs: list[BisectRun] = field(default_factory=list)
    on_cpu: frozenset[str] = frozenset()
    largest_bytes: int = 0

    def __post_init__(self) -> None:
        random = np.random.default_rng(5)
        (info,) = GRAPH.nets[0].input_infos
        self.dissection = Dissection(GRAPH)
        image = random.uniform(0, 1, info.dims).astype(np.float32)
        self.kept: dict[str, np.ndarray] = {info.name: image}
        model = SimpleNamespace(similarity_threshold=0.995, inputs=())
        self.desk = SimpleNamespace(dissection=self.dissection, model=model)

    def whole_net(self, model_file: str, runtime: DeviceType, what: str) -> Tensors:
        self.runs.append(BisectRun(runtime.name.lower(), what))
        return self._compute(GRAPH, WEIGHTS, self.kept, runtime)

    def part(
        self,
        part: Part,
        runtime: DeviceType,
        what: str,
        *,
        weights: bytes | None = None,
        inputs: Mapping[str, bytes] | None = None,
        keep: bool = False,
        on_cpu: Collection[str] = (),
    ) -> Tensors:
        assert inputs is None
        self.runs.append(BisectRun(runtime.name.lower(), what))
        # Only what was kept is there to be read, as on a phone.
        fed = {short: self.kept[name] for name, short in part.inputs.items()}
        made = self._compute(part.model, weights or WEIGHTS, fed, runtime)
        found = {name: made[short] for name, short in part.outputs.items()}
        if keep:
            self.kept.update(found)
        moved = [*fed.values(), *found.values()]
        self.largest_bytes = max(self.largest_bytes, sum(one.nbytes for one in moved))
        return found

    def _compute(
        self,
        graph: MultiNetDef,
        weights: bytes,
        inputs: Mapping[str, np.ndarray],
        runtime: DeviceType,
    ) -> dict[str, np.ndarray]:
        again = parse_model(serialize_model(on_runtime(graph, DeviceType.CPU)))
        if runtime is DeviceType.GPU:
            again = self._spoilt(again)
        return CpuNet(load_model(again, weights), MaceLog({})).run(inputs)

    def _spoilt(self, graph: MultiNetDef) -> MultiNetDef:
        """With a multiplication behind the wrong op."""
        (net,) = graph.nets
        read = {name for op in net.ops for name in op.inputs}
        ops: list[OperatorDef] = []
        for op in net.ops:
            wrong = op.name == self.wrong_op and (not self.only_inside or op.outputs[0] in read)
            ops += spoilt(op) if wrong else [op]
        return replace(graph, nets=(replace(net, ops=tuple(ops)),))


def hunt(bench: Bench, memory_bytes: int = 1 << 30) -> Finding:
    found = Hunt(bench, "whole.pb", WEIGHTS, {}, memory_bytes).hunt()  # type: ignore[arg-type]
    assert len(bench.runs) <= math.log2(len(OPS)) + 3
    return found


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_wrong_op_is_named(op: OperatorDef) -> None:
    bench = Bench(op.name)
    found = hunt(bench)
    assert found.cause is Cause.KERNEL
    assert found.culprit is not None
    assert found.culprit.name == op.name
    assert [one.name for one in found.ops if one.wrong] == [op.name]
    assert len(bench.runs) == 4
    assert found.reproduction is not None
    assert len(found.reproduction.part.model.nets[0].ops) == 1


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([op.name for op in OPS]), st.integers(1, ALL_BYTES - 1))
def test_it_is_named_whatever_fits_into_memory(name: str, memory_bytes: int) -> None:
    bench = Bench(name)
    found = hunt(bench, memory_bytes)
    if not any(one.differs for one in found.outputs):
        # What is not seen in the outputs cannot be halved towards.
        assert found.cause is Cause.UNJUDGED
        assert "--memory" in found.warnings[0]
        return
    assert found.culprit is not None
    assert found.culprit.name == name
    assert bench.largest_bytes < ALL_BYTES


def test_few_wrong_ops_hide_from_the_outputs() -> None:
    """So that the test above tests something."""
    seen = [any(one.differs for one in hunt(Bench(op.name)).outputs) for op in OPS]
    assert sum(seen) > len(OPS) * 0.6


@pytest.mark.parametrize("index", [2, 5, 9, 12, 16])
def test_what_is_wrong_inside_only_is_cornered(index: int) -> None:
    bench = Bench(OPS[index].name, only_inside=True)
    found = hunt(bench)
    assert found.cause is Cause.IN_NET
    assert not any(one.wrong for one in found.ops)
    # A cut right behind the op leaves nobody who reads it: it is right there.
    first, last = found.suspected
    assert first <= index + 1
    assert last in {index, index + 1}


def test_a_right_net_takes_three_runs() -> None:
    bench = Bench(None)
    found = hunt(bench)
    assert found.cause is Cause.NOTHING
    assert [run.runtime for run in bench.runs] == ["cpu", "gpu", "gpu"]
    assert len(found.ops) == len(OPS)


class Swapping(Bench):
    """Its GPU writes what one op makes as NCHW, wherever NHWC is asked for."""

    def part(
        self,
        part: Part,
        runtime: DeviceType,
        what: str,
        *,
        weights: bytes | None = None,
        inputs: Mapping[str, bytes] | None = None,
        keep: bool = False,
        on_cpu: Collection[str] = (),
    ) -> Tensors:
        found = dict(Bench.part(self, part, runtime, what, weights=weights, keep=keep))
        for name, values in found.items():
            maker = OPS[self.dissection.activations[name].op_index]
            if runtime is DeviceType.GPU and maker.name == SWAPPED:
                found[name] = values.transpose(0, 3, 1, 2).reshape(values.shape)
        return found


SWAPPED = next(op.name for op in OPS if op.type == "DepthwiseConv2d")


def test_a_convolution_that_swaps_axes_is_wrong() -> None:
    found = hunt(Swapping(None))
    assert found.culprit is not None
    assert found.culprit.name == SWAPPED


def test_where_the_cpu_has_no_numbers_is_told() -> None:
    bench = Bench(None)
    (info,) = GRAPH.nets[0].input_infos
    bench.kept[info.name] = np.full(info.dims, np.nan, np.float32)
    (warning,) = hunt(bench).warnings
    assert repr(OPS[0].name) in warning
    assert "no finite numbers on the CPU" in warning


@pytest.mark.parametrize("length", [0, 3, 4])
def test_a_tensor_of_another_size_is_an_error_with_its_name(length: int) -> None:
    def pull(path: str, target: Path, *, max_bytes: int) -> None:
        target.write_bytes(bytes(length))

    device = SimpleNamespace(serial="one", pull=pull)
    dissection = Dissection(GRAPH)
    desk = SimpleNamespace(device=device, dissection=dissection)
    name = next(iter(dissection.activations))
    with pytest.raises(MaceRunOutputError, match=name):
        fetched(desk, {name: "/data/t"})  # type: ignore[arg-type]
