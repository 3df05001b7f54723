"""A wrong op in other ways: does its error go away with one of them?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from droidmace.errors import MaceRunError
from droidmace.formats.netdef import DeviceType, MemoryType, MultiNetDef
from droidmace.graphs.parts import Part
from droidmace.graphs.variants import (
    in_memory,
    is_half,
    memory_type,
    packed,
    uses_winograd,
    without_winograd,
)
from droidmace.results.bisect import OpComparison, Suspect, TensorError
from droidmace.validation.bisection import run_limit
from droidmace.validation.tensor_error import HALF_SMALLEST, Array, Limits, op_limits
from droidmace.workflows.bisect_runs import PartRunner
from droidmace.workflows.bisect_verdict import FP32, NO_WINOGRAD, ROUNDED, worst_of

_OTHER_MEMORY = {
    MemoryType.GPU_IMAGE: (MemoryType.GPU_BUFFER, "in buffers"),
    MemoryType.GPU_BUFFER: (MemoryType.GPU_IMAGE, "in images"),
}


@dataclass(frozen=True, slots=True)
class Suspects:
    """What it takes to try them. ``weights``: the content of the whole model's ``.data`` file."""

    runner: PartRunner
    weights: bytes | memoryview
    inputs: Mapping[str, bytes]
    """The model's, as files."""
    cpu: Mapping[str, Array]
    """The CPU's tensors, by the whole net's names."""
    error: Callable[[str, Array, Limits], TensorError]
    """A tensor of the GPU, by its name, against the CPU's."""

    @property
    def _half(self) -> bool:
        return is_half(self.runner.desk.dissection.net)

    @property
    def _run_limit(self) -> int:
        return run_limit(len(self.runner.desk.dissection.net.ops))

    @property
    def _runs_left(self) -> int:
        return self._run_limit - len(self.runner.runs)

    def of(self, culprit: OpComparison, part: Part) -> Iterable[Suspect]:
        """The culprit, alone in ``part``, in other ways, as long as runs are left."""
        net = self.runner.desk.dissection.net
        ways: list[tuple[str, MultiNetDef, bool]] = []
        if self._half:
            ways.append((FP32, part.model, True))
        if uses_winograd(net.ops[culprit.index]):
            ways.append((NO_WINOGRAD, without_winograd(part.model), False))
        memory, memory_name = _OTHER_MEMORY[memory_type(net)]
        ways.append((memory_name, in_memory(part.model, memory), False))
        right_in_float32 = False
        for name, model, float32 in ways:
            if name == memory_name and right_in_float32 and not culprit.error.lost:
                yield self._rounded(part)
            if self._runs_left < 1:
                yield self._not_tried(name)
                continue
            tried = self._tried(name, culprit, part, model, float32=float32)
            right_in_float32 |= float32 and tried.right
            yield tried

    def _not_tried(self, name: str) -> Suspect:
        return Suspect(name, False, None, f"no run is left of {self._run_limit}")

    def _rounded(self, part: Part) -> Suspect:
        """What the rounding of the inputs alone makes of the op: its error is one of the net's."""
        if self._runs_left < 1:
            return self._not_tried(ROUNDED)
        fed = {}
        for name in part.inputs:
            content = self.inputs.get(name)
            if name in self.cpu:
                values = self.cpu[name]
            elif content is not None and name in self._float_inputs():
                values = np.frombuffer(content, "<f4")
            else:
                fed[name] = content or b""
                continue
            with np.errstate(over="ignore"):
                rounded = values.astype(np.float16).astype("<f4")
            rounded[np.abs(rounded) < HALF_SMALLEST] = 0.0
            fed[name] = rounded.tobytes()
        found = self.runner.part(part, DeviceType.CPU, ROUNDED, inputs=fed)
        limits = op_limits(half=True)
        errors = [self.error(one, found[one], limits) for one in part.outputs]
        worst = worst_of(errors, limits)
        return Suspect(ROUNDED, not limits.exceeded(worst), worst)

    def _float_inputs(self) -> set[str]:
        model = self.runner.desk.model
        return {spec.name for spec in model.inputs if spec.data_type == "float32"}

    def _tried(
        self, name: str, culprit: OpComparison, part: Part, model: MultiNetDef, *, float32: bool
    ) -> Suspect:
        changed, weights = packed(model, self.weights, float32=float32)
        variant = Part(changed, part.inputs, part.outputs)
        try:
            found = self.runner.part(variant, DeviceType.GPU, f"{name}", weights=weights)
        except MaceRunError as error:
            return Suspect(name, False, None, error.message)
        if culprit.name in self.runner.on_cpu:
            return Suspect(name, False, None, "MACE runs the op on the CPU then")
        limits = op_limits(half=self._half and not float32)
        errors = [self.error(one, found[one], limits) for one in part.outputs]
        worst = worst_of(errors, limits)
        return Suspect(name, not limits.exceeded(worst), worst)
