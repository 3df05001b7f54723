"""Values of nets and of their parts, by the engine's CPU nets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.macelog import MaceLog
from droidmace.engine.model import load_model
from droidmace.formats.netdef import DeviceType, MultiNetDef, parse_model, serialize_model
from droidmace.graphs.parts import Part
from droidmace.graphs.runtime import on_runtime


def compute(
    graph: MultiNetDef, weights: bytes, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The engine's CPU net, from the bytes of a file."""
    again = parse_model(serialize_model(on_runtime(graph, DeviceType.CPU)))
    return CpuNet(load_model(again, weights), MaceLog({})).run(inputs)


def compute_part(
    part: Part, weights: bytes, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """By the whole net's names."""
    fed = {short: tensors[name] for name, short in part.inputs.items()}
    found = compute(part.model, weights, fed)
    return {name: found[short] for name, short in part.outputs.items()}


def inputs_of(graph: MultiNetDef) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        info.name: random.uniform(0, 1, info.dims).astype(np.float32)
        for info in graph.nets[0].input_infos
    }
