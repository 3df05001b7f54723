"""One ONNX node on the GPU runtime, by way of the converter, against onnxruntime."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from engine_models import in_memory, make_gpu
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from droidmace.config import ModelConfig, TensorSpec
from droidmace.convert import convert_model
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.macelog import MaceLog
from droidmace.engine.model import Model, load_model
from droidmace.engine.opencl.runtime import Dispatch, Gpu
from droidmace.formats.netdef import MemoryType, parse_model

Values = npt.NDArray[Any]
SETTINGS = settings(
    max_examples=7,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
MEMORIES = (MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER)
SIZES = st.integers(1, 9)
"""Of an axis: tiny and odd ones, none that is only divisible by 4."""
CHANNELS = st.integers(1, 11)
_LOCAL_3D, _LOCAL_2D = (2, 1, 2, 0), (4, 1, 0)


class SmallGroups(Gpu):
    """A GPU whose work-groups are small and all alike: some drivers compile for each size anew."""

    def bind(self, *args: Any, gws: tuple[int, ...], **kwargs: Any) -> Dispatch:
        """See :class:`Gpu`."""
        dispatch = super().bind(*args, gws=gws, **kwargs)
        dispatch.default = _LOCAL_3D if len(gws) == 3 else _LOCAL_2D
        return dispatch


def make_engine(device: object, log: MaceLog) -> Gpu:
    """A device for many small nets."""
    gpu = make_gpu(device, log)
    return SmallGroups(gpu.device, gpu.programs, gpu.tuner, log)


def floats(*shape: int, seed: int = 0) -> Values:
    """Random numbers of order 1."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape, dtype=np.float32)


def images(*, channels: st.SearchStrategy[int] = CHANNELS) -> st.SearchStrategy[tuple[int, ...]]:
    """NCHW shapes."""
    return st.tuples(st.integers(1, 2), channels, SIZES, SIZES)


def check(
    gpu: Gpu,
    op_type: str,
    inputs: Mapping[str, Values],
    constants: Mapping[str, Values] | None = None,
    *,
    order: Sequence[str] = (),
    outputs: int = 1,
    opset: int = 13,
    tolerance: float = 1e-4,
    mace_ops: Sequence[str] = (),
    runtime: str = "gpu",
    **attributes: Any,
) -> None:
    """Run a node on the device, in images and in buffers, and compare with onnxruntime.

    ``order`` names the node's inputs if it is not ``inputs`` then ``constants``. ``mace_ops`` are
    op types of which the converted net must have one. ``runtime``: what to convert it for; a net
    for the CPU may hold what MACE's GPU runtime does not have but ours does.
    """
    names = order or [*inputs, *(constants or {})]
    outs = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(op_type, names, outs, name="node", **attributes)

    def declare(shapes: Mapping[str, tuple[int, ...] | None]) -> bytes:
        graph = helper.make_graph(
            [node],
            "one",
            [_declared(name, value.shape) for name, value in inputs.items()],
            [_declared(name, shape) for name, shape in shapes.items()],
            [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return bytes(model.SerializeToString())

    expected = _by_onnxruntime(declare(dict.fromkeys(outs)), inputs, outs)
    data = declare({name: value.shape for name, value in expected.items()})
    made = _convert(data, inputs, expected, runtime)
    if mace_ops:
        types = [op.type for op in made.net.ops]
        assert any(kind in types for kind in mace_ops), types
    for memory in MEMORIES:
        net = GpuNet(in_memory(made, memory), gpu)
        found = net.run({name: _to_nhwc(value) for name, value in inputs.items()})
        for name, wanted in expected.items():
            ours = found[name].reshape(_nhwc_shape(wanted.shape))
            compare(ours, _to_nhwc(wanted), tolerance, memory.name)


def _declared(name: str, shape: tuple[int, ...] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _by_onnxruntime(
    data: bytes, inputs: Mapping[str, Values], outputs: Sequence[str]
) -> dict[str, Values]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(list(outputs), dict(inputs)), strict=True))


def compare(ours: Values, wanted: Values, tolerance: float, where: str) -> None:
    """Both hold the same numbers, to within ``tolerance`` of the largest."""
    scale = max(float(np.abs(wanted).max(initial=0)), 1.0)
    error = float(np.abs(ours - wanted).max(initial=0)) / scale
    assert math.isfinite(error), where
    assert error <= tolerance, f"{where}: off by {error}"


def _convert(
    data: bytes, inputs: Mapping[str, Values], outputs: Mapping[str, Values], runtime: str
) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        path.write_bytes(data)
        config = ModelConfig(
            name="one",
            platform="onnx",
            model_file=path,
            model_sha256=None,
            weight_file=None,
            weight_sha256=None,
            inputs=_specs(inputs),
            outputs=_specs(outputs),
            runtime=runtime,
            data_type="fp32_fp32",
        )
        converted = convert_model(config)
    return load_model(parse_model(converted.graph), converted.data)


def _specs(values: Mapping[str, Values]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, value.shape, data_format="NCHW" if value.ndim == 4 else "NONE")
        for name, value in values.items()
    )


def _to_nhwc(values: Values) -> Values:
    moved = values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
    return np.ascontiguousarray(moved, np.float32)


def _nhwc_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape
