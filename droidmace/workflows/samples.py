"""What the model is fed: labelled images if the deployment file names some, else one input."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.config import DatasetConfig, Deployment, ModelConfig, TensorSpec
from droidmace.errors import ConfigError, InputError
from droidmace.validation.dataset import Layout, input_bytes, load_labelled_images

DEFAULT_RANGE = (-1.0, 1.0)
"""What MACE's own tools draw random inputs from when the file gives no range."""

_BYTES_PER_VALUE = 4

Inputs = dict[str, bytes]
"""Input name to the content of its file: float32 or int32, little endian."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs of a model, one entry per sample.

    ``labels`` (n,) and ``reference_inputs`` (n, channels, height, width), as the original ONNX
    model takes them, are None without labelled images.
    """

    inputs: tuple[Inputs, ...]
    labels: npt.NDArray[np.int64] | None = None
    reference_inputs: npt.NDArray[np.float32] | None = None

    @property
    def size_bytes(self) -> int:
        """All inputs together."""
        return sum(len(data) for sample in self.inputs for data in sample.values())

    @property
    def digest(self) -> str:
        """Names the content; becomes part of a folder's name on the phone."""
        digest = hashlib.sha256()
        for sample in self.inputs:
            for data in sample.values():
                digest.update(data)
        return digest.hexdigest()[:16]


def load_samples(deployment: Deployment, model: ModelConfig, limit: int | None) -> Samples:
    """Labelled images if there are some, else the validation inputs, else one random input.

    Raises ``ConfigError`` or ``FormatError`` if what the deployment file names does not fit.
    """
    if deployment.dataset is not None:
        return _images(deployment, deployment.dataset, model, limit)
    return Samples(inputs=({tensor.name: _input_bytes(tensor) for tensor in model.inputs},))


def _images(
    deployment: Deployment, dataset: DatasetConfig, model: ModelConfig, limit: int | None
) -> Samples:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConfigError(
            f"droidmace.dataset needs a model with one input and one output; {model.name} has "
            f"{len(model.inputs)} and {len(model.outputs)}",
            where=str(deployment.path),
            hint="remove the dataset: the model is then checked with one input",
        )
    tensor = model.inputs[0]
    counts = [count for count in (limit, dataset.limit) if count is not None]
    images = load_labelled_images(
        dataset.images, dataset.labels, limit=min(counts) if counts else None
    )
    layout: Layout = "NHWC" if tensor.data_format == "NHWC" else "NCHW"
    values = images.inputs(mean=dataset.mean, scale=dataset.scale, layout=layout)
    if values.shape[1:] != tensor.shape[1:] or tensor.shape[0] != 1:
        raise ConfigError(
            f"the images make inputs of shape {[1, *values.shape[1:]]}, but {tensor.name!r} is "
            f"{list(tensor.shape)}",
            where=str(deployment.path),
            hint=f"check input_shapes of {model.name} and droidmace.dataset.images",
        )
    return Samples(
        inputs=tuple({tensor.name: data} for data in input_bytes(values)),
        labels=images.labels,
        reference_inputs=images.inputs(mean=dataset.mean, scale=dataset.scale, layout="NCHW"),
    )


def _input_bytes(tensor: TensorSpec) -> bytes:
    size_bytes = tensor.element_count * _BYTES_PER_VALUE
    if tensor.validation_data is not None:
        try:
            data = tensor.validation_data.read_bytes()
        except OSError as exc:
            raise InputError(
                f"cannot be read: {exc.strerror}", where=str(tensor.validation_data)
            ) from exc
        if len(data) != size_bytes:
            raise InputError(
                f"{len(data)} bytes, but input {tensor.name!r} of shape {list(tensor.shape)} "
                f"has {size_bytes}",
                where=str(tensor.validation_data),
                hint="give raw little-endian float32 (int32 for int32 inputs)",
            )
        return data
    # The same input in every run and on every phone, so that answers can be compared.
    generator = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    low, high = tensor.value_range or DEFAULT_RANGE
    if tensor.data_type == "int32":
        whole = generator.integers(int(low), max(int(low) + 1, int(high)), tensor.shape)
        return whole.astype("<i4").tobytes()
    return generator.uniform(low, high, tensor.shape).astype("<f4").tobytes()
