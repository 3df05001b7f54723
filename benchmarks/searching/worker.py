"""Times kernels of one net with every local size, in a process of its own with its own cores.

    python worker.py REQUEST.json

Without ``groups`` in the request it only tells what there is to measure. With them it measures
those groups pass after pass, each pass in another order, and appends a line to ``out`` for every
sample: ``[group, candidate, ms]``, ``[group, candidate, "reason"]`` for a size that the driver
refuses. A pass that is cut short when the time is up is kept as far as it went.

Times are OpenCL's own, from start to end of each command; a sample is the sum over the ops that
run the key. The memory beneath is the net's: a first inference filled it with real activations.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

import numpy as np  # noqa: E402
import pyopencl as cl  # noqa: E402

from droidmace.engine.create import EngineRequest, create_net  # noqa: E402
from droidmace.engine.flags import Flags  # noqa: E402
from droidmace.engine.gpu_net import GpuNet  # noqa: E402
from droidmace.engine.gpu_plan import GpuStep  # noqa: E402
from droidmace.engine.macelog import MaceLog, StdioStream  # noqa: E402
from droidmace.engine.opencl.runtime import Dispatch  # noqa: E402
from droidmace.engine.tuner import Tuner  # noqa: E402
from droidmace.tuning.journal_lines import KeyFacts  # noqa: E402
from droidmace.tuning.search import Params  # noqa: E402
from droidmace.tuning.space import key_space  # noqa: E402

Pair = tuple[int, int]
"""A group's place in the list, a candidate's in the group."""
_HOPELESS = 2.0
"""A candidate whose fastest sample is this many times the group's fastest is measured no more
once it has ``_FEW`` samples."""
_FEW = 4
_FIRST_PASS = 0.6
"""Share of the time that the first pass, which compiles, may take."""


def main() -> None:
    """See the module's docstring."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with contextlib.suppress(AttributeError):  # Linux has it
        os.sched_setaffinity(0, request["cores"])
    net = make_net(request)
    groups = list(groups_of(net))
    if "groups" not in request:
        facts = [{**one.facts, "default_ms": sample_ms(net, one, None)} for one in groups]
        survey = {"device": describe(net), "groups": facts}
        Path(request["out"]).write_text(json.dumps(survey), encoding="utf-8")
    else:
        chosen = [groups[index] for index in request["groups"]]
        with Path(request["out"]).open("a", encoding="utf-8", buffering=1) as out:
            for line in Measurement(net, chosen, request).lines():
                out.write(json.dumps(line) + "\n")
    # drivers that hang or crash while they are unloaded have nothing to lose any more
    os._exit(0)


def make_net(request: dict[str, Any]) -> GpuNet:
    """The net as ``mace_run --benchmark`` makes it, after two inferences."""
    environ = {"MACE_INTERNAL_STORAGE_PATH": "", "MACE_OPENCL_PROFILING": "1"}
    log = MaceLog.from_environment(dict(os.environ), StdioStream(2))
    model = request["model"]
    net = create_net(
        EngineRequest(
            graph=Path(model["graph"]).read_bytes(),
            weights=Path(model["data"]).read_bytes(),
            input_names=[model["input_name"]],
            output_names=[model["output_name"]],
            flags=Flags(),
            environ=environ,
            tuner=Tuner(log, environ, ""),
            log=log,
        )
    )
    if not isinstance(net, GpuNet):
        raise SystemExit("error: the net does not run on the GPU runtime")
    shape = model["input_shape"]
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    for _ in range(2):
        net.run({model["input_name"]: image})
    return net


def describe(net: GpuNet) -> dict[str, Any]:
    """The device as the driver names it."""
    device = net._gpu.device
    return {
        "device": device.device.name.strip(),
        "driver": f"{device.device.platform.name} {device.device.driver_version}",
        "platform_version": device.device.platform.version,
        "compute_units": device.compute_units,
        "cache_bytes": device.cache_bytes,
        "max_lws": list(device.max_work_item_sizes),
    }


class MeasuredGroup:
    """A tuning key, the dispatches that run under it, and its candidates; the first is the
    default."""

    def __init__(self, key: str, max_lws: tuple[int, ...]) -> None:
        self.key = key
        self.ops: list[str] = []
        self.dispatches: list[Dispatch] = []
        self._max_lws = max_lws

    def add(self, op: str, dispatch: Dispatch) -> None:
        """One more op that runs the key."""
        self.ops.append(op)
        self.dispatches.append(dispatch)

    @property
    def gws(self) -> tuple[int, ...]:
        """In work-items; the same for all ops."""
        (gws,) = {dispatch.gws for dispatch in self.dispatches}
        return gws

    @property
    def kwg_size(self) -> int:
        """The largest work-group that all of its kernels take."""
        return min(dispatch.kwg_size for dispatch in self.dispatches)

    @property
    def choices(self) -> list[Params | None]:
        """None (the default), what MACE tries, then every other legal size."""
        facts = KeyFacts(self.key, "", self.gws, self.kwg_size, self._max_lws)
        return [None, *key_space(facts).candidates]

    @property
    def ranks(self) -> list[int]:
        """By candidate how early it is measured, should time be short: MACE's own before powers of
        two before the rest.
        """
        mace = {None, *(params for one in self.dispatches for params in one.candidates())}

        def rank(params: Params | None) -> int:
            if params is None or params in mace:
                return 0
            return 1 if all(size & (size - 1) == 0 for size in params) else 2

        return [rank(params) for params in self.choices]

    @property
    def facts(self) -> dict[str, Any]:
        """What the survey tells."""
        return {
            "key": self.key,
            "ops": self.ops,
            "gws": self.gws,
            "kwg_size": self.kwg_size,
            "default": self.dispatches[0].default,
            "choices": self.choices,
        }


def groups_of(net: GpuNet) -> Iterator[MeasuredGroup]:
    """The keys of the net's ops, in the order in which they first run."""
    groups: dict[str, MeasuredGroup] = {}
    for step in net._steps:
        if not isinstance(step, GpuStep):
            continue
        assert step.dispatches is not None
        if len(step.dispatches) > 1:
            raise SystemExit(f"error: {step.name} runs several kernels: its keys are one group")
        for dispatch in step.dispatches:
            group = groups.setdefault(
                dispatch.key, MeasuredGroup(dispatch.key, net._gpu.device.max_work_item_sizes)
            )
            group.add(step.name, dispatch)
    yield from groups.values()


class Measurement:
    """Samples of all candidates of some groups, in passes."""

    def __init__(self, net: GpuNet, groups: list[MeasuredGroup], request: dict[str, Any]) -> None:
        self._net = net
        self._groups = groups
        self._names: list[int] = request["groups"]
        self._choices = [group.choices for group in groups]
        self._request = request
        self._generator = random.Random(request["seed"])
        self._fastest: dict[Pair, float] = {}
        self._best: dict[int, float] = {}

    def lines(self) -> Iterator[tuple[Any, ...]]:
        """A line for each sample, until the passes are done or the deadline has come."""
        pairs = self._first_pairs()
        begun_s, seconds = time.monotonic(), self._request["seconds"]
        first_s = begun_s + seconds * _FIRST_PASS
        yield from self._pass(pairs, first_s, warm_up=self._compiles)
        for number in range(1, self._request["passes"]):
            pairs = [pair for pair in pairs if self._is_open(pair, number)]
            self._generator.shuffle(pairs)
            yield from self._pass(pairs, begun_s + seconds, warm_up=False)

    @property
    def _compiles(self) -> bool:
        compiles: bool = self._request["compiles_per_size"]
        return compiles

    def _first_pairs(self) -> list[Pair]:
        ranked = [
            (rank, self._generator.random(), (place, index))
            for place, group in enumerate(self._groups)
            for index, rank in enumerate(group.ranks)
            if rank <= self._request["most_rank"]
        ]
        return [pair for *_, pair in sorted(ranked)]

    def _is_open(self, pair: Pair, samples: int) -> bool:
        """Whether ``pair`` is worth a further sample; what was refused or never came is not."""
        if pair not in self._fastest:
            return False
        place, index = pair
        best_ms = self._best[place]
        return index == 0 or samples < _FEW or self._fastest[pair] <= _HOPELESS * best_ms

    def _pass(
        self, pairs: list[Pair], until_s: float, *, warm_up: bool
    ) -> Iterator[tuple[Any, ...]]:
        for place, index in pairs:
            if time.monotonic() > until_s:
                return
            group, params = self._groups[place], self._choices[place][index]
            try:
                if warm_up:
                    sample_ms(self._net, group, params)
                time_ms = sample_ms(self._net, group, params, self._request["rounds"])
            except cl.Error as exc:
                yield (self._names[place], index, str(exc)[:120])
                continue
            pair = (place, index)
            self._fastest[pair] = min(time_ms, self._fastest.get(pair, time_ms))
            self._best[place] = min(time_ms, self._best.get(place, time_ms))
            yield (self._names[place], index, time_ms)


def sample_ms(net: GpuNet, group: MeasuredGroup, params: Params | None, rounds: int = 1) -> float:
    """Mean time of all the group's commands over some rounds, in ms. Raises ``cl.Error``."""
    gpu = net._gpu
    events = [
        event
        for _ in range(rounds)
        for dispatch in group.dispatches
        for event in gpu._launch(dispatch, dispatch.default if params is None else params)
    ]
    gpu.device.queue.finish()
    return sum(event.profile.end - event.profile.start for event in events) / 1e6 / rounds


if __name__ == "__main__":
    main()
