"""MACE models that are damaged or made to harm: an error as mace_run's, in little memory and time.

All of them are run by two processes whose memory is limited, one per runtime; ``droidmace inspect``
reads them as well.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_harness import SAMPLES, LogReader, Phone
from engine_models import argument, make_gpu

from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.model import load_model
from droidmace.errors import DroidmaceError, EngineError, FormatError
from droidmace.formats.netdef import (
    ConstTensor,
    DataType,
    NetDef,
    OperatorDef,
    parse_model,
    serialize_model,
)
from droidmace.workflows.inspect import inspect_path

DEADLINE_S = 90
GRAPH = (SAMPLES / "tiny_gpu.pb").read_bytes()
WEIGHTS = (SAMPLES / "tiny_gpu.data").read_bytes()
NET = parse_model(GRAPH).nets[0]
BIG = 2**31
HUGE = 2**62


def graph_of(net: NetDef) -> bytes:
    return serialize_model(dataclasses.replace(parse_model(GRAPH), nets=(net,)))


def with_tensor(**changes: object) -> bytes:
    """The first constant changed."""
    first, *others = NET.tensors
    changed = dataclasses.replace(first, **changes)  # type: ignore[arg-type]
    return graph_of(dataclasses.replace(NET, tensors=(changed, *others)))


def with_net(**changes: object) -> bytes:
    return graph_of(dataclasses.replace(NET, **changes))  # type: ignore[arg-type]


def with_input(**changes: object) -> bytes:
    (info,) = NET.input_infos
    changed = dataclasses.replace(info, **changes)  # type: ignore[arg-type]
    return with_net(input_infos=(changed,))


def only(kind: str, *more: str, **arguments: object) -> bytes:
    """One op from the input to the output."""
    op = OperatorDef(
        inputs=("input", *more),
        outputs=("output",),
        name="the_op",
        type=kind,
        args=tuple(argument(name, value) for name, value in arguments.items()),  # type: ignore[arg-type]
    )
    sizes = ConstTensor(
        name="sizes", dims=(4,), data_type=DataType.DT_INT32, int32_data=(1, 2**20, 2**20, 3)
    )
    image_size = ConstTensor(
        name="size", dims=(2,), data_type=DataType.DT_INT32, int32_data=(2**20, 2**20)
    )
    return with_net(ops=(op,), tensors=(*NET.tensors, sizes, image_size))


def on_cpu(graph: bytes) -> bytes:
    """The same graph for the CPU; what cannot be read stays as it is."""
    try:
        model = parse_model(graph)
    except FormatError:
        return graph
    nets = []
    for net in model.nets:
        args = tuple(arg for arg in net.args if arg.name != "runtime_type")
        nets.append(dataclasses.replace(net, args=(*args, argument("runtime_type", 0))))
    return serialize_model(dataclasses.replace(model, nets=tuple(nets)))


@dataclass(frozen=True)
class Bad:
    """A graph, its weights, what the engine says (in either runtime) and what inspect says.

    ``inspects`` None: it can be inspected.
    """

    says: str
    inspects: str | None
    graph: bytes = GRAPH
    weights: bytes = WEIGHTS


FIRST = NET.tensors[0].name
CASES = {
    # the files
    "an empty graph": Bad("Invalid Arguments", "empty", b""),
    "a graph of text": Bad("Invalid Arguments", "neither a compiled", b"this is no graph at all"),
    "half a graph": Bad("Invalid Arguments", "field 3 claims 1469 bytes", GRAPH[: len(GRAPH) // 2]),
    "empty weights": Bad(f"'{FIRST}'", f"'{FIRST}'", weights=b""),
    "half the weights": Bad(
        "tensor '.*needs bytes", "needs bytes", weights=WEIGHTS[: len(WEIGHTS) // 2]
    ),
    "weights without the last byte": Bad(
        "tensor '.*needs bytes", "needs bytes", weights=WEIGHTS[:-1]
    ),
    # constants
    "a constant of 2^31": Bad(f"'{FIRST}'", f"'{FIRST}'", with_tensor(dims=(BIG, 3, 3, 3))),
    "a constant of 0": Bad(f"'{FIRST}'", f"'{FIRST}'", with_tensor(dims=(0, 3, 3, 3), data_size=0)),
    "a constant of -1": Bad(f"'{FIRST}'", f"'{FIRST}'", with_tensor(dims=(-1, 3, 3, 3))),
    "a constant of 200000 dimensions": Bad(
        f"'{FIRST}'", f"'{FIRST}'", with_tensor(dims=(HUGE,) * 200_000)
    ),
    "a constant of many": Bad(
        f"'{FIRST}'", f"'{FIRST}'", with_tensor(dims=(2**20, 2**20), data_size=2**40)
    ),
    "a constant far away": Bad(f"'{FIRST}'", f"'{FIRST}'", with_tensor(offset=HUGE)),
    "a constant before the start": Bad(f"'{FIRST}'", f"'{FIRST}'", with_tensor(offset=-4)),
    "a constant of no type": Bad(
        f"'{FIRST}'", f"'{FIRST}'", with_tensor(data_type=DataType.DT_INVALID)
    ),
    "constants elsewhere": Bad("tensor '", "tensor '", with_net(data_offset=2**31 - 1)),
    # inputs
    "an input of 0": Bad("input 'input' has", None, with_input(dims=(1, 0, 32, 3))),
    "an input of -1": Bad("input 'input' has", None, with_input(dims=(1, -1, 32, 3))),
    "an input of 1000 dimensions": Bad("'input' has 1000", None, with_input(dims=(1,) * 1000)),
    # ops
    "a circle": Bad(
        "nothing makes its input",
        None,
        with_net(ops=tuple(reversed(NET.ops))),
    ),
    "no op's output": Bad("can not find output in model: output", None, with_net(ops=NET.ops[:-1])),
    "an op twice": Bad("is there already", None, with_net(ops=(*NET.ops, NET.ops[-1]))),
    "an unknown op": Bad("Strange", None, only("Strange")),
    "huge strides": Bad("the_op", None, only("Conv2D", FIRST, strides=(BIG, BIG))),
    "huge padding": Bad("the_op", None, only("Pad", paddings=(0, 0, 2**20, 0, 2**20, 0, 0, 0))),
    "huge tiles": Bad("the_op", None, only("Tile", "sizes")),
    "huge fill": Bad("the_op", None, only("Fill", "sizes")),
    "huge reshape": Bad("the_op", None, only("Reshape", "sizes")),
    "huge resize": Bad("the_op", None, only("ResizeBilinear", "size", size=(2**20, 2**20))),
    "huge nearest": Bad("the_op", None, only("ResizeNearestNeighbor", "size", size=(2**20, 2**20))),
    "huge pooling": Bad(
        "the_op|Out of resources",
        None,
        only(
            "Pooling", kernels=(2, 2), strides=(1, 1), padding_values=(2**30, 2**30), pooling_type=2
        ),
    ),
    "huge blocks": Bad("the_op", None, only("DepthToSpace", block_size=2**20)),
    "blocks of 0": Bad("the_op", None, only("SpaceToDepth", block_size=0)),
    "huge deconvolution": Bad(
        "the_op", None, only("Deconv2D", FIRST, strides=(2**15, 2**15), padding_values=(0, 0))
    ),
}
"""Name to case."""
GOOD = Bad("", None)


@pytest.fixture(scope="module", params=["gpu", "cpu"])
def outcomes(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    icd_folders: dict[str, Path],
) -> dict[str, tuple[str, str]]:
    """Case to what the engine did, and said."""
    folder = tmp_path_factory.mktemp(request.param)
    change: Callable[[bytes], bytes] = on_cpu if request.param == "cpu" else bytes
    cases = []
    for index, (name, case) in enumerate({"good": GOOD, **CASES}.items()):
        graph, weights = folder / f"{index}.pb", folder / f"{index}.data"
        graph.write_bytes(change(case.graph))
        weights.write_bytes(case.weights)
        cases.append([name, str(graph), str(weights)])
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "limited_engine.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={
            **os.environ,
            "OCL_ICD_VENDORS": str(icd_folders["intel"]),
            "PYTHONPATH": str(here.parents[1]),
        },
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    ended = (str(done.returncode), done.stderr[-2000:])
    return {"ended": ended, **{name: (kind, message) for name, kind, message in found}}


def test_the_process_lives_and_runs_what_is_good(outcomes: dict[str, tuple[str, str]]) -> None:
    assert outcomes["ended"][0] == "0", outcomes["ended"][1]
    assert outcomes["good"] == ("ran", "")


@pytest.mark.parametrize("name", CASES)
def test_a_bad_net_is_one_clear_error(name: str, outcomes: dict[str, tuple[str, str]]) -> None:
    kind, message = outcomes[name]
    assert kind in {"EngineError", "aborted"}, (kind, message)
    assert re.search(CASES[name].says, message), message
    assert len(message) < 2000


@pytest.mark.parametrize("name", CASES)
def test_a_bad_net_inspected(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    graph = tmp_path / "net.pb"
    graph.write_bytes(case.graph)
    (tmp_path / "net.data").write_bytes(case.weights)
    if case.inspects is None:
        assert inspect_path(graph).kind == "multi-net-def"
        return
    with pytest.raises(DroidmaceError) as caught:
        inspect_path(graph)
    assert re.search(case.inspects, str(caught.value)), str(caught.value)[:500]
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("size", [2**15, 2**31 - 1])
def test_an_input_too_large_for_the_gpu(
    size: int, opencl_devices: dict[str, object], log_reader: LogReader
) -> None:
    """The GPU makes room for what is declared; the CPU goes by what it is fed."""
    graph = parse_model(with_input(dims=(1, size, size, 3)))
    gpu = make_gpu(opencl_devices["intel"], log_reader.log)
    with pytest.raises(EngineError, match="Out of resources"):
        GpuNet(load_model(graph, WEIGHTS), gpu)


def test_mace_run_logs_it_and_tries_again(phone: Phone) -> None:
    """For ever, as MACE does: whoever runs it watches the log."""
    (phone.folder / "tiny_gpu.data").write_bytes(WEIGHTS[:100])
    text = phone.run_until("Create engine runtime error, retry ...", 3)
    assert "errcode: Invalid Arguments: tensor" in text
