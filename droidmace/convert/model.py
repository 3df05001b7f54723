"""From an ONNX file to a MACE model, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from droidmace.config import ModelConfig
from droidmace.convert.assemble import RUNTIMES, assemble
from droidmace.convert.declaration import check_declaration
from droidmace.convert.lower import Lowered, lower
from droidmace.convert.onnx_reader import read_onnx
from droidmace.convert.passes import simplify
from droidmace.errors import ModelError
from droidmace.formats.netdef import DeviceType, serialize_model

# mace/ops/opencl/buffer; the constructors of all other ops stop with MACE_NOT_IMPLEMENTED
_OPS_WITH_BUFFER_KERNELS = frozenset(
    ("Conv2D", "DepthwiseConv2d", "Pooling", "Reshape", "Softmax", "Transpose")
)


@dataclass(frozen=True, slots=True)
class ConversionSummary:
    """What a converted model consists of."""

    ops: Mapping[str, int]
    """Op type to how many there are."""
    parameters: int
    multiply_adds: int
    """Multiply-accumulates of one inference in convolutions and matrix products."""
    runtime: str
    data_type: str
    warnings: tuple[str, ...] = ()
    """What a phone may not like about it."""


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """A MACE model: the bytes of ``MODEL.pb`` and of ``MODEL.data``."""

    graph: bytes
    data: bytes
    summary: ConversionSummary


def convert_model(model: ModelConfig) -> ConvertedModel:
    """Convert the ONNX file that ``model`` names.

    The same file and declaration give the same bytes every time. Raises ``ModelError`` (naming
    the node and its op where one is to blame) for a file that is damaged, does not fit the
    declaration, or holds what MACE or this converter cannot express; ``MissingExtraError``
    without the ``onnx`` package.
    """
    try:
        check_declaration(model)
        graph = simplify(read_onnx(model.model_file, model.inputs, model.outputs))
        lowered = lower(
            graph,
            runs_on_gpu=RUNTIMES[model.runtime] is DeviceType.GPU,
            winograd=model.winograd,
        )
        net, weights = assemble(model, lowered.ops, lowered.constants)
    except ModelError as error:
        # The passes know nodes, not files.
        error.where = error.where or str(model.model_file)
        raise
    return ConvertedModel(serialize_model(net), weights, _summarise(model, lowered))


def _summarise(model: ModelConfig, lowered: Lowered) -> ConversionSummary:
    ops = dict(Counter(op.type for op in lowered.ops))
    return ConversionSummary(
        ops=ops,
        parameters=sum(values.size for values in lowered.constants.values()),
        multiply_adds=sum(op.multiply_adds for op in lowered.ops),
        runtime=model.runtime,
        data_type=model.data_type,
        warnings=_warnings(model, ops),
    )


def _warnings(model: ModelConfig, ops: Mapping[str, int]) -> tuple[str, ...]:
    lacking = sorted(set(ops) - _OPS_WITH_BUFFER_KERNELS)
    on_gpu = RUNTIMES[model.runtime] is DeviceType.GPU
    if not on_gpu or model.cl_mem_type != "buffer" or not lacking:
        return ()
    return (
        f"cl_mem_type: buffer: MACE on a phone has no such kernels for {', '.join(lacking)} and "
        "stops there; emulated phones have. Use image for phones.",
    )
