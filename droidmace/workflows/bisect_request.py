"""What a bisection is asked to do, and what of it can be refused without a phone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from droidmace.config import ModelConfig
from droidmace.errors import ConfigError, InputError
from droidmace.formats.netdef import DataType, MultiNetDef, parse_model
from droidmace.graphs.parts import Dissection
from droidmace.graphs.runtime import is_for_gpu
from droidmace.validation.pipeline import prepared
from droidmace.validation.samples import input_bytes
from droidmace.workflows.datasets import open_source, preprocess_of
from droidmace.workflows.models import ModelFiles, find_model_files
from droidmace.workflows.samples import Inputs, load_samples
from droidmace.workflows.workplace import PhoneRequest

# What MACE's GPU has no ops for; on its CPU they are no measure.
_CPU_ONLY = frozenset({DataType.DT_FLOAT16, DataType.DT_BFLOAT16})
_QUANTIZED = frozenset({DataType.DT_UINT8, DataType.DT_INT8})


@dataclass(frozen=True, slots=True)
class BisectRequest:
    """Which model on which phone, with which sample.

    ``sample``: a number in the data set, from 0; without a data set there is one input only.
    ``memory_bytes``: how many bytes of tensors one process may read and write; a larger net is
    narrowed down first.
    """

    phone: PhoneRequest
    out_dir: Path
    sample: int = 0
    memory_bytes: int = 512 << 20
    allow_plugin: bool = False
    """Whether code that the deployment file names may run, to make the sample."""
    timeout_s: float = 900.0
    """Deadline of one process."""

    @property
    def model(self) -> ModelConfig:
        """The model to look into."""
        return self.phone.model


@dataclass(frozen=True, slots=True)
class BisectMatter:
    """What is looked into: the model taken apart, and one input for it."""

    files: ModelFiles
    graph: MultiNetDef
    dissection: Dissection
    inputs: Inputs
    sample: str


def check_request(request: BisectRequest) -> BisectMatter:
    """Refuse what no phone is needed to refuse.

    Raises ``ConfigError``, ``FormatError`` and ``InputError``.
    """
    model, deployment = request.model, request.phone.deployment
    files = find_model_files(deployment, model, needs_gpu=False)
    graph = parse_model(files.graph.read_bytes())
    dissection = Dissection(graph)
    net = dissection.net
    if any(tensor.data_type in _QUANTIZED for tensor in net.tensors):
        raise InputError(
            "a model of 8-bit numbers cannot be held against its own floats",
            where=str(files.graph),
            hint="convert the float model and bisect that",
        )
    if not is_for_gpu(graph):
        raise ConfigError(
            f"models.{model.name}: the model was converted for the CPU, and a GPU is looked into",
            where=str(files.graph),
            hint="set runtime to gpu in the deployment file and run 'droidmace convert'",
        )
    if net.data_type in _CPU_ONLY:
        raise ConfigError(
            f"models.{model.name}: MACE has no ops of fp16_fp16 and bf16_fp32 for a GPU",
            where=str(files.graph),
            hint="convert it with data_type fp16_fp32 or fp32_fp32",
        )
    outputs = [info.name for info in net.output_infos]
    unknown = [name for name in outputs if name not in dissection.activations]
    if len(unknown) == len(outputs):
        raise InputError(
            "none of the model's outputs are floats of a declared shape: nothing can be compared",
            where=str(files.graph),
            hint="convert it again with 'droidmace convert'",
        )
    fed = {tensor.name for tensor in model.inputs}
    if missing := [info.name for info in net.input_infos if info.name not in fed]:
        raise ConfigError(
            f"models.{model.name}: input_tensors lacks {', '.join(missing)}",
            where=str(deployment.path),
            hint="name every input of the converted model",
        )
    inputs, name = _sample(request)
    return BisectMatter(files, graph, dissection, inputs, name)


def _sample(request: BisectRequest) -> tuple[Inputs, str]:
    """The input, and what it is called."""
    deployment, model, number = request.phone.deployment, request.model, request.sample
    if number < 0:
        raise InputError(f"no sample has the number {number}", hint="samples are counted from 0")
    dataset = deployment.dataset
    if dataset is None:
        if number:
            raise InputError(
                f"no data set to take sample {number} from",
                where=str(deployment.path),
                hint="leave --sample out, or name a data set there",
            )
        made_up = all(tensor.validation_data is None for tensor in model.inputs)
        what = "random input" if made_up else "validation input"
        return load_samples(deployment, model, 1).inputs[0], what
    source = open_source(
        dataset,
        model.inputs,
        outputs=model.outputs,
        allow_plugin=request.allow_plugin,
        limit=number + 1,
    )
    if number >= source.count:
        raise InputError(
            f"the data set has {source.count:,} samples, no number {number}",
            where=str(deployment.path),
            hint="samples are counted from 0",
        )
    found = prepared(source, preprocess_of(dataset), model.inputs, number, number + 1, workers=1)
    (sample,) = found
    values = {name: input_bytes(array) for name, array in sample.inputs.items()}
    return values, f"sample {number} ({sample.name})"
