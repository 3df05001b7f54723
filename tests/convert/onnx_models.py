"""Small ONNX models and their declarations, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from mace_interpreter import run_model
from onnx import TensorProto, helper, numpy_helper

from droidmace.config import ModelConfig, TensorSpec
from droidmace.convert import convert_model
from droidmace.formats.netdef import MultiNetDef, parse_model


def save_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 13,
) -> Path:
    """Write an ONNX model; checked, so that a test never builds nonsense by accident."""

    def info(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    graph = helper.make_graph(
        list(nodes),
        "test",
        [info(name, shape) for name, shape in inputs.items()],
        [info(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def declare(
    path: Path,
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
    **changes: object,
) -> ModelConfig:
    """A deployment file's entry for the model; every tensor NCHW unless it is not an image."""

    def specs(shapes: dict[str, tuple[int, ...]]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, shape, data_format="NCHW" if len(shape) == 4 else "NONE")
            for name, shape in shapes.items()
        )

    values: dict[str, object] = {
        "name": "test",
        "platform": "onnx",
        "model_file": path,
        "model_sha256": None,
        "weight_file": None,
        "weight_sha256": None,
        "inputs": specs(inputs),
        "outputs": specs(outputs),
        "data_type": "fp32_fp32",
    }
    return ModelConfig(**{**values, **changes})  # type: ignore[arg-type]


def nhwc(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def compare_with_onnxruntime(
    config: ModelConfig, *, seed: int = 0, count: int = 3, tolerance: float = 1e-5
) -> MultiNetDef:
    """Convert, run the result and the ONNX file on random inputs, and compare every output."""
    converted = convert_model(config)
    graph = parse_model(converted.graph)
    session = onnxruntime.InferenceSession(config.model_file, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    for _ in range(count):
        inputs = {
            spec.name: random.standard_normal(spec.shape, dtype=np.float32)
            for spec in config.inputs
        }
        names = [spec.name for spec in config.outputs]
        expected = session.run(names, inputs)
        found = run_model(
            graph, converted.data, {name: nhwc(value) for name, value in inputs.items()}
        )
        for name, value in zip(names, expected, strict=True):
            reference = nhwc(value)
            np.testing.assert_allclose(
                found[name].reshape(reference.shape), reference, rtol=tolerance, atol=tolerance
            )
    return graph


def op_types(model: MultiNetDef) -> list[str]:
    return [op.type for op in model.nets[0].ops]
