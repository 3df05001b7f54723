"""Running one op: on the engine's CPU runtime, and as one ONNX node with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from droidmace.engine.cpu.base import CpuContext
from droidmace.engine.cpu.ops import run_op
from droidmace.engine.shapes import output_shapes
from droidmace.formats.netdef import Argument, DataType, OperatorDef

Values = npt.NDArray[Any]
ArgumentValue = int | float | str | Sequence[int] | Sequence[float]
AUTO, NCHW, NHWC, NONE = 1000, 2, 1, 0


def cpu_op(
    kind: str,
    inputs: Sequence[Values],
    *,
    constants: Sequence[int] | None = None,
    outputs: int = 1,
    on_gpu: bool = False,
    output_type: DataType | None = None,
    **arguments: ArgumentValue,
) -> list[Values]:
    """What the op makes of ``inputs``; those numbered in ``constants`` are the model's constants
    (all but the first, if nothing is said).

    The shapes foretold must be those of the results.
    """
    names = [f"i{index}" for index in range(len(inputs))]
    op = OperatorDef(
        inputs=tuple(names),
        outputs=tuple(f"o{index}" for index in range(outputs)),
        name="the_op",
        type=kind,
        args=tuple(argument(name, value) for name, value in arguments.items()),
        output_types=() if output_type is None else (output_type,),
    )
    chosen = range(1, len(inputs)) if constants is None else constants
    known = {names[index]: inputs[index] for index in chosen}
    results = run_op(op, inputs, CpuContext(known, on_gpu=on_gpu))
    foretold = output_shapes(op, [value.shape for value in inputs], known, on_gpu=on_gpu)
    assert [value.shape for value in results] == foretold
    assert all(value.dtype in (np.float32, np.int32) for value in results)
    return results


def argument(name: str, value: ArgumentValue) -> Argument:
    """A MACE argument of the right kind for ``value``."""
    if isinstance(value, str):
        return Argument(name=name, s=value.encode())
    if isinstance(value, Sequence):
        if any(isinstance(item, float) for item in value):
            return Argument(name=name, floats=tuple(float(item) for item in value))
        return Argument(name=name, ints=tuple(int(item) for item in value))
    return (
        Argument(name=name, f=value) if isinstance(value, float) else Argument(name=name, i=value)
    )


def onnx_node(
    kind: str,
    inputs: Sequence[Values | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    outputs: int = 1,
    opset: int = 17,
) -> list[Values]:
    """What onnxruntime makes of one node."""
    names = ["" if value is None else f"i{index}" for index, value in enumerate(inputs)]
    made = [f"o{index}" for index in range(outputs)]
    node = onnx.helper.make_node(kind, names, made, **(attributes or {}))
    feeds = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    declared = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in feeds.items()
    ]
    graph = onnx.helper.make_graph(
        [node], "node", declared, [onnx.ValueInfoProto(name=name) for name in made]
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def to_nchw(values: Values) -> Values:
    """NHWC values as NCHW."""
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def to_nhwc(values: Values) -> Values:
    """NCHW values as NHWC."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def noise(seed: int, *shape: int) -> Values:
    """Values around 0."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def close(actual: Values, expected: Values, *, atol: float = 1e-4) -> None:
    """Check shape, and values within 1e-4 of each other."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=atol)
