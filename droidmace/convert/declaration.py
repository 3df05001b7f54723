"""What a deployment file may ask of a conversion."""

from __future__ import annotations

from droidmace.config import ModelConfig, TensorSpec
from droidmace.convert.assemble import BORDER_TYPES, MEMORY_TYPES, RUNTIMES, WEIGHT_TYPES
from droidmace.errors import ModelError


def check_declaration(model: ModelConfig) -> None:
    """Raise ``ModelError`` where ``model`` asks for what this converter does not make."""
    if model.platform != "onnx":
        raise ModelError(
            f"a model of the platform {model.platform!r} cannot be converted",
            hint="export it to ONNX and set 'platform: onnx'",
        )
    if model.quantized:
        raise ModelError(
            "a model of 8-bit numbers cannot be made",
            hint="leave out 'quantize', and convert the float model",
        )
    for what, value, known in (
        ("for the runtime", model.runtime, RUNTIMES),
        ("with the data type", model.data_type, WEIGHT_TYPES),
        ("for the memory type", model.cl_mem_type, MEMORY_TYPES),
    ):
        if value not in known:
            raise ModelError(
                f"no model can be made {what} {value!r}", hint="one of " + ", ".join(known)
            )
    for spec in (*model.inputs, *model.outputs):
        _check_tensor(spec)
    for spec in model.inputs:
        if len(spec.shape) == 4 and spec.data_format not in {"NHWC", "NCHW"}:
            raise ModelError(
                f"input {spec.name!r} has four dimensions and the format {spec.data_format}",
                hint="set input_data_formats to NCHW or NHWC",
            )


def _check_tensor(spec: TensorSpec) -> None:
    if spec.data_format not in {"NHWC", "NCHW", "NONE"}:
        raise ModelError(
            f"tensor {spec.name!r} cannot have the format {spec.data_format}",
            hint="one of NHWC, NCHW, NONE",
        )
    if spec.data_type not in BORDER_TYPES:
        raise ModelError(
            f"tensor {spec.name!r} cannot be of {spec.data_type}",
            hint="mace_run reads and writes " + ", ".join(BORDER_TYPES),
        )
