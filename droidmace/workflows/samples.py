"""What the model is fed: a data set if the deployment file names one, else one input."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.config import DatasetConfig, Deployment, ModelConfig, TensorSpec
from droidmace.errors import ConfigError, InputError
from droidmace.validation.pipeline import prepared
from droidmace.validation.samples import input_bytes
from droidmace.workflows.datasets import open_source, preprocess_of

DEFAULT_RANGE = (-1.0, 1.0)
"""What MACE's own tools draw random inputs from when the file gives no range."""

_BYTES_PER_VALUE = 4
_MOST_BYTES = 256 << 20
"""Of samples, unless a number of them is asked for."""
_WORKERS = 2
"""Threads that decode images."""

Inputs = dict[str, bytes]
"""Input name to the content of its file: float32 or int32, little endian."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs of a model, one entry per sample.

    ``labels`` (n,) are None unless every sample has one.
    """

    inputs: tuple[Inputs, ...]
    labels: npt.NDArray[np.int64] | None = None

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
    """The data set's samples if there is one, else the validation inputs, else one random input.

    Raises ``InputError`` (``ConfigError``, ``FormatError``) if what the deployment file names does
    not fit.
    """
    if deployment.dataset is not None:
        return _of_dataset(deployment, deployment.dataset, model, limit)
    return Samples(inputs=({tensor.name: _input_bytes(tensor) for tensor in model.inputs},))


def _of_dataset(
    deployment: Deployment, dataset: DatasetConfig, model: ModelConfig, limit: int | None
) -> Samples:
    if len(model.outputs) != 1 or (dataset.images is not None and len(model.inputs) != 1):
        raise ConfigError(
            f"droidmace.dataset needs a model with one input and one output; {model.name} has "
            f"{len(model.inputs)} and {len(model.outputs)}",
            where=str(deployment.path),
            hint="remove the dataset: the model is then checked with one input",
        )
    if dataset.plugin is not None or dataset.entry_point is not None:
        raise ConfigError(
            "droidmace.dataset: samples made by Python code are for 'droidmace validate' and "
            "'droidmace bisect'",
            where=str(deployment.path),
            hint="name images or arrays there; a plugin can stand in the model's "
            "accuracy_validation_script",
        )
    source = open_source(dataset, model.inputs)
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} leaves no image", hint="give a number above 0")
    wanted = limit if limit is not None else dataset.limit
    if wanted is None:
        # All of them are in memory here; 'droidmace validate' is for as many as there are.
        sample_bytes = sum(tensor.element_count * _BYTES_PER_VALUE for tensor in model.inputs)
        wanted = max(1, _MOST_BYTES // sample_bytes)
    count = min(wanted, source.count)
    found = list(prepared(source, preprocess_of(dataset), model.inputs, 0, count, workers=_WORKERS))
    labels = [sample.label for sample in found if sample.label is not None]
    return Samples(
        inputs=tuple(
            {name: input_bytes(values) for name, values in sample.inputs.items()}
            for sample in found
        ),
        labels=np.array(labels, np.int64) if len(labels) == count else None,
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
