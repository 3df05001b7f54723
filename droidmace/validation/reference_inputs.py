"""Which input of an ONNX model a deployment file's tensor is, and how it has to be turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from droidmace.errors import ModelError
from droidmace.validation.layouts import ChannelOrder, TensorLike, permutation
from droidmace.validation.onnx_session import OnnxInput


@dataclass(frozen=True, slots=True)
class MatchedInput:
    """An input of the deployment file, and what the ONNX model wants of it."""

    tensor: TensorLike
    onnx: OnnxInput
    axes: tuple[int, ...]

    @property
    def takes_batches(self) -> bool:
        """Whether samples can be put together: one in the file, any number in the model."""
        dimensions = self.onnx.dimensions
        open_ended = bool(dimensions) and not isinstance(dimensions[0], int)
        return open_ended and self.tensor.shape[:1] == (1,)


def matched_inputs(
    model: Path, tensors: Sequence[TensorLike], wanted: Sequence[OnnxInput], order: ChannelOrder
) -> list[MatchedInput]:
    """Each tensor with its input of the model; raises ``ModelError`` naming what does not fit."""
    if len(tensors) != len(wanted):
        raise ModelError(
            f"the deployment file has {len(tensors)} inputs, the model {len(wanted)}: "
            f"{', '.join(item.name for item in wanted)}",
            where=str(model),
            hint="check input_tensors in the deployment file",
        )
    by_name = {item.name: item for item in wanted}
    names = [tensor.name for tensor in tensors]
    if len(wanted) > 1 or names[0] in by_name:
        names = matched_names(names, tuple(by_name))
    else:
        # An exported model may call its only input what it likes.
        names = [wanted[0].name]
    found = []
    for tensor, name in zip(tensors, names, strict=True):
        if name not in by_name:
            raise ModelError(
                f"it has no input {tensor.name!r}; its inputs are {', '.join(by_name)}",
                where=str(model),
                hint="check input_tensors in the deployment file",
            )
        dimensions = by_name[name].dimensions
        axes = permutation(tensor.shape, tensor.data_format, dimensions, order)
        if axes is None:
            raise ModelError(
                f"its input {name!r} is {list(dimensions)}, the deployment file says "
                f"{list(tensor.shape)} ({tensor.data_format})",
                where=str(model),
                hint="check input_shapes and input_data_formats in the deployment file",
            )
        found.append(MatchedInput(tensor, by_name[name], axes))
    return found


def matched_names(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The model's names for tensors that TensorFlow calls ``name`` or ``name:0``."""
    matched = []
    for name in names:
        other = name.removesuffix(":0") if name.endswith(":0") else f"{name}:0"
        matched.append(other if name not in known and other in known else name)
    return matched
