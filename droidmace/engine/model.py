"""A model in memory: its net, and its constants as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from droidmace.engine.attributes import unsupported
from droidmace.errors import EngineError
from droidmace.formats.netdef import (
    MAX_RANK,
    DataFormat,
    DataType,
    DeviceType,
    MultiNetDef,
    NetDef,
    read_weights,
)

Constant = npt.NDArray[Any]
_NUMPY_TYPES: dict[DataType, np.dtype[Any]] = {
    DataType.DT_FLOAT: np.dtype("<f4"),
    DataType.DT_HALF: np.dtype("<f2"),
    DataType.DT_FLOAT16: np.dtype("<f2"),
    DataType.DT_INT32: np.dtype("<i4"),
}
HALF_TYPES = (DataType.DT_HALF, DataType.DT_FLOAT16)
_FILTER_OPS = ("Conv2D", "DepthwiseConv2d", "FullyConnected")
# How to turn a filter of a layout into OIHW. HWIO is HWIM for depthwise filters: the same turn
# makes MIHW of it.
_TO_OIHW = {
    DataFormat.NONE: (0, 1, 2, 3),
    DataFormat.OIHW: (0, 1, 2, 3),
    DataFormat.HWIO: (3, 2, 0, 1),
    DataFormat.OHWI: (0, 3, 1, 2),
}


@dataclass(frozen=True)
class Model:
    """One net with its constants by name; filters are OIHW whatever the file says."""

    net: NetDef
    constants: dict[str, Constant]

    @property
    def runtime(self) -> int:
        """What the net runs on, a number of ``DeviceType``."""
        return self.net.int_arg("runtime_type", int(DeviceType.CPU))

    @property
    def is_half(self) -> bool:
        """Whether activations are 16-bit floats."""
        return self.net.data_type in HALF_TYPES or any(
            op.int_arg("T", int(DataType.DT_FLOAT)) in HALF_TYPES for op in self.net.ops
        )


def load_model(graph: MultiNetDef, weights: bytes | memoryview) -> Model:
    """The only net of ``graph`` with its constants.

    Raises ``FormatError`` for weights that do not fit, ``EngineError`` for what cannot be run.
    """
    if len(graph.nets) != 1:
        raise EngineError(f"Unsupported: the model has {len(graph.nets)} nets")
    net = graph.nets[0]
    constants: dict[str, Constant] = {}
    for tensor in net.tensors:
        kind = _NUMPY_TYPES.get(tensor.data_type)
        if kind is None:
            raise EngineError(f"Unsupported: constant {tensor.name!r} is {tensor.data_type.name}")
        if tensor.float_data or tensor.int32_data:
            values = np.array(tensor.float_data or tensor.int32_data, kind)
            if min(tensor.dims, default=1) < 1 or values.size != math.prod(tensor.dims):
                raise EngineError(
                    f"Invalid Arguments: constant {tensor.name!r} has {values.size} values for the"
                    f" shape {list(tensor.dims)}"
                )
        else:
            values = np.frombuffer(read_weights(net, weights, tensor), kind)
        constants[tensor.name] = values.reshape(tensor.dims)
    _turn_filters(net, constants)
    return Model(net, constants)


def check_graph(model: Model) -> None:
    """Check that each op has an output, and that every name is made once and before it is read.

    Raises ``EngineError`` that names the op, or the input whose shape is none.
    """
    for info in model.net.input_infos:
        if len(info.dims) > MAX_RANK or min(info.dims, default=1) < 1:
            raise EngineError(
                f"Invalid Arguments: input {info.name!r} has {len(info.dims)} dimensions, from "
                f"{min(info.dims)} to {max(info.dims)}"
            )
    made = {*model.constants, *(info.name for info in model.net.input_infos)}
    for op in model.net.ops:
        if not op.outputs:
            raise unsupported(op, "it has no output")
        for name in op.inputs:
            if name not in made:
                raise unsupported(op, f"nothing makes its input {name!r}")
        for name in op.outputs:
            if name in made:
                raise unsupported(op, f"its output {name!r} is there already")
            made.add(name)
    for info in model.net.output_infos:
        if info.name not in made:
            raise EngineError(f"can not find output in model: {info.name}")


def _turn_filters(net: NetDef, constants: dict[str, Constant]) -> None:
    """Make every filter OIHW."""
    layout = net.int_arg("filter_format", int(DataFormat.OIHW))
    order = _TO_OIHW.get(DataFormat(layout)) if layout in list(DataFormat) else None
    if order is None:
        raise EngineError(f"Unsupported: filter_format {layout}")
    if order == (0, 1, 2, 3):
        return
    filters = {op.inputs[1] for op in net.ops if op.type in _FILTER_OPS and len(op.inputs) > 1}
    for name in filters:
        if name in constants and constants[name].ndim == 4:
            constants[name] = np.ascontiguousarray(constants[name].transpose(order))
