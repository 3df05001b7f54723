"""Are the answers right? Tuned, untuned and reference, on the same samples."""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from droidmace.config import ModelConfig
from droidmace.devices.base import Device
from droidmace.errors import DeviceError, MissingExtraError
from droidmace.macerun.invocation import TensorArg, formatted_name
from droidmace.macerun.session import MaceRunSession
from droidmace.results import Accuracy
from droidmace.validation.accuracy import agreement, compare, top1_labels
from droidmace.validation.reference import reference_outputs
from droidmace.workflows.measure import Layout, Measurer, Progress
from droidmace.workflows.samples import Samples

Outputs = dict[str, npt.NDArray[np.float32]]
"""Output name to values of shape (samples, elements)."""

READ_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the comparison found.

    ``similarity`` is the smallest cosine between a tuned and an untuned output.
    """

    accuracy: Accuracy
    finite: bool
    similarity: float
    summary: str
    warnings: tuple[str, ...] = ()


def sample_suffixes(count: int) -> list[str]:
    """File name suffixes of samples; sorted by name they are in order."""
    return [f"_{index:06d}" for index in range(count)]


def compare_answers(
    device: Device,
    session: MaceRunSession,
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
        invocation = measurer.batch_invocation(
            layout.dataset(samples.digest), layout.batch_output, tuned=tuned
        )
        suffixes = sample_suffixes(count)
        session.run_batch(invocation, suffixes, timeout_s=measurer.settings.timeout_s)
        runs[tuned] = {
            tensor.name: _read(device, layout.batch_output, tensor, count)
            for tensor in invocation.outputs
        }
    untuned, tuned_outputs = runs[False], runs[True]
    finite = all(bool(np.isfinite(values).all()) for values in tuned_outputs.values())
    similarity = min(
        _smallest_cosine(values, tuned_outputs[name]) for name, values in untuned.items()
    )
    if samples.labels is None:
        return Answers(
            accuracy=Accuracy(0, None, None, None, None),
            finite=finite,
            similarity=similarity,
            summary=f"tuned and untuned outputs: cosine {similarity:.6f}",
        )
    name = model.outputs[0].name
    warnings: list[str] = []
    reference = _reference(model, samples, warnings)
    accuracy = compare(
        samples.labels, reference=reference, untuned=untuned[name], tuned=tuned_outputs[name]
    )
    if reference is None:
        # The next best thing to agree with.
        same = agreement(top1_labels(untuned[name]), top1_labels(tuned_outputs[name]))
        accuracy = replace(accuracy, agreement=same)
    against = "the untuned run" if reference is None else "onnxruntime"
    return Answers(
        accuracy=accuracy,
        finite=finite,
        similarity=similarity,
        summary=f"Top-1 {accuracy.tuned:.2%} on {count} images, {accuracy.agreement:.2%} of the "
        f"labels as {against}",
        warnings=tuple(warnings),
    )


def _reference(
    model: ModelConfig, samples: Samples, warnings: list[str]
) -> npt.NDArray[np.float32] | None:
    """onnxruntime's outputs, shape (samples, classes); None with a warning if it cannot be had."""
    if samples.reference_inputs is None:
        return None
    if model.platform != "onnx" or not model.model_file.is_file():
        warnings.append(
            "no reference: the deployment file names no ONNX model; tuned is compared with untuned"
        )
        return None
    try:
        return reference_outputs(model.model_file, samples.reference_inputs)
    except MissingExtraError as error:
        warnings.append(f"no reference: {error.message} ({error.hint})")
        return None


def _read(device: Device, folder: str, tensor: TensorArg, count: int) -> npt.NDArray[np.float32]:
    """Fetch one output of all samples as one stream; their sizes were checked before."""
    name = formatted_name(tensor)
    # Six digits: the names sort as the samples are numbered, and no other output's file matches.
    pattern = f"{shlex.quote(name)}_" + "[0-9]" * 6
    command = f"cd {shlex.quote(folder)} && cat {pattern}"
    result = device.run(command, timeout_s=READ_TIMEOUT_S)
    expected = count * tensor.size_bytes
    if result.exit_code != 0 or len(result.stdout) != expected:
        raise DeviceError(
            f"the outputs {posixpath.join(folder, name)}* came back with {len(result.stdout)} of "
            f"{expected} bytes",
            serial=device.serial,
            command=command,
            exit_code=result.exit_code,
            stderr=result.error_text,
            hint="run the command again",
        )
    return np.frombuffer(result.stdout, dtype="<f4").reshape(count, -1)


def _smallest_cosine(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    """The smallest cosine between rows; 1 for two rows of zeros, 0 if one is not finite."""
    a, b = before.astype(np.float64), after.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("ij,ij->i", a, b)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines = np.where(norms > 0, dots / np.where(norms > 0, norms, 1.0), both_zero.astype(float))
    return float(cosines.min())
