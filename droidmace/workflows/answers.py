"""Are the answers right? Tuned, untuned and reference, on the same samples."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from droidmace.config import ModelConfig
from droidmace.devices.base import Device
from droidmace.errors import DeviceError, InputError
from droidmace.formats.tensor_values import Values, value_type
from droidmace.macerun.invocation import TensorArg, sample_file_name
from droidmace.results import Accuracy
from droidmace.results.validation import OutputSimilarity
from droidmace.validation.accuracy import agreement, compare, top1_labels
from droidmace.validation.reference import ReferenceOutputs
from droidmace.validation.similarity import SimilarityTally
from droidmace.validation.stored_outputs import StoredOutputs
from droidmace.workflows.measure import Layout, Measurer, Progress
from droidmace.workflows.references import ONNXRUNTIME, open_reference
from droidmace.workflows.samples import Inputs, Samples

Outputs = dict[str, Values]
"""Each output of all samples, shape (samples, elements)."""

_PIECE = 64
"""Samples that the reference is given at a time."""
READ_TIMEOUT_S = 120.0
_READ_BYTES = 16 << 20
_READ_FILES = 250
"""What one command fetches at most: its output and the length of its line are bounded."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the comparison found.

    ``similarity`` is the smallest cosine between a tuned and an untuned output.
    """

    accuracy: Accuracy
    finite: bool
    similarity: float
    summary: str
    untuned_finite: bool = True
    warnings: tuple[str, ...] = ()


def sample_suffixes(count: int) -> list[str]:
    """File name suffixes of samples; sorted by name they are in order."""
    return [f"_{index:06d}" for index in range(count)]


def compare_answers(
    device: Device,
    measurer: Measurer,
    layout: Layout,
    model: ModelConfig,
    samples: Samples,
    progress: Progress,
) -> Answers:
    """Run all samples untuned and tuned, one process each, and hold them against the reference."""
    count = len(samples.inputs)
    runs: dict[bool, Outputs] = {}
    for step, tuned in enumerate((False, True)):
        progress(f"{count} samples, {'tuned' if tuned else 'untuned'}", step, 2)
        suffixes = sample_suffixes(count)
        measurer.run_batch(layout.dataset(samples.digest), suffixes, tuned=tuned)
        runs[tuned] = {
            tensor.name: read_output(device, layout.batch_output, tensor, suffixes)
            for tensor in measurer.outputs
        }
    untuned, tuned_outputs = runs[False], runs[True]
    found = [_compared(name, values, tuned_outputs[name]) for name, values in untuned.items()]
    finite = not any(one.not_finite for one in found)
    untuned_finite = not any(one.reference_not_finite for one in found)
    similarity = min(one.cosine.minimum for one in found)
    if samples.labels is None:
        return Answers(
            accuracy=Accuracy(0, None, None, None, None),
            finite=finite,
            similarity=similarity,
            summary=f"tuned and untuned outputs: cosine {similarity:.6f}",
            untuned_finite=untuned_finite,
        )
    name = model.outputs[0].name
    warnings: list[str] = []
    reference = _reference(model, samples, warnings)
    accuracy = compare(
        samples.labels, reference=reference, untuned=untuned[name], tuned=tuned_outputs[name]
    )
    labels = top1_labels(untuned[name])
    accuracy = replace(
        accuracy,
        unchanged=agreement(labels, top1_labels(tuned_outputs[name])),
        untuned_agreement=(
            None if reference is None else agreement(top1_labels(reference), labels)
        ),
    )
    against = "the untuned run" if reference is None else "onnxruntime"
    agree = accuracy.unchanged if reference is None else accuracy.agreement
    return Answers(
        accuracy=accuracy,
        finite=finite,
        similarity=similarity,
        summary=f"Top-1 {accuracy.tuned:.2%} on {count} images, {agree:.2%} of the "
        f"labels as {against}",
        untuned_finite=untuned_finite,
        warnings=tuple(warnings),
    )


def _reference(model: ModelConfig, samples: Samples, warnings: list[str]) -> Values | None:
    """The original model's outputs, (samples, classes); None with a warning if there are none."""
    try:
        with open_reference(model, ONNXRUNTIME, asked_by="", use_cache=True) as chosen:
            values = _outputs_of(chosen.outputs, model, samples)
            missing = chosen.missing or "no reference: validation_outputs_data has too few samples"
            if chosen.cache is not None and chosen.cache.trouble:
                warnings.append(f"reference outputs are not kept: {chosen.cache.trouble}")
    except InputError as error:
        # The phone's work is done by now; it does not end for want of a second opinion.
        hint = f" ({error.hint})" if error.hint else ""
        values, missing = None, f"no reference: {error}{hint}"
    if values is None:
        warnings.append(f"{missing}; tuned is compared with untuned")
    return values


def _outputs_of(
    reference: ReferenceOutputs | None, model: ModelConfig, samples: Samples
) -> Values | None:
    """What a reference says of all samples; None without one, or if it has not all of them."""
    count = len(samples.inputs)
    if reference is None or (isinstance(reference, StoredOutputs) and reference.count < count):
        return None
    pieces = [
        reference.run(_stacked(samples.inputs[first : first + _PIECE], model), first=first)
        for first in range(0, count, _PIECE)
    ]
    name = model.outputs[0].name
    values: Values = np.concatenate([piece[name] for piece in pieces])
    return values


def _stacked(inputs: Sequence[Inputs], model: ModelConfig) -> dict[str, Values]:
    """Inputs of several samples as arrays (n, *shape)."""
    return {
        tensor.name: np.stack(
            [
                np.frombuffer(one[tensor.name], value_type(tensor.data_type)).reshape(tensor.shape)
                for one in inputs
            ]
        )
        for tensor in model.inputs
    }


def _compared(name: str, untuned: Values, tuned: Values) -> OutputSimilarity:
    tally = SimilarityTally(name)
    tally.add(tuned, untuned)
    return tally.result()


def read_output(device: Device, folder: str, tensor: TensorArg, suffixes: Sequence[str]) -> Values:
    """Fetch one output of all samples, many files with one command.

    Raises ``DeviceError`` if less or more comes than was written: sizes were checked before.
    """
    per_command = min(_READ_FILES, max(1, _READ_BYTES // tensor.size_bytes))
    pieces = [
        _read(device, folder, tensor, suffixes[start : start + per_command])
        for start in range(0, len(suffixes), per_command)
    ]
    found: Values = np.frombuffer(b"".join(pieces), value_type(tensor.data_type))
    return found.reshape(len(suffixes), -1)


def _read(device: Device, folder: str, tensor: TensorArg, suffixes: Sequence[str]) -> bytes:
    names = [sample_file_name(tensor, suffix) for suffix in suffixes]
    command = f"cd {shlex.quote(folder)} && cat -- {shlex.join(names)}"
    result = device.run(command, timeout_s=READ_TIMEOUT_S)
    expected = len(suffixes) * tensor.size_bytes
    if result.exit_code != 0 or len(result.stdout) != expected:
        raise DeviceError(
            f"the outputs {posixpath.join(folder, names[0])}… came back with "
            f"{len(result.stdout)} of {expected} bytes",
            serial=device.serial,
            command=command,
            exit_code=result.exit_code,
            stderr=result.error_text,
            hint="run the command again",
        )
    return result.stdout
