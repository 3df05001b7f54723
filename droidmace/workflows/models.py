"""The MACE model that a deployment file means: its files, checked before they travel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from droidmace.config import Deployment, ModelConfig, TensorSpec
from droidmace.errors import ConfigError, FormatError, InputError
from droidmace.files import sha256_of_file
from droidmace.formats.netdef import InputOutputInfo, NetDef, check_all_weights, parse_model

MAX_GRAPH_BYTES = 256 << 20
_GPU = 2
"""MACE's number of the runtime, for nets and ops alike."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A MACE model on the host, checked."""

    graph: Path
    data: Path

    @property
    def size_bytes(self) -> int:
        """Both files together."""
        return self.graph.stat().st_size + self.data.stat().st_size


def find_model_files(
    deployment: Deployment, model: ModelConfig, *, needs_gpu: bool = True
) -> ModelFiles:
    """The converted model of a deployment file; ``needs_gpu`` refuses one made for the CPU.

    Raises ``ConfigError`` if the file names none, one is missing, or a checksum is wrong, and
    ``FormatError`` if what is there is not a MACE model with the inputs and outputs it should have.
    """
    check_checksums(model)
    graph, data = model.graph_file, model.data_file
    if graph is None or data is None:
        raise ConfigError(
            f"droidmace.models.{model.name}: the converted model is not named",
            where=str(deployment.path),
            hint="name graph_file and data_file there, and make them with "
            f"'droidmace convert -c {deployment.path}'",
        )
    for path in (graph, data):
        if not path.is_file():
            raise ConfigError(
                f"droidmace.models.{model.name}: no such file: {path}",
                where=str(deployment.path),
                hint=f"make it with 'droidmace convert -c {deployment.path}'",
            )
    _check_graph(model, graph, data, needs_gpu=needs_gpu)
    return ModelFiles(graph, data)


def check_checksums(model: ModelConfig) -> None:
    """Hold the original model files against the SHA-256 that the deployment file gives."""
    pairs = (
        ("model_sha256_checksum", model.model_file, model.model_sha256),
        ("weight_sha256_checksum", model.weight_file, model.weight_sha256),
    )
    for key, path, wanted in pairs:
        if path is None or wanted is None or not path.is_file():
            # Without the original only its conversion is used, which has hashes of its own.
            continue
        found = sha256_of_file(path)
        if found != wanted:
            raise ConfigError(
                f"models.{model.name}.{key} is {wanted}, but the file has {found}",
                where=str(path),
                hint="get the right file, or correct the checksum",
            )


def _check_graph(model: ModelConfig, graph: Path, data: Path, *, needs_gpu: bool) -> None:
    size_bytes = graph.stat().st_size
    if size_bytes > MAX_GRAPH_BYTES:
        raise InputError(
            f"{size_bytes} bytes is too large for a graph without weights", where=str(graph)
        )
    try:
        parsed = parse_model(graph.read_bytes())
    except FormatError as error:
        raise FormatError(
            f"not a MACE model: {error.message}",
            where=str(graph),
            hint="convert it again with 'droidmace convert'",
        ) from error
    try:
        check_all_weights(parsed, data.stat().st_size)
    except FormatError as error:
        raise FormatError(error.message, where=str(data), hint=error.hint) from error
    if needs_gpu and not any(_runs_on_gpu(net) for net in parsed.nets):
        raise ConfigError(
            "the model was converted for the CPU: it has no OpenCL kernels to tune",
            where=str(graph),
            hint="set runtime to gpu in the deployment file and run 'droidmace convert'",
        )
    inputs = [info for net in parsed.nets for info in net.input_infos]
    outputs = [info for net in parsed.nets for info in net.output_infos]
    _check_tensors("input", model.inputs, inputs, graph)
    _check_tensors("output", model.outputs, outputs, graph)


def _runs_on_gpu(net: NetDef) -> bool:
    on_net = net.int_arg("runtime_type") == _GPU
    return on_net or any(op.device_type == _GPU for op in net.ops)


def _check_tensors(
    side: str, wanted: tuple[TensorSpec, ...], found: list[InputOutputInfo], graph: Path
) -> None:
    by_name = {info.name: info for info in found}
    for tensor in wanted:
        info = by_name.get(tensor.name)
        if info is None:
            raise ConfigError(
                f"the model has no {side} {tensor.name!r}",
                where=str(graph),
                hint=f"its {side}s: {', '.join(by_name) or 'none'}",
            )
        # A graph may lay a tensor out in another order than the file at the border does.
        if info.dims and sorted(info.dims) != sorted(tensor.shape):
            raise ConfigError(
                f"{side} {tensor.name!r} has the shape {list(info.dims)} in the model, but "
                f"{list(tensor.shape)} in the deployment file",
                where=str(graph),
                hint="correct the deployment file, or convert the model again",
            )
