"""MACE ops and constants to the two files of a model: the graph and its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from droidmace.config import ModelConfig, TensorSpec
from droidmace.convert.graph import Array
from droidmace.convert.mace_ops import FRAMEWORK_ONNX, ArgumentValue, OpDraft
from droidmace.convert.obfuscate import obfuscate
from droidmace.errors import ModelError
from droidmace.formats.netdef import (
    Argument,
    ConstTensor,
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

OFFSET_ALIGNMENT = 4
"""MACE starts every tensor's weights at a multiple of this many bytes."""
RUNTIMES = {"cpu": DeviceType.CPU, "gpu": DeviceType.GPU, "cpu+gpu": DeviceType.GPU}
"""``runtime`` in a deployment file to ``runtime_type``; MACE treats cpu+gpu as gpu."""
MEMORY_TYPES = {"image": MemoryType.GPU_IMAGE, "buffer": MemoryType.GPU_BUFFER}
"""``cl_mem_type`` in a deployment file to ``opencl_mem_type``."""
BORDER_TYPES = {"float32": DataType.DT_FLOAT, "int32": DataType.DT_INT32}
"""What ``mace_run`` reads and writes: ``input_data_types`` and ``output_data_types``."""
WEIGHT_TYPES: dict[str, tuple[DataType, np.dtype[np.float32] | np.dtype[np.float16]]] = {
    "fp32_fp32": (DataType.DT_FLOAT, np.dtype("<f4")),
    "fp16_fp32": (DataType.DT_HALF, np.dtype("<f2")),
}
"""``data_type`` in a deployment file to the type of the weights and of every op."""


def assemble(
    model: ModelConfig, ops: Sequence[OpDraft], constants: Mapping[str, Array]
) -> tuple[MultiNetDef, bytes]:
    """The graph and the weights of a model.

    What a deployment file says of a run (``limit_opencl_kernel_time``,
    ``opencl_queue_window_size``) is not in them: MACE reads it from the environment. Raises
    ``ModelError`` for a weight too large for half precision.
    """
    data_type, storage = WEIGHT_TYPES[model.data_type]
    tensors, weights = _store(constants, data_type, storage)
    net = NetDef(
        ops=tuple(_operator(op, data_type) for op in ops),
        args=_arguments(
            {
                "filter_format": int(DataFormat.OIHW),
                # The format of the framework that the model comes from.
                "data_format": int(DataFormat.NCHW),
                "framework_type": FRAMEWORK_ONNX,
                "opencl_mem_type": int(MEMORY_TYPES[model.cl_mem_type]),
                "runtime_type": int(RUNTIMES[model.runtime]),
            }
        ),
        tensors=tensors,
        data_type=data_type,
        name=model.graph_name,
        data_size=len(weights),
        input_infos=tuple(_info(spec) for spec in model.inputs),
        output_infos=tuple(_info(spec) for spec in model.outputs),
    )
    graph = MultiNetDef(
        nets=(obfuscate(net) if model.obfuscate else net,),
        input_tensors=tuple(spec.name for spec in model.inputs),
        output_tensors=tuple(spec.name for spec in model.outputs),
    )
    return graph, weights


def _store(
    constants: Mapping[str, Array],
    data_type: DataType,
    storage: np.dtype[np.float32] | np.dtype[np.float16],
) -> tuple[tuple[ConstTensor, ...], bytes]:
    """Lay the constants one after another."""
    weights = bytearray()
    tensors = []
    for name, values in constants.items():
        weights.extend(bytes(-len(weights) % OFFSET_ALIGNMENT))
        if values.dtype.kind == "f":
            kind, stored = data_type, _as_floats(name, values, storage)
        else:
            kind, stored = DataType.DT_INT32, _as_int32(name, values)
        tensors.append(
            ConstTensor(
                dims=values.shape,
                data_type=kind,
                name=name,
                offset=len(weights),
                data_size=values.size,
            )
        )
        weights.extend(stored.tobytes())
    return tuple(tensors), bytes(weights)


def _as_floats(name: str, values: Array, storage: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        stored = values.astype(storage)
    if not np.isfinite(stored).all():
        largest = np.abs(values).max()
        raise ModelError(
            f"the weights {name!r} reach {largest:g}, too large for half precision",
            hint="set 'data_type: fp32_fp32'",
        )
    return stored


def _as_int32(name: str, values: Array) -> Array:
    stored = values.astype("<i4")
    if not np.array_equal(stored, values):
        raise ModelError(
            f"the whole numbers {name!r} do not fit into 32 bits",
            hint="MACE has no larger ones: export the model with smaller constants",
        )
    return stored


def _operator(op: OpDraft, data_type: DataType) -> OperatorDef:
    common: dict[str, ArgumentValue] = {
        "T": int(data_type),
        "framework_type": FRAMEWORK_ONNX,
        # NHWC on the GPU, NCHW on the CPU: the runtime's choice.
        "data_format": int(DataFormat.AUTO),
    }
    _check_arguments(op)
    return OperatorDef(
        inputs=op.inputs,
        outputs=op.outputs,
        name=op.name,
        type=op.type,
        args=_arguments({**common, **op.arguments}),
        output_shapes=tuple(OutputShape(dims=shape) for shape in op.shapes),
        output_types=(DataType.DT_INT32,) if op.integers else (),
    )


def _check_arguments(op: OpDraft) -> None:
    """MACE reads whole numbers as 32 bits, and computes nonsense with NaN."""
    for name, value in op.arguments.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, str):
                continue
            if isinstance(number, float):
                wrong = math.isnan(number)
            else:
                wrong = not -(2**31) <= number < 2**31
            if wrong:
                raise ModelError(
                    f"{op.type} made of node {op.name!r}: {number} cannot be its {name}",
                    hint="correct this attribute or constant of the model",
                )


def _arguments(values: Mapping[str, ArgumentValue]) -> tuple[Argument, ...]:
    return tuple(_argument(name, value) for name, value in values.items())


def _argument(name: str, value: ArgumentValue) -> Argument:
    if isinstance(value, str):
        return Argument(name=name, s=value.encode())
    if isinstance(value, tuple):
        if any(isinstance(number, float) for number in value):
            return Argument(name=name, floats=value)
        return Argument(name=name, ints=tuple(int(number) for number in value))
    if isinstance(value, float):
        return Argument(name=name, f=value)
    return Argument(name=name, i=value)


def _info(spec: TensorSpec) -> InputOutputInfo:
    """How MACE's converter declares an input or output: images always as NHWC."""
    shape, data_format = spec.shape, DataFormat[spec.data_format]
    if data_format is DataFormat.NCHW and len(shape) == 4:
        shape, data_format = (shape[0], shape[2], shape[3], shape[1]), DataFormat.NHWC
    return InputOutputInfo(
        name=spec.name,
        dims=shape,
        data_type=BORDER_TYPES[spec.data_type],
        data_format=int(data_format),
        alias=spec.alias or spec.name,
    )
