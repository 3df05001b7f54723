"""What of a validation is known, checked and opened before a phone is asked anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from droidmace.config import DatasetConfig
from droidmace.errors import ConfigError, InputError
from droidmace.files import sha256_of_file
from droidmace.macerun.invocation import Invocation
from droidmace.results.validation import COMPARING_GATES, LABEL_GATES
from droidmace.validation.classification import TOP
from droidmace.validation.pipeline import prepared
from droidmace.validation.reference import ReferenceOutputs
from droidmace.validation.samples import Sample, SampleSource, input_bytes
from droidmace.validation.sources.plugin import AccuracyPlugin
from droidmace.validation.stored_outputs import StoredOutputs
from droidmace.workflows.datasets import open_source, preprocess_of
from droidmace.workflows.models import find_model_files
from droidmace.workflows.references import CPU, NONE, ONNXRUNTIME, open_reference
from droidmace.workflows.shipped_files import shipped_files
from droidmace.workflows.validate_request import ValidateRequest

_VALUE_BYTES = 4
"""In files: float32 or int32."""


class Plan:
    """The samples and the reference, open. Use it as a context manager.

    Making it raises what no phone is needed to refuse: ``ConfigError``, ``InputError``,
    ``FormatError``, ``MissingExtraError``, ``ModelError``.
    """

    def __init__(self, request: ValidateRequest) -> None:
        model = request.model
        self._model = model
        self._dataset = _dataset(request)
        self._preprocess = preprocess_of(self._dataset)
        self.model_files = find_model_files(request.phone.deployment, model, needs_gpu=False)
        self.against = request.chosen_against
        if self.against == CPU and model.runtime == CPU:
            raise InputError(
                f"{model.name} runs on the phone's processor itself: its outputs would be held "
                "against themselves",
                where=f"--against {CPU}" if request.against else "droidmace.validate.against",
                hint=f"give --against {ONNXRUNTIME}, a file of outputs, or {NONE}",
            )
        asked_by = request.comparison_asked_by
        with ExitStack() as stack:
            self.source: SampleSource = open_source(
                self._dataset,
                model.inputs,
                outputs=model.outputs,
                allow_plugin=request.allow_plugin,
                limit=request.limit or self._dataset.limit,
            )
            stack.callback(getattr(self.source, "close", lambda: None))
            self.count = self._counted(request.limit)
            self.shipped = (
                shipped_files(request.bundle, self.model_files)
                if request.bundle is not None
                else None
            )
            chosen = stack.enter_context(
                open_reference(model, self.against, asked_by=asked_by, use_cache=request.cache)
            )
            self.reference: ReferenceOutputs | None = chosen.outputs
            self._cache = chosen.cache
            missing = chosen.missing
            if unfit := self._unfit_stored(of_the_file=request.dataset is None):
                if asked_by:
                    raise unfit
                self.reference = None
                missing = f"no reference: {unfit.where} {unfit.message}"
            # Read now: what is wrong with every sample shows before the phone is taken.
            self.first = next(self.read(0, 1))
            labelled = self.first.label is not None
            self.has_classes = len(model.outputs) == 1 and (
                labelled or (self.compares and _is_vector(model.outputs[0].shape))
            )
            self._check_labels()
            self._check_gates(request.settings.gates.wanted, labelled, missing)
            self.warnings = (*((missing,) if missing else ()), *self._told(labelled))
            if self.against == NONE and model.asks_for_similarity:
                self.warnings += (
                    f"validation_threshold of {model.name} is not judged: nothing is compared",
                )
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def compares(self) -> bool:
        """Whether outputs are held against others."""
        return self.reference is not None or self.against == CPU

    def _unfit_stored(self, *, of_the_file: bool) -> InputError | None:
        """Why stored outputs are not those of the samples; None if they are, or are not stored.

        ``of_the_file``: whether the samples are those of the deployment file.
        """
        stored = self.reference
        if not isinstance(stored, StoredOutputs):
            return None
        if not of_the_file and self.against == ONNXRUNTIME:
            return InputError(
                "is validation_outputs_data, and --dataset names other samples",
                where=stored.description,
                hint=f"give --against {CPU}, the outputs of these samples, or {NONE}",
            )
        if stored.count < self.count:
            return InputError(
                f"holds the outputs of {stored.count:,} samples, and {self.count:,} are asked for",
                where=stored.description,
                hint=f"give --limit {stored.count}, or another --against",
            )
        return None

    def _check_labels(self) -> None:
        """Refuse a class that the model does not know, where labels are there before samples."""
        labels: Sequence[int] | None = getattr(self.source, "labels", None)
        if labels is None or not self.has_classes:
            return
        classes = self._model.outputs[0].element_count
        for index, label in enumerate(labels[: self.count]):
            if label >= classes:
                sample = next(self.read(index, index + 1))
                raise InputError(
                    f"{sample.name} has the label {label}, but {self._model.name} knows the "
                    f"classes 0 to {classes - 1}",
                    where=self.name,
                    hint="give labels of this model that count from 0, or shift them: "
                    "droidmace.dataset.label_offset",
                )

    def _check_gates(self, gates: Mapping[str, float], labelled: bool, missing: str) -> None:
        """Refuse what cannot be judged. Raises ``InputError``.

        ``missing``: why there is no reference, if it is not that nobody wanted one.
        """
        if not (labelled or self.compares or self.plugin is not None):
            raise InputError(
                "there are no labels, and nothing to hold the outputs against"
                + (f": {missing}" if missing else ""),
                where=self.name,
                hint=f"give labels, or --against {CPU}, {ONNXRUNTIME} or a file of outputs",
            )
        for gate in gates:
            if gate in COMPARING_GATES and not self.compares:
                raise InputError(
                    f"the gate {gate} needs something to hold the outputs against",
                    where=self.name,
                    hint=f"give --against {CPU}, {ONNXRUNTIME} or a file of outputs, or take the "
                    "gate out of droidmace.validate.gates",
                )
            if gate == "agreement" and not self.has_classes:
                raise InputError(
                    "the gate agreement needs a model whose only output tells the classes",
                    where=self.name,
                    hint="take it out of droidmace.validate.gates: cosine and sqnr_db are for any",
                )
            classes = self._model.outputs[0].element_count
            if gate == "top5" and classes <= TOP:
                raise InputError(
                    f"the gate top5 needs more than {TOP} classes, and there are {classes}",
                    where=self.name,
                    hint="take it out of droidmace.validate.gates",
                )
            if gate in LABEL_GATES and not (labelled and self.has_classes):
                why = "one output" if labelled else "labels"
                raise InputError(
                    f"the gate {gate} needs {why}",
                    where=self.name,
                    hint="give labels (droidmace.dataset.labels, or --labels) to a model of one "
                    "output, or take the gate out of droidmace.validate.gates",
                )

    def _told(self, labelled: bool) -> tuple[str, ...]:
        """What of the samples a reader of the result should know."""
        told: tuple[str, ...] = ()
        excluded = getattr(self.source, "excluded", 0)
        if excluded:
            told += (f"the blacklist leaves out {excluded:,} more samples",)
        outputs = len(self._model.outputs)
        if labelled and not self.has_classes:
            told += (
                f"labels are not used: {self._model.name} has {outputs} outputs, and which of "
                "them tells the classes is not known",
            )
        elif self.has_classes and not labelled and self.plugin is None:
            told += (
                "the first sample has no label, and Top-1 is of those that have one: give labels "
                "in droidmace.dataset.labels, or with --dataset and --labels",
            )
        return told

    @property
    def name(self) -> str:
        """What the user would call the data set."""
        dataset = self._dataset
        path = dataset.images or dataset.arrays or dataset.plugin
        return str(path) if path is not None else str(dataset.entry_point)

    @property
    def trouble(self) -> str:
        """What is wrong with the cache of reference outputs, if anything is."""
        return self._cache.trouble if self._cache is not None else ""

    @property
    def plugin(self) -> AccuracyPlugin | None:
        """MACE's AccuracyValidator, if that is where the samples come from."""
        return self.source if isinstance(self.source, AccuracyPlugin) else None

    @property
    def input_bytes(self) -> int:
        """One sample's inputs."""
        return sum(tensor.element_count * _VALUE_BYTES for tensor in self._model.inputs)

    @property
    def output_bytes(self) -> int:
        """One sample's outputs."""
        return sum(tensor.element_count * _VALUE_BYTES for tensor in self._model.outputs)

    def read(self, begin: int, end: int) -> Iterator[Sample]:
        """Prepared samples ``begin`` to ``end``, in order."""
        return prepared(
            self.source, self._preprocess, self._model.inputs, begin, end, workers=_workers()
        )

    def first_inputs(self, invocation: Invocation) -> dict[str, bytes]:
        """What a single run reads: the first sample, by path on the phone."""
        return {
            path: input_bytes(self.first.inputs[tensor.name])
            for path, tensor in invocation.input_paths().items()
        }

    @property
    def identity(self) -> dict[str, str]:
        """What the phone's outputs depend on, as far as it is known here."""
        files = self.model_files
        shipped = {}
        if self.shipped is not None:
            paths = {"program": self.shipped.program, "parameters": self.shipped.parameters}
            shipped = {
                name: sha256_of_file(path) for name, path in paths.items() if path is not None
            }
        return {
            **shipped,
            "graph": sha256_of_file(files.graph),
            "weights": sha256_of_file(files.data),
            "samples": self.source.identity,
            "preprocessing": hashlib.sha256(repr(self._preprocess).encode()).hexdigest(),
            # Names, shapes and formats: another order of a tensor's values is another result.
            "tensors": hashlib.sha256(repr(self._tensors()).encode()).hexdigest(),
        }

    def _tensors(self) -> list[tuple[object, ...]]:
        """What mace_run is told of the model's inputs and outputs."""
        return [
            (tensor.name, tuple(tensor.shape), str(tensor.data_type), str(tensor.data_format))
            for tensor in (*self._model.inputs, *self._model.outputs)
        ]

    def _counted(self, limit: int | None) -> int:
        there = self.source.count
        if there == 0:
            raise InputError(
                "there is no sample", where=self.name, hint="give a data set with some"
            )
        wanted = limit if limit is not None else self._dataset.limit
        if wanted is not None and wanted > there:
            said = "--limit" if limit is not None else "droidmace.dataset.limit"
            raise InputError(
                f"{wanted} samples are asked for, there are {there}",
                where=self.name,
                hint=f"lower {said}, or leave it out",
            )
        return there if wanted is None else wanted


def _dataset(request: ValidateRequest) -> DatasetConfig:
    """The data set that is meant."""
    deployment = request.phone.deployment
    if request.dataset is not None:
        return request.dataset
    if deployment.dataset is not None:
        return deployment.dataset
    if request.model.accuracy_validation_script is not None:
        return DatasetConfig(plugin=request.model.accuracy_validation_script)
    raise ConfigError(
        "droidmace.dataset: it names no samples",
        where=str(deployment.path),
        hint="name a data set there, or give --dataset PATH",
    )


def _is_vector(shape: Sequence[int]) -> bool:
    """Whether an output is one list of values, as a classifier's is: (1, n), (1, 1, 1, n), …"""
    return sum(size > 1 for size in shape) == 1


def _workers() -> int:
    return min(8, os.cpu_count() or 1)
